"""Metrics of the predicted visibility, on people made by hand."""

import json
import zipfile

import numpy as np
import pytest
import torch

from multitask_refine.evaluation import MultitaskCocoMetric, evaluate_visibility, read_predictions
from multitask_refine.evaluation.coco_scores import CocoData, build_coco
from multitask_refine.utils.errors import ConfigError

META = dict(
    classes=('person',),
    sigmas=[0.05] * 3,
    num_keypoints=3,
    keypoint_id2name={0: 'a', 1: 'b', 2: 'c'},
    flip_indices=[0, 1, 2],
    keypoint_colors=np.zeros((3, 3)),
    skeleton_links=[],
    skeleton_link_colors=np.zeros((0, 3)),
)
POINTS = np.array([[30, 60], [60, 60], [60, 90]])


def person(id, visible, left=0):
    keypoints = np.column_stack([POINTS + [left, 0], visible])
    return dict(
        id=id,
        image_id=1,
        category_id=1,
        iscrowd=0,
        bbox=[20 + left, 50, 100, 100],
        area=10000,
        keypoints=keypoints.flatten().tolist(),
        num_keypoints=sum(v > 0 for v in visible),
    )


def detection(probs, left=0, score=0.9):
    keypoints = np.column_stack([POINTS + [left, 0], np.ones(3)])
    return dict(
        image_id=1,
        category_id=1,
        score=score,
        keypoints=keypoints.flatten().tolist(),
        keypoints_visible_probs=probs,
    )


def data(people, detections):
    truth = build_coco(
        dict(
            images=[dict(id=1, height=300, width=2000)],
            annotations=people,
            categories=[dict(id=1, name='person')],
        )
    )
    return CocoData(truth, dict(keypoints=detections), META['sigmas'], [1], [1])


# Right with 0.8, 0.6 and 0.7; for the second person once more right, wrong with 0.5, right.
FIRST = [[0.1, 0.1, 0.8], [0.2, 0.6, 0.2], [0.7, 0.2, 0.1]]
SECOND = [[0.1, 0.3, 0.6], [0.3, 0.2, 0.5], [0.9, 0.1, 0.0]]


def test_visibility_by_hand():
    """Visible and absent keypoints rank before all others. The occluded ones have 0.6, the first
    rank, and 0.2, which two have behind a visible one with 0.3. A third person is not detected, a
    detection belongs to nobody."""
    people = [person(1, [2, 1, 0]), person(2, [2, 1, 0], 500), person(3, [2, 2, 2], 1000)]
    found = evaluate_visibility(
        [data(people, [detection(FIRST), detection(SECOND, 500), detection(SECOND, 1500)])]
    )
    assert found.num_keypoints == 6
    assert found.shares == pytest.approx(dict(absent=100 / 3, occluded=100 / 3, visible=100 / 3))
    expected = dict(AP_absent=100, AP_visible=100, AP_occluded=100 * (0.5 + 0.5 * 2 / 4))
    assert {name: found.metrics[name] for name in expected} == pytest.approx(expected)
    assert found.metrics['AP'] == pytest.approx(sum(expected.values()) / 3)
    assert found.metrics['accuracy'] == pytest.approx(100 * 5 / 6)
    # Bins by tenths: 0.5 wrong, two at 0.6 right, 0.7, 0.8 and 0.9 right.
    errors = [0.5, 0.4, 0.4, 0.3, 0.2, 0.1]
    assert found.metrics['ECE'] == pytest.approx(100 * sum(errors) / 6)


def test_keypoints_that_the_file_lacks_do_not_count():
    people, detections = [person(1, [2, 1, 0])], [detection(FIRST)]
    found = evaluate_visibility([data(people, detections)], unlabeled=[2])
    assert found.num_keypoints == 2 and found.shares['absent'] == 0
    assert np.isnan(found.metrics['AP_absent']) and found.metrics['AP'] == pytest.approx(100)


def test_nobody_is_matched():
    found = evaluate_visibility([data([person(1, [2, 2, 2])], [detection(FIRST, 900)])])
    assert found.num_keypoints == 0 and np.isnan(found.metrics['accuracy'])


@pytest.fixture
def ann_file(tmp_path):
    path = tmp_path / 'person_keypoints_test-dev2017.json'
    path.write_text(
        json.dumps(
            dict(
                images=[dict(id=1, height=300, width=400)],
                annotations=[person(1, [2, 1, 0])],
                categories=[dict(id=1, name='person')],
            )
        )
    )
    return str(path)


def run_metric(ann_file, fields=None, **options):
    metric = MultitaskCocoMetric(ann_file, **options)
    metric.dataset_meta = META
    prediction = dict(
        bboxes=torch.tensor([[20.0, 50.0, 120.0, 150.0]]),
        scores=torch.tensor([0.9]),
        labels=torch.tensor([0]),
        keypoints=torch.tensor(POINTS[None]) + 0.5,
        keypoint_scores=torch.ones(1, 3),
        keypoints_visible_probs=torch.tensor([FIRST]),
        keypoints_visible=torch.tensor([[2, 1, 0]]),
    )
    prediction.update(fields or {})
    metric.process({}, [dict(img_id=1, pred_instances=prediction)])
    return metric.evaluate(1)


def test_the_metric_and_the_predictions_file_have_it(ann_file, tmp_path):
    path = str(tmp_path / 'predictions.json')
    metrics = run_metric(ann_file, predictions_file=path)
    assert metrics['coco/visibility_AP'] == metrics['coco/visibility_accuracy'] == 100
    assert metrics['coco/visibility_ECE'] == pytest.approx(100 * (0.2 + 0.4 + 0.3) / 3)
    assert metrics['coco/keypoints_AP'] == pytest.approx(100)
    content = read_predictions(path)
    (entry,) = content['images'][0]['keypoints']
    np.testing.assert_allclose(entry['keypoints_visible_probs'], FIRST)


def test_ranking_by_predicted_oks(ann_file, tmp_path):
    path = str(tmp_path / 'predictions.json')
    run_metric(
        ann_file,
        dict(pose_scores=torch.tensor([0.5])),
        keypoint_ranking='bbox_oks',
        predictions_file=path,
    )
    (entry,) = read_predictions(path)['images'][0]['keypoints']
    assert entry['score'] == pytest.approx(0.45) and entry['pose_score'] == 0.5


def test_ranking_by_what_is_not_predicted(ann_file):
    with pytest.raises(ConfigError, match="keypoint_ranking='bbox_oks': .* predicts pose_scores"):
        run_metric(ann_file, keypoint_ranking='bbox_oks')
    with pytest.raises(ConfigError, match="mask_ranking: expected 'bbox' or 'bbox_iou', got 'x'"):
        run_metric(ann_file, mask_ranking='x')


def test_the_files_for_the_server_do_not(ann_file, tmp_path):
    run_metric(ann_file, format_only=True, outfile_prefix=f'{tmp_path}/name')
    with zipfile.ZipFile(next(tmp_path.glob('*.zip'))) as file:
        (entry,) = json.loads(file.read(file.namelist()[0]))
    assert sorted(entry) == ['category_id', 'image_id', 'keypoints', 'score']
