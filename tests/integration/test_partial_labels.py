"""Partially labeled data: loading, rules, losses, evaluation, analysis, tools."""

import copy
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData

from benchmarks.data.partial_labels import remove_labels
from multitask_cli import test, train
from multitask_refine.analysis.breakdown import by_occlusion, by_people, by_visibility
from multitask_refine.analysis.image_scores import image_scores
from multitask_refine.analysis.keypoint_errors import find_keypoint_errors
from multitask_refine.analysis.report.instances import instances, truth_people
from multitask_refine.datasets import CocoMultitaskDataset, repair
from multitask_refine.datasets.validation import summary
from multitask_refine.engine import load_config
from multitask_refine.evaluation import MultitaskCocoMetric, coco_metric, load_ground_truth
from multitask_refine.evaluation.coco_scores import CocoData, evaluate, figures, labeled_part
from tests.conftest import CONFIGS, SAMPLE_CONFIG, _write_image, as_arguments, tiny_options
from tests.integration.distributed import ranks

TRAIN = 'annotations/person_keypoints_train2017.json'
NO_MASK, NO_KEYPOINTS = {'segmentation'}, {'keypoints', 'num_keypoints'}


def person(number, x, image=1, without=()):
    """A person of 12 x 20 pixels, its left side at x."""
    keypoints = [value for _ in range(17) for value in (x + 6, 20, 2)]
    ann = dict(
        id=number,
        image_id=image,
        category_id=1,
        iscrowd=0,
        area=240,
        bbox=[x, 10, 12, 20],
        segmentation=[[x, 10, x + 12, 10, x + 12, 30, x, 30]],
        keypoints=keypoints,
        num_keypoints=17,
    )
    return {name: value for name, value in ann.items() if name not in without}


def write(folder, annotations, images=(1,)):
    """A data set of 64 x 48 images, the same for training and test."""
    entries = []
    for split in ('train', 'val'):
        (folder / f'{split}2017').mkdir(parents=True)
        entries = [_write_image(folder / f'{split}2017', i) for i in images]
    (folder / 'annotations').mkdir()
    content = dict(images=entries, annotations=annotations, categories=[dict(id=1, name='person')])
    for split in ('train', 'val'):
        (folder / f'annotations/person_keypoints_{split}2017.json').write_text(json.dumps(content))
    return folder


def load(folder, between=(), **kwargs):
    return CocoMultitaskDataset(
        ann_file=TRAIN,
        data_root=str(folder),
        data_prefix=dict(img='train2017/'),
        pipeline=[
            dict(type='CheckedLoadImageFromFile'),
            dict(type='LoadMultitaskAnnotations', **kwargs),
            *between,
            dict(type='PackMultitaskInputs'),
        ],
    )


@pytest.fixture
def said(monkeypatch):
    """Collect what the data set and the metric log."""
    lines = []
    log = SimpleNamespace(warning=lines.append, info=lines.append)
    logger = SimpleNamespace(get_current_instance=lambda: log)
    monkeypatch.setattr(summary, 'MMLogger', logger)
    monkeypatch.setattr(coco_metric, 'MMLogger', logger)
    return lines


MIXED = [
    person(1, 0),
    person(2, 16, without=NO_MASK),
    person(3, 32, without=NO_KEYPOINTS),
    dict(person(4, 48), segmentation=None, keypoints=[]),
]


# Loading


@pytest.mark.parametrize('poly2mask', [True, False])
def test_each_instance_keeps_its_labels(tmp_path, said, poly2mask):
    sample = load(write(tmp_path, MIXED), poly2mask=poly2mask)[0]
    people = sample['data_samples'].gt_instances
    assert people.bboxes.tensor[:, 0].tolist() == [0, 16, 32, 48]
    assert people.has_mask.tolist() == [True, False, True, False]
    areas = people.masks.to_ndarray().sum((1, 2))
    assert areas.tolist() == [240, 0, 240, 0]
    labeled = (people.keypoints_visible > 0).all(-1)
    assert labeled.tolist() == [True, True, False, False]
    assert len(sample['data_samples'].ignored_instances.bboxes) == 0
    (line,) = said
    assert 'of 4 instances 2 have a mask and 2 have keypoints' in line


