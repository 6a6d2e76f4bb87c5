"""COCO data set: parsing, transforms, and issues of annotations and images."""

import copy
import json
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks, PolygonMasks

from multitask_refine.datasets import AnnotationError, CocoMultitaskDataset, find_meta_file
from multitask_refine.datasets.validation import summary as startup
from multitask_refine.evaluation import MultitaskCocoMetric

LOAD = [dict(type='CheckedLoadImageFromFile'), dict(type='LoadMultitaskAnnotations')]
PACK = [dict(type='PackMultitaskInputs')]


def _dataset(folder, between=(), **kwargs):
    return CocoMultitaskDataset(
        ann_file='annotations/person_keypoints_train2017.json',
        data_root=str(folder),
        data_prefix=dict(img='train2017/'),
        pipeline=[*LOAD, *between, *PACK],
        **kwargs,
    )


def test_parse_boxes_masks_keypoints_and_crowd(scene):
    sample = _dataset(scene)[0]['data_samples']
    people, crowd = sample.gt_instances, sample.ignored_instances
    assert people.bboxes.tensor.tolist() == [[10, 10, 30, 40], [34, 5, 44, 25]]
    expected = np.zeros((2, 48, 64), bool)
    expected[0, 10:40, 10:30] = expected[1, 5:25, 34:44] = True
    assert (people.masks.to_ndarray().astype(bool) == expected).all()
    assert people.keypoints.shape == (2, 17, 2)
    # The file's pixel index 11 is the pixel from 11 to 12.
    assert people.keypoints[0, 0].tolist() == [11.5, 11.5]
    assert people.keypoints_visible[0, :4].tolist() == [2, 1, 0, 2]
    assert people.keypoints_visible[1].sum() == 0
    assert crowd.bboxes.tensor.tolist() == [[50, 0, 64, 48]]


def test_filter_empty_gt(scene):
    dataset = _dataset(scene, filter_cfg=dict(filter_empty_gt=False))
    counts = [len(dataset[i]['data_samples'].gt_instances) for i in range(3)]
    assert counts == [2, 0, 0]
    assert dataset[2]['data_samples'].gt_instances.keypoints.shape == (0, 17, 2)
    kept = _dataset(scene, filter_cfg=dict(filter_empty_gt=True))
    assert len(kept) == 2


def test_flip_swaps_left_and_right_keypoints(scene):
    flip = [dict(type='RandomFlip', prob=1.0)]
    plain = _dataset(scene)[0]['data_samples'].gt_instances
    flipped = _dataset(scene, flip)[0]['data_samples'].gt_instances
    # COCO: 1 is the left eye, 2 the right one.
    assert flipped.keypoints_visible[0, :3].tolist() == [2, 0, 1]
    assert flipped.keypoints[0, 2].tolist() == [
        64 - plain.keypoints[0, 1, 0].item(),
        plain.keypoints[0, 1, 1].item(),
    ]


@pytest.mark.parametrize(
    'transform',
    [
        dict(type='Resize', scale=(200, 96), keep_ratio=False),
        dict(type='Resize', scale=(40, 30), keep_ratio=True),
        dict(type='RandomFlip', prob=1.0, direction='horizontal'),
        dict(type='RandomFlip', prob=1.0, direction='diagonal'),
        dict(type='RandomCrop', crop_size=(40, 56), crop_type='absolute'),
        dict(type='Expand', prob=1.0),
        dict(type='Pad', size_divisor=32),
    ],
    ids=lambda t: t['type'],
)
def test_transforms_move_image_box_mask_and_keypoint_alike(transform):
    """A bright spot in the image stays at its keypoint."""
    np.random.seed(0)
    y, x = np.mgrid[:48, :64]
    spot = np.exp(-((x - 25) ** 2 + (y - 21) ** 2) / (2 * 2.5**2))
    image = np.repeat((200 * spot).astype(np.uint8)[..., None], 3, 2)
    ok, data = cv2.imencode('.png', image)
    results = _one_person(image.shape[:2])
    results = TRANSFORMS.build(LOAD[1]).transform(dict(results, img=cv2.imdecode(data, 1)))
    results = Compose([TRANSFORMS.build(transform)])(results)
    image = results['img'][..., 0].astype(float)
    image[image < 20] = 0
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    center = [(image * grid).sum() / image.sum() for grid in (columns, rows)]
    boxes = results['gt_bboxes']
    np.testing.assert_allclose(boxes.keypoints[0, 0], center, atol=0.1)
    mask = results['gt_masks'].to_ndarray()[0]
    ys, xs = np.nonzero(mask)
    tight = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    np.testing.assert_allclose(boxes.tensor[0], tight, atol=1.0)


