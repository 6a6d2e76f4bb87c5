import json
import math
import re
import zipfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from multitask_refine.datasets import CocoMultitaskDataset
from multitask_refine.evaluation import MultitaskCocoMetric, check_submission, format_table


def _ground_truth(tmp_path, keypoints_of=lambda i: np.full((3, 2), 60)):
    """Two images of 400 x 300, each with a person of 100 x 100 pixels."""
    annotations = []
    for i in (0, 1):
        mask = np.zeros((300, 400), np.uint8, order='F')
        mask[50:150, 20:120] = 1
        rle = mask_api.encode(mask)
        keypoints = np.concatenate([keypoints_of(i), np.full((3, 1), 2)], 1)
        annotations.append(
            dict(
                id=i + 1,
                image_id=i,
                category_id=1,
                iscrowd=0,
                bbox=[20, 50, 100, 100],
                area=10000,
                segmentation=dict(rle, counts=rle['counts'].decode()),
                keypoints=keypoints.flatten().tolist(),
                num_keypoints=3,
            )
        )
    path = tmp_path / 'gt.json'
    path.write_text(
        json.dumps(
            dict(
                images=[dict(id=i, height=300, width=400) for i in (0, 1)],
                annotations=annotations,
                categories=[dict(id=1, name='person')],
            )
        )
    )
    return str(path)


def _evaluate(path, predictions, sigma=0.05, **kwargs):
    metric = MultitaskCocoMetric(path, **kwargs)
    metric.dataset_meta = dict(classes=('person',), sigmas=[sigma] * 3)
    for i, prediction in enumerate(predictions):
        metric.process({}, [dict(img_id=i, pred_instances=prediction)])
    return metric.evaluate(len(predictions))


def _prediction(shift=0, score=0.9, keypoint_score=1.0):
    """The person moved to the right by ``shift`` pixels."""
    masks = torch.zeros(1, 300, 400, dtype=torch.bool)
    masks[0, 50:150, 20 + shift : 120 + shift] = True
    return dict(
        bboxes=torch.tensor([[20.0 + shift, 50.0, 120.0 + shift, 150.0]]),
        scores=torch.tensor([score]),
        labels=torch.tensor([0]),
        masks=masks,
        # The file's pixel index 60 has its middle at 60.5.
        keypoints=torch.full((1, 3, 2), 60.5) + torch.tensor([shift, 0.0]),
        keypoint_scores=torch.full((1, 3), keypoint_score),
    )


def _join(*predictions):
    return {key: torch.cat([p[key] for p in predictions]) for key in predictions[0]}


def test_perfect_predictions_score_100(tmp_path):
    metrics = _evaluate(_ground_truth(tmp_path), [_prediction()] * 2)
    for task in ('bbox', 'segm', 'keypoints'):
        assert metrics[f'coco/{task}_AP'] == pytest.approx(100)
        assert metrics[f'coco/{task}_APL'] == pytest.approx(100)
        assert math.isnan(metrics[f'coco/{task}_APM'])


def test_each_keypoint_scores_by_its_own_oks(tmp_path):
    """Off by 0, 10 and 1000 pixels: OKS is exp(-d^2 / 200) for a person of
    100 x 100 pixels and sigma 0.05, so 1, 0.607 and 0. Together 0.536."""
    moved = _prediction()
    moved['keypoints'][0, 1, 0] += 10
    moved['keypoints'][0, 2, 0] += 1000
    metrics, table = _detailed(_ground_truth(tmp_path), [moved] * 2, keypointwise=True)
    assert [metrics[f'coco/keypoints_AP_{name}'] for name in 'abc'] == (
        pytest.approx([100, 30, 0])
    )
    assert metrics['coco/keypoints_AP'] == pytest.approx(10)
    assert re.search(
        r'keypoint *[|] *keypoints_AP.*\n.*\n.*a *[|] *100.00 '
        r'.*\n.*b *[|] *30.00 ',
        table,
    )
    assert 'class' not in table


def test_person_without_the_keypoint_does_not_count(tmp_path):
    """The second image's person lacks it; what is found there is no
    mistake."""
    path = _ground_truth(tmp_path)
    content = json.loads(Path(path).read_text())
    content['annotations'][1]['keypoints'][2] = 0
    Path(path).write_text(json.dumps(content))
    wrong = _prediction()
    wrong['keypoints'][0, 0, 0] -= 30
    metrics, _ = _detailed(path, [_prediction(), wrong], keypointwise=True)
    assert metrics['coco/keypoints_AP_a'] == pytest.approx(100)