@pytest.mark.parametrize(
    'transform',
    [
        dict(type='RandomCrop', crop_size=(24, 30), allow_negative_crop=True),
        dict(type='FilterAnnotations', min_gt_bbox_wh=(12.5, 1)),
        dict(type='RandomFlip', prob=1.0),
        dict(type='Resize', scale=(128, 96)),
    ],
    ids=lambda transform: transform['type'],
)
def test_has_mask_stays_with_its_instance(tmp_path, transform, said):
    """has_mask is True for the instances whose mask is not empty."""
    annotations = copy.deepcopy(MIXED)
    if transform['type'] == 'FilterAnnotations':
        for ann in annotations[:2]:  # these are kept
            ann['bbox'][2] = 14
    dataset = load(write(tmp_path, annotations), [transform])
    seen = set()
    for seed in range(8):
        np.random.seed(seed)
        people = dataset[0]['data_samples'].gt_instances
        shown = people.masks.to_ndarray().any((1, 2))
        assert people.has_mask.tolist() == shown.tolist()
        seen.add(tuple(shown))
    if transform['type'] in ('RandomCrop', 'FilterAnnotations'):
        assert seen - {(True, False, True, False)}
    assert (True, False) in {flags[:2] for flags in seen}


def test_pipeline_without_masks(tmp_path, said):
    people = load(write(tmp_path, MIXED), with_mask=False)[0]['data_samples'].gt_instances
    assert not people.has_mask.any() and 'masks' not in people


def test_network_without_mask_head_loads_no_masks(tmp_path):
    folder = write(tmp_path / 'data', [person(1, 0, without=NO_MASK)])
    options = {**tiny_options(folder), 'train_dataloader.dataset.type': 'RepeatDataset'}
    for head, expected in ((None, False), (dict(type='PersonMaskHead'), None)):
        cfg = load_config(str(SAMPLE_CONFIG), {**options, 'model.roi_head.mask_head': head})
        steps = cfg.train_dataloader.dataset.pipeline
        assert steps[1].get('with_mask') == expected
        assert cfg.test_dataloader.dataset.pipeline[2].get('with_mask') == expected


# Rules


@pytest.mark.parametrize(
    'change, box, words',
    [
        (dict(bbox=None), [4, 10, 12, 20], 'around the mask'),
        # Keypoints at pixels 10 to 14 and 20 to 29, both ends included.
        (
            dict(
                bbox=None,
                segmentation=None,
                keypoints=[10, 20, 2, 14, 29, 1, 50, 40, 0] + [0] * 42,
                num_keypoints=2,
            ),
            [10, 20, 5, 10],
            'its 2 labeled keypoints',
        ),
        (
            dict(bbox=[], segmentation=[], keypoints=[10, 20, 2] + [0] * 48, num_keypoints=1),
            None,
            'annotation removed',
        ),
    ],
)
def test_missing_box_is_derived(change, box, words):
    content = dict(
        images=[dict(id=1, file_name='1.png', width=64, height=48)],
        annotations=[dict(person(1, 4), **change)],
        categories=[dict(id=1, name='person')],
    )
    repaired, issues = repair(content, 17)
    assert issues[0].rule == 'box' and words in issues[0].fix
    assert [ann['bbox'] for ann in repaired['annotations']] == ([box] if box else [])
    assert repair(repaired, 17)[1] == []


def test_invalid_mask_is_removed_from_its_instance(tmp_path, said):
    folder = write(tmp_path, [person(1, 0), dict(person(2, 16), segmentation=[[1, 2, 3]])])
    people = load(folder)[0]['data_samples'].gt_instances
    assert people.has_mask.tolist() == [True, False]
    assert people.keypoints_visible.all()
    assert 'annotation 2' in said[-1] and 'mask removed' in said[-1]


# Losses


@pytest.fixture(scope='module')
def model():
    (path,) = CONFIGS.glob('*/*r26-w16*-ms_rb-h_1xb8*_sample.py')
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(
        {key: value for key, value in tiny_options(Path()).items() if key.startswith('model')}
    )
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def test_mask_loss_of_labeled_rois(model):
    """RoIs that are filled by the mask of their instance: the target is 1 in
    every cell, and cross-entropy is log(1 + exp(-logit))."""
    head = model.eval().roi_head
    boxes = torch.tensor(
        [[0.0, 8.0, 16.0, 40.0], [16.0, 8.0, 32.0, 40.0], [32.0, 8.0, 48.0, 40.0]]
    )
    masks = np.zeros((3, 48, 64), np.uint8)
    masks[0, 8:40, :16] = masks[2, 8:40, 32:48] = 1
    gts = [
        InstanceData(
            masks=BitmapMasks(masks, 48, 64),
            has_mask=torch.tensor(has_mask),
            keypoints_visible=torch.zeros(3, 17),
        )
        for has_mask in ([True, False, True], [False] * 3)
    ]
    persons = [torch.tensor([2, 1, 0, 1]), torch.tensor([0, 2])]
    samples = [
        SimpleNamespace(
            pos_priors=boxes[each], pos_assigned_gt_inds=each, pos_gt_labels=torch.zeros_like(each)
        )
        for each in persons
    ]
    feats = torch.randn(6, 64, 14, 14, requires_grad=True)
    labeled = head._find_labeled(samples, gts)['mask']
    loss = head._forward_mask(feats, samples, gts, labeled)['loss_mask']
    weight = head.mask_head.conv_logits.weight
    found = torch.autograd.grad(loss, [weight, feats])
    logits = head.mask_head(feats[[0, 2]])
    expected = F.softplus(-logits).mean()
    wanted = torch.autograd.grad(expected, [weight, feats])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for one, other in zip(found, wanted, strict=False):
        torch.testing.assert_close(one, other)
    assert not found[1][[1, 3, 4, 5]].any()