def _one_person(shape):
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[0] = [25.5, 21.5, 2]
    return dict(
        height=shape[0],
        width=shape[1],
        img_shape=shape,
        ori_shape=shape,
        flip_indices=[0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15],
        instances=[
            dict(
                bbox=[16, 14, 36, 30],
                bbox_label=0,
                ignore_flag=0,
                mask=[[16, 14, 36, 14, 36, 30, 16, 30]],
                keypoints=keypoints,
            )
        ],
    )


def test_meta_file_with_another_number_of_keypoints(scene, tmp_path):
    path = scene / 'annotations/person_keypoints_train2017.json'
    content = json.loads(path.read_text())
    for ann in content['annotations']:
        ann['keypoints'] = ann['keypoints'][: 3 * 14]
    (tmp_path / 'crowdpose.json').write_text(json.dumps(content))
    dataset = CocoMultitaskDataset(
        ann_file=str(tmp_path / 'crowdpose.json'),
        data_prefix=dict(img=str(scene / 'train2017')),
        metainfo=dict(from_file='crowdpose.py'),
        pipeline=LOAD + PACK,
    )
    sample = dataset[0]['data_samples']
    assert sample.gt_instances.keypoints.shape == (2, 14, 2)
    assert len(dataset.metainfo['sigmas']) == 14


def test_wrong_number_of_keypoints_raises(scene):
    with pytest.raises(ValueError, match='annotation 1 has 51 numbers.*14'):
        _dataset(scene, metainfo=dict(from_file='crowdpose.py'))


def test_missing_category_raises(scene):
    with pytest.raises(ValueError, match='horse'):
        _dataset(scene, metainfo=dict(classes=('horse',)))


def test_missing_meta_file_raises():
    with pytest.raises(FileNotFoundError, match='nobody.py'):
        find_meta_file('nobody.py')


def test_keypoints_stay_with_their_box_in_a_crop(scene):
    """Only the second person is right of column 32."""
    dataset = _dataset(scene)
    results = dict(dataset.get_data_info(0))
    results = Compose([TRANSFORMS.build(t) for t in LOAD])(results)
    results['gt_bboxes'].keypoints[1] = 7.0
    boxes = results['gt_bboxes']
    boxes.translate_((-32, 0))
    boxes.clip_((48, 32))
    kept = boxes[boxes.is_inside((48, 32)).numpy()]
    assert torch.all(kept.keypoints[0] == torch.tensor([-25.0, 7.0]))


# ---- issues of annotations and images


def _modify(scene, tmp_path, change):
    """A copy of the folder whose annotation file was changed."""
    folder = tmp_path / 'data'
    shutil.copytree(scene, folder)
    path = folder / 'annotations/person_keypoints_train2017.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return folder


def _add_two_issues(content):
    content['annotations'][0]['area'] = float('nan')
    content['annotations'][1]['bbox'] = [34, 5, 0, 20]


@pytest.fixture
def warnings(monkeypatch):
    """Collect the warnings that the data set logs."""
    messages = []

    log = SimpleNamespace(warning=messages.append)
    monkeypatch.setattr(startup, 'MMLogger', SimpleNamespace(get_current_instance=lambda: log))
    return messages


def test_training_repairs_and_logs_a_table(scene, tmp_path, warnings):
    dataset = _dataset(_modify(scene, tmp_path, _add_two_issues))
    people = dataset[0]['data_samples'].gt_instances
    assert people.bboxes.tensor.tolist() == [[10, 10, 30, 40]]
    (table,) = warnings
    lines = table.splitlines()
    assert '2 issues were repaired or left out' in lines[0]
    assert lines[1].split()[:4] == ['area', '1', 'annotation', '1']
    assert lines[2].split()[:4] == ['box', '1', 'annotation', '2']


def test_valid_data_logs_nothing(scene, warnings):
    _dataset(scene, strict=True)
    _dataset(scene, test_mode=True)
    assert warnings == []


