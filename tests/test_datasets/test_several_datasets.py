"""Several data sets: wrappers, sampling weights, keypoint mapping, copy-paste, evaluation."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, TRANSFORMS
from mmdet.structures.mask import BitmapMasks
from mmengine.dataset import ConcatDataset
from mmengine.registry import EVALUATOR
from mmengine.runner import Runner

from multitask_refine.datasets import (
    AnnotationError,
    AspectRatioGroupedBatchSampler,
    KeypointMapping,
    MultiSourceInfiniteSampler,
    load_meta_file,
)
from multitask_refine.engine.consistency import check_consistency, check_transforms, list_metas
from multitask_refine.engine.runner.reproducible_loop import ReproducibleLoader
from multitask_refine.structures import KeypointBoxes
from multitask_refine.utils.errors import ConfigError

TRAIN = 'annotations/person_keypoints_train2017.json'
LOAD = [dict(type='CheckedLoadImageFromFile'), dict(type='LoadMultitaskAnnotations')]
PACK = [dict(type='PackMultitaskInputs')]
COCO, CROWDPOSE = load_meta_file('coco.py'), load_meta_file('crowdpose.py')


@pytest.fixture(scope='module')
def crowdpose(scene, tmp_path_factory):
    """The scene in CrowdPose's layout: person 1 has 14 keypoints, keypoint i
    at x = 11 + i, y = 12 + i, of which the left shoulder is unlabeled."""
    folder = tmp_path_factory.mktemp('crowdpose')
    (folder / 'images').symlink_to(scene / 'train2017')
    (folder / 'annotations').mkdir()
    content = json.loads((scene / TRAIN).read_text())
    for ann in content['annotations']:
        ann.update(keypoints=[0] * 42, num_keypoints=0)
    points = [[11 + i, 12 + i, 2] for i in range(14)]
    points[0][2] = 0
    content['annotations'][0].update(keypoints=sum(points, []), num_keypoints=13)
    for split in ('train', 'val'):
        path = folder / f'annotations/mmpose_crowdpose_{split}.json'
        path.write_text(json.dumps(content))
    return folder


def _coco(folder, **kwargs):
    return dict(
        type='CocoMultitaskDataset',
        ann_file=TRAIN,
        data_root=str(folder),
        **{'data_prefix': dict(img='train2017/'), 'pipeline': LOAD + PACK, **kwargs},
    )


def _crowdpose(folder, **kwargs):
    return dict(
        type='CocoMultitaskDataset',
        ann_file='annotations/mmpose_crowdpose_train.json',
        data_root=str(folder),
        data_prefix=dict(img='images/'),
        **{'keypoints_from': 'crowdpose.py', 'pipeline': LOAD + PACK, **kwargs},
    )


def _concat(*datasets):
    return dict(type='ConcatDataset', datasets=list(datasets))


def test_keypoints_are_mapped_by_name(crowdpose):
    people = DATASETS.build(_crowdpose(crowdpose))[0]['data_samples'].gt_instances
    assert people.keypoints.shape == (2, 17, 2)
    # COCO: 0 nose, 3 left ear, 5 and 6 shoulders, 16 right ankle. CrowdPose:
    # 0 and 1 shoulders, 11 right ankle, no face, whose heatmaps get no loss.
    # The left shoulder is one that this person has no label of.
    expected = [-1] * 5 + [0] + [2] * 11
    assert people.keypoints_visible[0].tolist() == expected
    assert people.keypoints[0, 6].tolist() == [12.5, 13.5]
    assert people.keypoints[0, 16].tolist() == [22.5, 23.5]


def test_mapping_with_other_names():
    mapping = KeypointMapping(dict(from_file='crowdpose.py', names=dict(top_head='nose')), COCO)
    assert mapping.sources == [12, -1, -1, -1, -1, *range(12)]
    assert mapping.unused == ['neck']
    flat = [value for i in range(14) for value in (i, 10 * i, 1)]
    (ann,) = mapping.convert([dict(id=7, keypoints=flat)])
    assert ann['keypoints'][:6] == [12, 120, 1, 0, 0, 0]
    assert (ann['id'], ann['num_keypoints']) == (7, 13)
    assert mapping.convert([dict(id=8)]) == [dict(id=8)]


@pytest.mark.parametrize(
    'source, words',
    [
        (dict(from_file='crowdpose.py', names=dict(hat='nose')), "'hat'.*top_head"),
        (dict(from_file='crowdpose.py', names=dict(neck='chin')), "'chin'.*nose"),
        (dict(from_file='crowdpose.py', names=dict(neck='left_hip')), 'two for'),
        (dict(from_file='ap10k.py'), 'in common, found none.*L_Eye'),
        (dict(file='crowdpose.py'), 'from_file'),
    ],
)
def test_invalid_keypoint_mapping_raises(source, words):
    with pytest.raises(AnnotationError, match=words):
        KeypointMapping(source, COCO)


def test_file_with_other_keypoints_than_its_meta_file_raises(scene):
    with pytest.raises(AnnotationError, match='51 numbers.*14 keypoints'):
        DATASETS.build(_coco(scene, keypoints_from='crowdpose.py'))


def test_concatenated_datasets_share_metainfo(scene, crowdpose):
    both = DATASETS.build(_concat(_coco(scene), _crowdpose(crowdpose)))
    assert both.metainfo['num_keypoints'] == 17
    assert both.metainfo['sigmas'][:2] == [0.026, 0.025]
    assert both.metainfo['cumulative_sizes'] == [3, 6]


@pytest.mark.parametrize(
    'wrap, length',
    [
        (lambda inner: dict(type='RepeatDataset', dataset=inner, times=2), 12),
        (lambda inner: dict(type='MultiImageMixDataset', dataset=inner, pipeline=PACK), 6),
        (
            lambda inner: dict(
                type='ClassBalancedDataset', dataset=inner['datasets'][0], oversample_thr=0.5
            ),
            3,
        ),
    ],
    ids=['repeat', 'mix', 'balanced'],
)
def test_wrappers_and_batch_sampler(scene, wrap, length):
    pipeline = LOAD + (PACK if 'Mix' not in str(wrap(_concat(0))) else [])
    inner = _concat(*(_coco(scene, pipeline=pipeline) for _ in range(2)))
    dataset = DATASETS.build(wrap(inner))
    assert dataset.metainfo['num_keypoints'] == 17
    assert len(dataset) == length
    sampler = torch.utils.data.SequentialSampler(dataset)
    sampler.dataset = dataset
    batches = list(AspectRatioGroupedBatchSampler(sampler, 2))
    assert sorted(sum(batches, [])) == list(range(length))
    people = dataset[0]['data_samples'].gt_instances
    assert people.keypoints.shape == (2, 17, 2)


def _sampler(sizes, weights, **kwargs):
    parts = [torch.utils.data.TensorDataset(torch.zeros(n)) for n in sizes]
    whole = ConcatDataset.__new__(ConcatDataset)
    torch.utils.data.ConcatDataset.__init__(whole, parts)
    whole._fully_initialized = True
    return MultiSourceInfiniteSampler(whole, weights, **kwargs)


def test_weights_are_relative_frequencies():
    drawn = list(itertools.islice(_sampler([100, 7], [3, 1], seed=0), 4000))
    second = [index for index in drawn if index >= 100]
    # 1000 expected; the standard deviation is sqrt(4000 * 3 / 16) = 27.
    assert abs(len(second) - 1000) < 4 * 27
    # Every image of a set comes once before one comes again.
    for part, size in ((second, 7), ([i for i in drawn if i < 100], 100)):
        for start in range(0, len(part) - size, size):
            assert len(set(part[start : start + size])) == size
    counts = Counter(second)
    assert max(counts.values()) - min(counts.values()) <= 1
    again = list(itertools.islice(_sampler([100, 7], [3, 1], seed=0), 4000))
    assert again == drawn
    other = list(itertools.islice(_sampler([100, 7], [3, 1], seed=1), 4000))
    assert other != drawn


@pytest.mark.parametrize(
    'sizes, weights, words',
    [
        ([2, 2], [1], '2 numbers'),
        ([2, 2], [1, -1], '2 numbers'),
        ([2, 2], [0, 0], 'not all 0'),
        ([2, 0], [1, 1], 'data set 1'),
    ],
)
def test_invalid_weights_raise(sizes, weights, words):
    with pytest.raises(ConfigError, match=words):
        _sampler(sizes, weights)


def test_loader_of_two_datasets_starts_at_any_batch(scene, crowdpose):
    cfg = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='MultiSourceInfiniteSampler', weights=[1, 1]),
        batch_sampler=dict(type='AspectRatioGroupedBatchSampler'),
        dataset=_concat(_coco(scene), _crowdpose(crowdpose)),
    )

    def paths(start, number):
        loader = ReproducibleLoader(Runner.build_dataloader(cfg, seed=0))
        loader.start_at(start, seed=5)
        return [
            [each.img_path for each in batch['data_samples']]
            for batch in itertools.islice(loader, number)
        ]

    unbroken = paths(0, 8)
    assert paths(5, 3) == unbroken[5:]
    assert any('images' in path for batch in unbroken for path in batch)


def test_inconsistent_datasets_and_transforms_raise(scene, crowdpose):
    """A ConcatDataset of sets with other keypoints has a list of metainfo."""
    both = DATASETS.build(
        _concat(
            _coco(scene),
            _crowdpose(crowdpose, keypoints_from=None, metainfo=dict(from_file='crowdpose.py')),
        )
    )
    with pytest.raises(ConfigError, match=r'datasets\[1\].*keypoints_from'):
        check_consistency(None, list_metas(both, 'train_dataloader.dataset'))
    mixed = DATASETS.build(
        dict(
            type='MultiImageMixDataset',
            dataset=_coco(scene, pipeline=LOAD),
            pipeline=[dict(type='Mosaic', img_scale=(64, 64)), *PACK],
        )
    )
    with pytest.raises(ConfigError, match='Mosaic.*MultitaskCopyPaste'):
        check_transforms(mixed, 'train_dataloader.dataset')
    check_transforms(DATASETS.build(_coco(scene)), 'train_dataloader.dataset')


def test_wrapper_passes_on_replaced_images(scene, tmp_path):
    (tmp_path / 'train2017').mkdir()
    for path in (scene / 'train2017').iterdir():
        (tmp_path / 'train2017' / path.name).write_bytes(path.read_bytes())
    bad = tmp_path / 'train2017' / f'{1:012d}.png'
    bad.write_bytes(b'nothing')
    inner = _coco(scene, pipeline=LOAD, data_prefix=dict(img=str(tmp_path / 'train2017')))
    dataset = DATASETS.build(dict(type='MultiImageMixDataset', dataset=inner, pipeline=PACK))
    replaced = dataset[0]['data_samples'].replaced_images
    assert {path for path, _ in replaced} == {str(bad)}


def _predictions(dataset):
    """The annotations as predictions, but with the face far away."""
    samples = []
    for i in range(len(dataset)):
        sample = dataset[i]['data_samples']
        gt = sample.gt_instances
        count = len(gt)
        points = torch.as_tensor(gt.keypoints).clone()
        points[:, :5] = 1000.0  # the face, which CrowdPose does not label
        samples.append(
            dict(
                img_id=sample.img_id,
                img_path=sample.img_path,
                pred_instances=dict(
                    bboxes=gt.bboxes.tensor,
                    scores=torch.ones(count),
                    labels=gt.labels,
                    keypoints=points,
                    masks=torch.from_numpy(gt.masks.to_ndarray().astype(bool)),
                    keypoint_scores=torch.ones(count, 17),
                ),
            )
        )
    return samples


def test_each_dataset_is_evaluated_with_its_own_keypoints(scene, crowdpose):
    pack = [dict(PACK[0], meta_keys=('img_id', 'img_path'))]
    dataset = DATASETS.build(
        _concat(
            _coco(scene, pipeline=LOAD + pack, test_mode=True),
            _crowdpose(crowdpose, pipeline=LOAD + pack, test_mode=True),
        )
    )
    evaluator = EVALUATOR.build(
        dict(
            type='MultiDatasetsEvaluator',
            dataset_prefixes=['coco', 'crowdpose'],
            metrics=[
                dict(type='MultitaskCocoMetric', ann_file=str(scene / TRAIN)),
                dict(
                    type='MultitaskCocoMetric',
                    ann_file=str(crowdpose / 'annotations/mmpose_crowdpose_train.json'),
                    keypoints_from='crowdpose.py',
                ),
            ],
        )
    )
    evaluator.dataset_meta = dataset.metainfo
    evaluator.process(_predictions(dataset))
    found = evaluator.evaluate(len(dataset))
    # The face is wrong: 4 of COCO's 16 labeled keypoints (nose, an eye, two
    # ears; the other eye is unlabeled), so OKS is 12 / 16 = 0.75 there,
    # which passes 6 of the 10 thresholds from 0.5 to 0.75. CrowdPose labels
    # no face: 100.
    assert found['coco/coco/keypoints_AP'] == pytest.approx(60)
    assert found['crowdpose/coco/keypoints_AP'] == pytest.approx(100)
    assert found['crowdpose/coco/bbox_AP'] == pytest.approx(100)


def _image(color, boxes, points, visible):
    """Rectangles of one color with one keypoint each, 40 x 30 pixels."""
    image = np.zeros((30, 40, 3), np.uint8)
    masks = np.zeros((len(boxes), 30, 40), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes):
        mask[y1:y2, x1:x2] = 1
        image[y1:y2, x1:x2] = color
    count = len(boxes)
    return dict(
        img=image,
        img_shape=(30, 40),
        gt_bboxes=KeypointBoxes(
            torch.tensor(boxes, dtype=torch.float32),
            torch.tensor(points, dtype=torch.float32).reshape(count, -1, 2),
            torch.tensor(visible).float().reshape(count, -1),
            [1, 0],
        ),
        gt_bboxes_labels=np.arange(count),
        gt_ignore_flags=np.zeros(count, bool),
        gt_masks=BitmapMasks(masks, 30, 40),
    )


def _two_images():
    # Two persons of 10 x 20 pixels, one of 4 x 4; the pasted one covers the
    # right 4 columns of the first person and all of the third.
    target = _image(
        100,
        [[0, 0, 10, 20], [30, 5, 40, 25], [8, 22, 12, 26]],
        [[[2.5, 3.5], [7.5, 3.5]], [[33.5, 9.5], [35.5, 9.5]], [[9.5, 23.5], [10.5, 24.5]]],
        [[2, 2], [2, 1], [2, 2]],
    )
    source = _image(
        200,
        [[6, 0, 16, 28], [20, 0, 30, 10]],
        [[[8.5, 4.5], [12.5, 4.5]], [[22.5, 2.5], [24.5, 2.5]]],
        [[2, 0], [2, 2]],
    )
    source['gt_ignore_flags'][1] = True  # a crowd
    return target, source


def test_copy_paste_cuts_boxes_and_covers_keypoints():
    target, source = _two_images()
    paste = TRANSFORMS.build(dict(type='MultitaskCopyPaste', selected=False))
    found = paste.transform(dict(target, mix_results=[source]))
    boxes = found['gt_bboxes']
    assert boxes.tensor.tolist() == [[0, 0, 6, 20], [30, 5, 40, 25], [6, 0, 16, 28]]
    # The keypoint at x = 7.5 is below the pasted person.
    assert boxes.keypoints_visible.tolist() == [[2, 1], [2, 1], [2, 0]]
    assert boxes.keypoints[2].tolist() == [[8.5, 4.5], [12.5, 4.5]]
    assert found['gt_bboxes_labels'].tolist() == [0, 1, 0]
    masks = found['gt_masks'].masks
    assert masks.sum(axis=(1, 2)).tolist() == [120, 200, 280]
    assert found['img'].dtype == np.uint8
    assert found['img'][10, [3, 8, 22, 35], 0].tolist() == [100, 200, 0, 100]
    assert not found['gt_ignore_flags'].any()


def test_copy_paste_keeps_boxes_without_mask():
    target, source = _two_images()
    target['gt_masks'].masks[:2] = 0
    source['gt_masks'].masks[0] = 0
    source['gt_ignore_flags'][1] = False
    paste = TRANSFORMS.build(dict(type='MultitaskCopyPaste', selected=False))
    found = paste.transform(dict(target, mix_results=[source]))
    # Only the second source has a mask; it covers no other instance.
    assert found['gt_bboxes'].tensor.tolist() == [
        [0, 0, 10, 20],
        [30, 5, 40, 25],
        [8, 22, 12, 26],
        [20, 0, 30, 10],
    ]


def test_copy_paste_without_masks_or_of_two_sizes_raises():
    paste = TRANSFORMS.build(dict(type='MultitaskCopyPaste'))
    target, source = _two_images()
    small = dict(source, img=source['img'][:20])
    with pytest.raises(ConfigError, match='one size.*Pad'):
        paste.transform(dict(target, mix_results=[small]))
    del target['gt_masks']
    with pytest.raises(ConfigError, match='with_mask=True'):
        paste.transform(dict(target, mix_results=[source]))