@pytest.mark.parametrize('loaded', [True, False])
def test_batch_without_labels_keeps_keys_graph_and_statistics(model, loaded):
    model.train()
    images = torch.randn(2, 3, ranks.HEIGHT, ranks.WIDTH)
    expected = set(model.loss(images, [ranks.sample(2), ranks.sample(1)]))
    samples = [ranks.sample(n, labeled=False, masked=[False] * n) for n in (2, 1)]
    if not loaded:  # as LoadMultitaskAnnotations(with_mask=False)
        for sample in samples:
            del sample.gt_instances.masks
    heads = [model.roi_head.mask_head, model.roi_head.keypoint_head]
    before = copy.deepcopy([dict(head.named_buffers()) for head in heads])
    losses = model.loss(images, samples)
    assert set(losses) == expected
    assert losses['loss_mask'] == losses['loss_keypoint'] == 0
    assert losses['loss_bbox'] > 0
    model.zero_grad(set_to_none=True)
    model.parse_losses(losses)[0].backward()
    for head, buffers in zip(heads, before, strict=False):
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None, name
            assert not parameter.grad.any(), name
        assert buffers
        for name, value in head.named_buffers():
            assert torch.equal(value, buffers[name]), name


def test_missing_labels_keep_the_other_losses(model):
    """An instance without mask and keypoints does not become background."""
    model.train()
    images = torch.randn(2, 3, ranks.HEIGHT, ranks.WIDTH)
    losses = []
    for some in ({}, dict(labeled=False, masked=[False, True])):
        torch.manual_seed(0)  # samples the same anchors and RoIs
        losses.append(model.loss(images, [ranks.sample(2), ranks.sample(2, **some)]))
    for name in ('loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox'):
        # The RPN gives a list with the loss of each level.
        one, other = (
            torch.stack(each[name]).sum() if isinstance(each[name], list) else each[name]
            for each in losses
        )
        assert one == other > 0, name
    assert losses[0]['loss_mask'] != losses[1]['loss_mask']
    assert losses[0]['loss_keypoint'] != losses[1]['loss_keypoint']


# Evaluation


def found(*people):
    """Predictions at x, with a score: x, score."""
    masks = torch.zeros(len(people), 48, 64, dtype=torch.bool)
    boxes = torch.zeros(len(people), 4)
    keypoints = torch.zeros(len(people), 17, 2)
    for i, (x, _) in enumerate(people):
        masks[i, 10:30, x : x + 12] = True
        boxes[i] = torch.tensor([x, 10, x + 12, 30])
        keypoints[i] = torch.tensor([x + 6.5, 20.5])
    return dict(
        bboxes=boxes,
        masks=masks,
        keypoints=keypoints,
        labels=torch.zeros(len(people)).long(),
        scores=torch.tensor([score for _, score in people]),
        keypoint_scores=torch.ones(len(people), 17),
    )


def score(folder, *images):
    metric = MultitaskCocoMetric(str(folder / TRAIN))
    metric.dataset_meta = dict(classes=('person',), sigmas=[0.05] * 17)
    for number, prediction in enumerate(images, 1):
        metric.process({}, [dict(img_id=number, pred_instances=prediction)])
    metrics = metric.evaluate(len(images))
    return {task: metrics[f'coco/{task}_AP'] for task in ('bbox', 'segm', 'keypoints')}


BOX_ONLY = NO_MASK | NO_KEYPOINTS