@pytest.mark.parametrize('name', ['keypoint_shift', 'joint_shift'])  # joint_shift: formerly
def test_keypoints_in_the_coordinates_of_the_file(tmp_path, name):
    prediction = _prediction()
    prediction['keypoints'] -= 0.5  # 60, as the file has it
    path, strict = _ground_truth(tmp_path), dict(sigma=0.002, tasks=['keypoints'])
    metrics = _evaluate(path, [prediction] * 2, **strict, **{name: 0.0})
    assert metrics['coco/keypoints_AP'] == pytest.approx(100)
    assert _evaluate(path, [prediction] * 2, **strict)['coco/keypoints_AP'] < 50


def test_each_class_scores_alone(tmp_path):
    """The second class's box overlaps by 77 / 123 = 0.626: it passes 0.5,
    0.55 and 0.6 of ten thresholds."""
    path = _ground_truth(tmp_path)
    content = json.loads(Path(path).read_text())
    content['annotations'][1]['category_id'] = 7
    content['categories'].append(dict(id=7, name='dog'))
    Path(path).write_text(json.dumps(content))
    dog = dict(_prediction(shift=23), labels=torch.tensor([1]))
    metrics, table = _detailed(
        path, [_prediction(), dog], classes=('person', 'dog'), tasks=['bbox'], classwise=True
    )
    assert metrics['coco/bbox_AP_person'] == pytest.approx(100)
    assert metrics['coco/bbox_AP_dog'] == pytest.approx(30)
    assert metrics['coco/bbox_AP'] == pytest.approx(65)
    assert re.search(
        r'class *[|] *bbox_AP.*\n.*\n.*person *[|] *100.00 '
        r'.*\n.*dog *[|] *30.00 ',
        table,
    )


def _detailed(path, predictions, classes=('person',), **kwargs):
    """The metrics, and what the log says of them."""
    metric = MultitaskCocoMetric(path, **kwargs)
    metric.dataset_meta = dict(
        classes=classes, sigmas=[0.05] * 3, keypoint_id2name=dict(enumerate('abc'))
    )
    for i, prediction in enumerate(predictions):
        metric.process({}, [dict(img_id=i, pred_instances=prediction)])
    with patch.object(MMLogger.get_current_instance(), 'info') as log:
        metrics = metric.evaluate(len(predictions))
    return metrics, log.call_args.args[0]


def test_moved_boxes_and_masks_score_what_their_iou_says(tmp_path):
    """Moved by 23 of 100 pixels: IoU 77 / 123 = 0.626, which passes the
    thresholds 0.5, 0.55 and 0.6 of ten."""
    metrics = _evaluate(_ground_truth(tmp_path), [_prediction(23)] * 2)
    for task in ('bbox', 'segm'):
        assert metrics[f'coco/{task}_AP'] == pytest.approx(30)
        assert metrics[f'coco/{task}_AP50'] == pytest.approx(100)
        assert metrics[f'coco/{task}_AP75'] == pytest.approx(0)


def test_moved_keypoints_score_what_their_oks_says(tmp_path):
    """OKS = exp(-d^2 / (2 area (2 sigma)^2)): with d = 10, area = 10000 and
    sigma = 0.05 that is exp(-0.5) = 0.607, three thresholds of ten; with
    sigma = 0.1 it is exp(-0.125) = 0.882, eight of ten."""
    path = _ground_truth(tmp_path)
    metrics = _evaluate(path, [_prediction(10)] * 2, sigma=0.05)
    assert metrics['coco/keypoints_AP'] == pytest.approx(30)
    metrics = _evaluate(path, [_prediction(10)] * 2, sigma=0.1)
    assert metrics['coco/keypoints_AP'] == pytest.approx(80)


def test_missing_half_of_the_people(tmp_path):
    """Recall stops at 1/2: precision 1 at 51 of COCO's 101 recalls."""
    empty = {key: value[:0] for key, value in _prediction().items()}
    metrics = _evaluate(_ground_truth(tmp_path), [_prediction(), empty])
    for task in ('bbox', 'segm', 'keypoints'):
        assert metrics[f'coco/{task}_AP'] == pytest.approx(100 * 51 / 101)


def test_images_that_were_not_tested_do_not_count(tmp_path):
    metrics = _evaluate(_ground_truth(tmp_path), [_prediction()])
    assert metrics['coco/bbox_AP'] == pytest.approx(100)
    assert metrics['coco/keypoints_AP'] == pytest.approx(100)