@pytest.mark.parametrize('how', [dict(strict=True), dict(test_mode=True)])
def test_strict_and_test_mode_raise(how, scene, tmp_path):
    folder = _modify(scene, tmp_path, _add_two_issues)
    with pytest.raises(AnnotationError, match='check_coco.py') as error:
        _dataset(folder, **how)
    assert 'found 2:' in str(error.value)
    assert str(folder) in str(error.value)


def test_test_mode_keeps_harmless_issues(scene, tmp_path, warnings):
    """A wrong num_keypoints and a box overhang; in a test nothing is repaired."""

    def change(content):
        content['annotations'][0].update(num_keypoints=15, bbox=[10, 10, 20, 40])

    folder = _modify(scene, tmp_path, change)
    dataset = _dataset(folder, test_mode=True)
    (table,) = warnings
    assert 'left as they are' in table
    assert 'num_keypoints' in table and 'box_overhang' in table
    people = dataset[0]['data_samples'].gt_instances
    assert people.bboxes.tensor[0].tolist() == [10, 10, 30, 50]
    metric = MultitaskCocoMetric(str(folder / 'annotations/person_keypoints_train2017.json'))
    metric.dataset_meta = dataset.metainfo
    assert 'bbox_AP' in metric.compute_metrics([])
    with pytest.raises(AnnotationError):
        _dataset(folder, strict=True)


def test_issues_of_other_categories_are_ignored(scene, tmp_path):

    def change(content):
        content['categories'].append(dict(id=2, name='horse'))
        content['annotations'].append(dict(id=9, image_id=1, category_id=2))

    _dataset(_modify(scene, tmp_path, change), strict=True)


def test_missing_images(scene, tmp_path, warnings):
    folder = _modify(scene, tmp_path, lambda content: None)
    (folder / 'train2017/000000000002.png').unlink()
    dataset = _dataset(folder)
    ids = [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))]
    assert ids == [1, 3]
    assert 'image_missing' in warnings[0] and '002.png' in warnings[0]
    for how in (dict(strict=True), dict(test_mode=True)):
        with pytest.raises(AnnotationError, match='000000000002.png'):
            _dataset(folder, **how)
    assert len(_dataset(folder, test_mode=True, indices=[0, 2])) == 2
    with pytest.raises(AnnotationError, match='found none of 3'):
        CocoMultitaskDataset(
            ann_file=str(folder / 'annotations/person_keypoints_train2017.json'),
            data_prefix=dict(img=str(folder / 'annotations')),
        )


def test_file_without_annotations(scene, tmp_path):
    """As COCO's image_info_test-dev2017.json."""
    folder = _modify(scene, tmp_path, lambda content: content.pop('annotations'))
    assert len(_dataset(folder, test_mode=True, strict=True)) == 3


def test_truncated_file_raises(scene, tmp_path):
    folder = _modify(scene, tmp_path, lambda content: None)
    path = folder / 'annotations/person_keypoints_train2017.json'
    path.write_text(path.read_text()[:-20])
    with pytest.raises(AnnotationError, match='train2017.json: expected'):
        _dataset(folder)


def test_keypoints_as_in_the_file(scene):
    """By default half a pixel is added."""
    shifted, same = [
        _dataset(scene, **options)[0]['data_samples'].gt_instances
        for options in ({}, dict(keypoint_shift=0.0))
    ]
    visible = same.keypoints_visible[0] > 0
    assert same.keypoints[0][visible].tolist() == (shifted.keypoints[0][visible] - 0.5).tolist()
    assert same.keypoints[0, 0].tolist() == [11, 11]


def test_masks_stay_polygons_without_rle(scene):
    """Instance 2 of the scene has an RLE; a crowd has one in any case."""
    load = Compose([LOAD[0], dict(LOAD[1], poly2mask=False)])
    info = _dataset(scene).get_data_info(0)
    masks = load(copy.deepcopy(info))['gt_masks']
    assert isinstance(masks, BitmapMasks)
    assert masks.areas.tolist() == [600, 200, 672]
    info['instances'].pop(1)
    results = load(info)
    assert isinstance(results['gt_masks'], PolygonMasks)
    assert results['gt_masks'].areas[0] == 600
    assert results['gt_ignore_flags'].tolist() == [False, True]