def test_detection_of_unlabeled_instance_is_ignored(tmp_path, said):
    """The box counts for boxes. Without the region the first, unlabeled,
    would be a false positive before the right one: AP 50."""
    folder = write(tmp_path, [person(1, 0), person(2, 40, without=BOX_ONLY)])
    assert score(folder, found((40, 0.9), (0, 0.8))) == pytest.approx(
        dict(bbox=100, segm=100, keypoints=100)
    )
    assert said[0] == ('masks: 1 of 2 instances are labeled; 1 of 1 images count')
    assert said[1].startswith('keypoints: 1 of 2 instances')
    # Not to find it is no error either, but for the box: recall 1/2.
    scores = score(folder, found((0, 0.8)))
    assert scores == pytest.approx(dict(bbox=100 * 51 / 101, segm=100, keypoints=100))


def test_detection_of_background_is_a_false_positive(tmp_path, said):
    """Between the two people; the labeled one comes second: precision 1/2.
    OKS regions are twice as large as the box, so the image is wide."""
    folder = write(tmp_path, [person(1, 0), person(2, 52, without=BOX_ONLY)])
    scores = score(folder, found((24, 0.9), (0, 0.8)))
    assert scores['segm'] == pytest.approx(50)


@pytest.mark.parametrize(
    'second, expected',
    [
        (person(2, 0, 2, without=BOX_ONLY), 100),  # the image does not count
        (None, 50),  # no instance: a fully labeled image
        (dict(person(2, 0, 2), keypoints=[0] * 51, num_keypoints=0), 50),
        (dict(person(2, 52, 2), iscrowd=1), 50),
    ],
    ids=['unlabeled', 'empty', 'COCO without keypoints', 'crowd'],
)
def test_counted_images(tmp_path, said, second, expected):
    """A false positive of score 0.9 far from anybody on the second image."""
    annotations = [person(1, 0)] + ([second] if second else [])
    folder = write(tmp_path, annotations, images=(1, 2))
    scores = score(folder, found((0, 0.8)), found((26, 0.9)))
    assert scores['segm'] == pytest.approx(
        expected
        if second is None or second['iscrowd'] or 'segmentation' not in second
        # One of two masks is found: recall 1/2 at precision 1/2.
        else 50 * 51 / 101
    )
    counted = labeled_part(load_ground_truth(str(folder / TRAIN), 17), 'keypoints', [1], [1, 2])
    assert counted.images == ([1] if expected == 100 else [1, 2])


def test_task_without_labels_has_no_ap(tmp_path, said):
    folder = write(tmp_path, [person(1, 0, without=BOX_ONLY)])
    scores = score(folder, found((0, 0.8)))
    assert scores.pop('bbox') == pytest.approx(100)
    assert all(map(math.isnan, scores.values()))


def test_fully_labeled_file_is_unchanged(tmp_path):
    folder = write(
        tmp_path,
        [
            person(1, 0),
            dict(person(2, 30), iscrowd=1),
            dict(person(3, 16), keypoints=[0] * 51, num_keypoints=0),
        ],
    )
    truth = load_ground_truth(str(folder / TRAIN), 17)
    for task in ('bbox', 'segm', 'keypoints'):
        part = labeled_part(truth, task, [1], [1])
        assert part.truth is truth
        assert part[1:] == ([1], 2, 2)


def test_pycocotools_agrees_on_partially_labeled_images(tmp_path):
    """Random people, labels and detections in 20 images."""
    generator = np.random.default_rng(0)
    annotations, entries = [], dict(bbox=[], segm=[], keypoints=[])
    for image in range(1, 21):
        for x in generator.choice(52, generator.integers(0, 4)).tolist():
            without = set()
            for fields in (NO_MASK, NO_KEYPOINTS):
                without |= fields if generator.random() < 0.5 else set()
            annotations.append(person(len(annotations) + 1, x, image, without))
            whole = person(0, x + int(generator.integers(-2, 3)), image)
            common = dict(image_id=image, category_id=1, score=float(generator.random()))
            entries['bbox'].append(dict(common, bbox=whole['bbox']))
            mask = np.zeros((48, 64), np.uint8, order='F')
            left = max(0, whole['bbox'][0])
            mask[10:30, left : left + 12] = 1
            entries['segm'].append(
                dict(common, segmentation=coco_metric.encode_mask_results(mask[None])[0])
            )
            entries['keypoints'].append(dict(common, keypoints=whole['keypoints']))
    path = str(tmp_path / 'annotations.json')
    with open(path, 'w') as file:
        json.dump(
            dict(
                images=[dict(id=i, width=64, height=48) for i in range(1, 21)],
                annotations=annotations,
                categories=[dict(id=1, name='person')],
            ),
            file,
        )
    sigmas, images = [0.05] * 17, list(range(1, 21))
    fast = evaluate(load_ground_truth(path, 17), entries, sigmas, [1], images)
    data = CocoData(load_ground_truth(path, 17), entries, sigmas, [1], images)
    for task, values in fast.items():
        assert 0 < values['AP'] < 100
        assert figures(data.run(task)) == pytest.approx(values, nan_ok=True)