def test_no_prediction_at_all_scores_0(tmp_path):
    empty = {key: value[:0] for key, value in _prediction().items()}
    metrics = _evaluate(_ground_truth(tmp_path), [empty, empty])
    assert metrics['coco/bbox_AP'] == metrics['coco/keypoints_AP'] == 0


@pytest.mark.parametrize('ranking, expected', [('bbox', 50), ('bbox_keypoint', 100)])
def test_ranking_of_keypoints(tmp_path, ranking, expected):
    """A wrong pose on a sure box with unsure keypoints: it comes first by the
    box score (precision 1/2 at every recall) and last by the product."""
    wrong = _prediction(200, score=0.99, keypoint_score=0.1)
    right = _prediction(0, score=0.8, keypoint_score=0.9)
    metrics = _evaluate(
        _ground_truth(tmp_path), [_join(wrong, right)] * 2, keypoint_ranking=ranking
    )
    assert metrics['coco/keypoints_AP'] == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize('folder', ['scene', 'tiny_coco'])
def test_annotations_fed_back_score_100(folder, request):
    """Through the loader, so that its coordinates and the metric's agree:
    polygons, RLE, crowds, people without keypoints; drawn and real."""
    root = request.getfixturevalue(folder)
    ann_file = root / 'annotations/person_keypoints_val2017.json'
    dataset = CocoMultitaskDataset(
        ann_file=str(ann_file),
        data_prefix=dict(img=str(root / 'val2017')),
        test_mode=True,
        pipeline=[
            dict(type='CheckedLoadImageFromFile'),
            dict(type='LoadMultitaskAnnotations'),
            dict(type='PackMultitaskInputs'),
        ],
    )
    metric = MultitaskCocoMetric(str(ann_file))
    metric.dataset_meta = dataset.metainfo
    for i in range(len(dataset)):
        metric.process({}, [_as_prediction(dataset[i]['data_samples'])])
    metrics = metric.evaluate(len(dataset))
    for task in ('bbox', 'segm', 'keypoints'):
        assert metrics[f'coco/{task}_AP'] == pytest.approx(100)


def _as_prediction(sample):
    gt = sample.gt_instances
    labeled = (gt.keypoints_visible > 0).any(-1, keepdim=True)
    return dict(
        img_id=sample.img_id,
        pred_instances=dict(
            bboxes=gt.bboxes.tensor,
            labels=gt.labels,
            scores=torch.ones(len(gt)),
            masks=torch.from_numpy(gt.masks.to_ndarray().astype(bool)),
            keypoints=gt.keypoints,
            # People whose keypoints nobody labeled come last.
            keypoint_scores=labeled.float().expand(-1, 17),
        ),
    )


def _read(folder, name):
    """Read a zip file as COCO's server does."""
    with zipfile.ZipFile(folder / f'{name}.zip') as file:
        assert file.namelist() == [f'{name}.json']
        return json.loads(file.read(f'{name}.json'))


def test_files_for_the_server_score_as_the_metric_says(tmp_path):
    """23 pixels off: mask IoU 77 / 123 as above; of the keypoints, moved by 10,
    the OKS is exp(-0.5). The file is scored by pycocotools alone."""
    path = _ground_truth(tmp_path)
    moved = dict(_prediction(10), masks=_prediction(23)['masks'])
    prefix = str(tmp_path / 'out/our-net')
    metrics = _evaluate(path, [moved] * 2, format_only=True, outfile_prefix=prefix)
    assert metrics == {}
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == [
        f'{kind}_gt_our-net_results.{end}'
        for kind in ('detections', 'person_keypoints')
        for end in ('json', 'zip')
    ]
    for task, kind in (('segm', 'detections'), ('keypoints', 'person_keypoints')):
        results = _read(tmp_path / 'out', f'{kind}_gt_our-net_results')
        coco = COCO(path)
        scores = COCOeval(coco, coco.loadRes(results), task)
        scores.params.kpt_oks_sigmas = np.array([0.05] * 3)
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
        assert scores.stats[0] == pytest.approx(0.3)


