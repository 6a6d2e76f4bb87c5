"""tools/dataset/predictions_to_coco.py: both formats, thresholds, errors."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from multitask_runtime.io.results import PredictionsFile
from tools.dataset import check_coco, predictions_to_coco

BOX = [10.0, 10.0, 20.0, 30.0]
# The last has a low score, the one before it is outside of the image.
POINTS = [[12.0, 12.0, 0.9], [20.125, 30.0, 0.3], [70.0, 20.0, 0.8], [15.0, 35.0, 0.29]]
EXPECTED = [12, 12, 2, 20.12, 30, 2, 0, 0, 0, 0, 0, 0]


def _rle():
    mask = np.zeros((48, 64), np.uint8, order='F')
    mask[10:40, 10:30] = 1
    rle = coco_mask.encode(mask)
    return dict(size=[48, 64], counts=rle['counts'].decode())


def _of_a_test(tmp_path, tasks=('bbox', 'segm', 'keypoints'), **change):
    """Two images; the first has instances of score 0.9 and 0.2."""
    values = dict(
        bbox=dict(bbox=BOX),
        segm=dict(segmentation=_rle()),
        keypoints=dict(keypoints=np.ravel(POINTS).tolist()),
    )
    # The keypoint task has scores of its own.
    lower = dict(bbox=1.0, segm=1.0, keypoints=0.5)
    images = [
        dict(
            image_id=number,
            file_name=f'{number}.png',
            **{
                task: [
                    dict(values[task], image_id=number, category_id=3, score=score * lower[task])
                    for score in scores
                ]
                for task in tasks
            },
        )
        for number, scores in ((5, (0.9, 0.2)), (6, ()))
    ]
    for number in (5, 6):
        Image.new('RGB', (64, 48)).save(tmp_path / f'{number}.png')
    content = dict(
        format='multitask_refine predictions',
        version=1,
        run=None,
        metrics={},
        tasks=list(tasks),
        image_folder=str(tmp_path),
        annotations=dict(file='gt.json', sha256='0'),
        categories=dict(ids=[3], names=['person']),
        joints=dict(
            names=list('abcd'),
            sigmas=[0.1] * 4,
            mirror=[0, 2, 1, 3],
            colors=[[0, 0, 0]] * 4,
            skeleton=[[0, 1], [1, 2]],
            skeleton_colors=[[0, 0, 0]] * 2,
        ),
        images=images,
        **change,
    )
    path = tmp_path / 'predictions.json'
    path.write_text(json.dumps(content))
    return path


def _of_a_demo(tmp_path, **frame):
    """The same two instances, as the demos write them."""
    path = tmp_path / 'predictions.json'
    file = PredictionsFile(
        path,
        dict(
            classes=['person'],
            keypoint_id2name=dict(enumerate('abcd')),
            skeleton_links=[(0, 1), (1, 2)],
        ),
    )
    points = np.array([POINTS, POINTS])
    file.write(
        '5.png',
        dict(
            width=64,
            height=48,
            labels=np.array([0, 0]),
            masks=[_rle(), _rle()],
            bboxes=np.array([[10, 10, 30, 40]] * 2),
            scores=np.array([0.9, 0.2]),
            keypoints=points[..., :2] + 0.5,
            keypoint_scores=points[..., 2],
            **frame,
        ),
    )
    file.close()
    return path


def _convert(path, *options):
    out = path.with_name('out.json')
    out.unlink(missing_ok=True)
    assert predictions_to_coco.main([str(path), str(out), *options]) == 0
    assert check_coco.main([str(out)]) == 0
    return json.loads(out.read_text())


@pytest.mark.parametrize('source', [_of_a_test, _of_a_demo])
def test_instances_and_keypoints_above_the_thresholds_are_kept(source, tmp_path, capsys):
    content = _convert(source(tmp_path))
    (person,) = content['annotations']
    assert person['bbox'] == BOX and person['score'] == 0.9
    assert person['segmentation'] == _rle() and person['area'] == 600
    assert person['keypoints'] == EXPECTED and person['num_keypoints'] == 2
    assert person['iscrowd'] == 0 and person['id'] == 1
    image = content['images'][0]
    assert (image['file_name'], image['width'], image['height']) == ('5.png', 64, 48)
    assert image['id'] == person['image_id']
    (category,) = content['categories']
    assert category['keypoints'] == list('abcd')
    assert category['skeleton'] == [[1, 2], [2, 3]]
    # The keypoint outside of the image is reported.
    said = capsys.readouterr().out
    assert 'keypoint_outside' in said and '1 of 2 predictions' in said


def test_thresholds(tmp_path):
    path = _of_a_test(tmp_path)
    assert len(_convert(path, '--score', '0.1')['annotations']) == 2
    assert _convert(path, '--score', '0.95')['annotations'] == []
    (person,) = _convert(path, '--visibility', '0.5')['annotations']
    assert person['keypoints'] == EXPECTED[:3] + [0] * 9


def test_sizes_without_masks_are_measured(tmp_path):
    path = _of_a_test(tmp_path, ('bbox',))
    content = _convert(path)
    assert [(image['width'], image['height']) for image in content['images']] == [(64, 48)] * 2
    assert 'keypoints' not in content['categories'][0]
    assert content['annotations'][0]['area'] == 600
    with pytest.raises(SystemExit, match='image 5: expected an image'):
        predictions_to_coco.main(
            [str(path), str(tmp_path / 'new.json'), '--images', str(tmp_path / 'none')]
        )
    assert not (tmp_path / 'new.json').exists()


def test_other_files_exit_with_an_error(tmp_path):
    new = str(tmp_path / 'new.json')

    def fails(path, words):
        with pytest.raises(SystemExit, match=words) as end:
            predictions_to_coco.main([str(path), new])
        assert str(path) in str(end.value)

    fails(_of_a_test(tmp_path, ('segm',)), 'tasks: expected "bbox"')
    path = _of_a_test(tmp_path)
    content = json.loads(path.read_text())
    for names in (None, []):
        content['categories']['names'] = names
        path.write_text(json.dumps(content))
        fails(path, 'categories.names: expected')
    fails(_of_a_demo(tmp_path, frame=3), 'frames of a video')
    truth = tmp_path / 'truth.json'
    truth.write_text(json.dumps(dict(images=[], categories=[], annotations=[dict(id=1)])))
    fails(truth, r'annotations\[0\].score: expected a number')
    truth.write_text('[]')
    fails(truth, 'expected an object')
    fails(tmp_path / 'nothing.json', 'cannot be read')
    path = _of_a_test(tmp_path)
    for options in ([str(path), str(path)], [str(path), 'none/out.json']):
        with pytest.raises(SystemExit) as end:
            predictions_to_coco.main(options)
        assert end.value.code == 2