def test_analyses_of_partially_labeled_instances(tmp_path):
    """A person with everything, one without a mask, one without keypoints;
    each found where it is."""
    path = str(write(tmp_path, MIXED[:3]) / TRAIN)
    entries = [person(0, ann['bbox'][0]) for ann in MIXED[:3]]
    data = CocoData(
        load_ground_truth(path, 17),
        {
            task: [
                dict(image_id=1, category_id=1, score=0.9, **{key: ann[key]}) for ann in entries
            ]
            for task, key in (('bbox', 'bbox'), ('keypoints', 'keypoints'))
        },
        [0.05] * 17,
        [1],
        [1],
    )
    errors = find_keypoint_errors(data, range(17))
    assert (errors.people, errors.matched) == (2, 2)
    assert errors.counts.sum() == 2 * 17
    occlusion = {group.name: group for group in by_occlusion(data)}
    assert occlusion['all keypoints visible'].people == 2
    assert occlusion['no keypoints labeled'].people == 1
    (visible, occluded) = by_visibility(data)
    assert (visible.people, occluded.people) == (2, 0)
    assert pytest.approx(100) == visible.scores['keypoints'].AP
    assert pytest.approx(100) == by_people(data)[1].scores['keypoints'].AP
    scores = image_scores(data, 0.5)[1]
    assert scores.tasks == pytest.approx(dict(bbox=100, keypoints=100))
    shown = instances(truth_people(data.truth, 1, [1]), np.ones(2), (64, 48), True)
    assert shown.masks.sum((1, 2)).tolist() == [240, 0, 240]
    assert (shown.keypoints_visible > 0).all(1).tolist() == [True, True, False]


# Tools


@pytest.mark.exhaustive
def test_training_and_test_of_partially_labeled_files(tmp_path):
    folder = write(
        tmp_path / 'data',
        [dict(ann, image_id=1 + i % 2) for i, ann in enumerate(MIXED)],
        images=(1, 2),
    )
    options = as_arguments(
        {**tiny_options(folder), 'train_cfg.max_iters': 1, 'train_cfg.val_interval': 9}
    )
    assert train.main([str(SAMPLE_CONFIG), '--work-dir', str(tmp_path / 'w'), *options]) == 0
    assert (
        test.main(
            [
                str(SAMPLE_CONFIG),
                str(tmp_path / 'w/iter_1.pth'),
                '--tta',
                '--work-dir',
                str(tmp_path / 'w'),
                '--show-dir',
                str(tmp_path / 'w/shown'),
                *options,
            ]
        )
        == 0
    )
    assert len(list((tmp_path / 'w').rglob('shown/*'))) == 2
    logs = ''.join(path.read_text() for path in tmp_path.rglob('*.log'))
    assert 'masks: 2 of 4 instances are labeled' in logs


@pytest.mark.exhaustive
def test_training_without_any_mask(tmp_path):
    folder = write(tmp_path / 'data', [person(1, 8, without=NO_MASK)])
    options = {**tiny_options(folder), 'train_dataloader.batch_size': 1}
    command = [str(SAMPLE_CONFIG), '--work-dir', str(tmp_path / 'w')]
    with pytest.raises(SystemExit, match='model.roi_head.mask_head=None'):
        train.main([*command, *as_arguments(options)])
    options['model.roi_head.mask_head'] = None
    assert train.main([*command, *as_arguments(options)]) == 0


# The benchmark


def test_variants_have_equally_many_labels():
    content = dict(
        images=[dict(id=i) for i in range(10)],
        annotations=[person(i, 0, i % 10) for i in range(20)],
    )
    before = copy.deepcopy(content)
    for variant, images, boxes, labels in (
        ('all', 10, 20, 20),
        ('partial', 10, 20, 10),
        ('half', 5, 10, 10),
    ):
        found = remove_labels(content, variant, 3)
        assert len(found['images']) == images
        assert len(found['annotations']) == boxes
        for field in ('segmentation', 'keypoints'):
            assert sum(field in ann for ann in found['annotations']) == labels
        assert content == before