def test_fields_for_the_server(tmp_path):
    """COCO's fields, keypoints by pixel index, all visible, to 1/100 pixel."""
    prediction = _prediction()
    prediction['keypoints'] += torch.tensor([1 / 3, 0])
    _evaluate(
        _ground_truth(tmp_path),
        [prediction] * 2,
        format_only=True,
        outfile_prefix=str(tmp_path / 'net'),
        keypoint_ranking='bbox',
    )
    first, second = _read(tmp_path, 'person_keypoints_gt_net_results')
    assert first.pop('keypoints') == [60.33, 60, 1] * 3
    assert first.pop('score') == pytest.approx(0.9)
    assert first == dict(image_id=0, category_id=1)
    assert second['image_id'] == 1
    first, _ = _read(tmp_path, 'detections_gt_net_results')
    assert set(first) == {'image_id', 'category_id', 'score', 'segmentation'}
    mask = mask_api.decode(first['segmentation']).astype(bool)
    assert (mask == prediction['masks'][0].numpy()).all()


def _without_truth(path):
    """The shape of image_info_test-dev2017.json: no annotations, and COCO's
    80 categories in another order than by id."""
    content = json.loads(Path(path).read_text())
    del content['annotations']
    content['categories'] = [
        dict(id=i, name='person' if i == 1 else f'thing {i}') for i in range(80, 0, -1)
    ]
    out = path.replace('gt.json', 'image_info_test-dev2017.json')
    with open(out, 'w') as file:
        json.dump(content, file)
    return out


def test_without_ground_truth_files_are_written_and_nothing_is_scored(tmp_path):
    path = _without_truth(_ground_truth(tmp_path))
    empty = {key: value[:0] for key, value in _prediction().items()}
    with pytest.raises(ValueError, match='--format-only'):
        _evaluate(path, [_prediction(), empty])
    _evaluate(path, [_prediction(), empty], format_only=True, outfile_prefix=str(tmp_path / 'net'))
    (result,) = _read(tmp_path, 'detections_test-dev2017_net_results')
    assert (result['image_id'], result['category_id']) == (0, 1)


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(image_id=7), 'image 7'),
        (dict(category_id=2), 'category 2'),
        (dict(score=float('nan')), 'score nan'),
        (dict(keypoints=[1, 2]), '2 numbers'),
        (dict(keypoints=[1, float('inf'), 1]), 'not finite'),
        (dict(bbox=[1, 2, 3, 4]), 'fields'),
        (None, 'expected 1 results, found 0'),
    ],
)
def test_a_file_that_the_server_would_refuse_is_found(tmp_path, change, words):
    images = COCO(_ground_truth(tmp_path))
    result = dict(image_id=0, category_id=1, score=1.0, keypoints=[1, 2, 1])
    content = [] if change is None else [{**result, **change}]
    archive = tmp_path / 'x.zip'
    with zipfile.ZipFile(archive, 'w') as file:
        file.writestr('x.json', json.dumps(content))
    with pytest.raises(ValueError, match=words):
        check_submission(archive, 'keypoints', 1, images)


def test_a_mask_of_another_size_and_another_file_name_are_found(tmp_path):
    images = COCO(_ground_truth(tmp_path))
    mask = mask_api.encode(np.ones((4, 3), np.uint8, order='F'))
    mask['counts'] = mask['counts'].decode()
    result = dict(image_id=0, category_id=1, score=1.0, segmentation=mask)
    archive = tmp_path / 'x.zip'
    for name, words in (('x.json', r'mask of \[4, 3\]'), ('a/x.json', 'a/x')):
        with zipfile.ZipFile(archive, 'w') as file:
            file.writestr(name, json.dumps([result]))
        with pytest.raises(ValueError, match=words):
            check_submission(archive, 'segm', 1, images)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match='outfile_prefix'):
        MultitaskCocoMetric('x.json', format_only=True)
    with pytest.raises(ValueError, match='neither'):
        MultitaskCocoMetric('x.json', ['bbox'], format_only=True, outfile_prefix='a/b')
    with pytest.raises(ValueError, match='boxes'):
        MultitaskCocoMetric('x.json', tasks=['boxes'])
    with pytest.raises(ValueError, match='random'):
        MultitaskCocoMetric('x.json', keypoint_ranking='random')


def test_table_shows_what_there_is():
    table = format_table({'bbox_AP': 12.345, 'bbox_APS': float('nan'), 'keypoints_AP': 50.0})
    lines = [[cell.strip() for cell in line.split('|')[1:-1]] for line in table.splitlines()]
    assert lines[0] == ['', 'AP', 'AP50', 'AP75', 'APS', 'APM', 'APL']
    assert lines[2] == ['boxes', '12.35', '-', '-', '-', '-', '-']
    assert lines[3][:2] == ['keypoints', '50.00']
    assert len(lines) == 4
