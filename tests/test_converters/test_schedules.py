"""Optimizer, schedule and training data of the converted configs against those
of Detectron2, torchvision and MMDetection.

``golden/detectron2-schedules.npz`` holds what Detectron2's own code gave;
``make_schedule_golden.py`` wrote it. Here MMEngine builds optimizer and
schedulers from the config, and its hook steps them as in training.
"""

import functools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS, PARAM_SCHEDULERS, TRANSFORMS
from mmengine.config import Config
from mmengine.hooks import ParamSchedulerHook
from mmengine.hub import get_config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from multitask_refine.converters import detectron2 as detectron2_to_multitask
from multitask_refine.converters.conversion import match_names
from tests.conftest import CONFIGS
from tests.test_converters.networks import config_path
from tests.test_converters.test_training import SOURCES as TRAINED

GOLDEN = Path(__file__).parent / 'golden' / 'detectron2-schedules.npz'
CONSTANT = ('momentum', 'dampening', 'nesterov', 'weight_decay')
RELATIVE = 1e-9
with np.load(GOLDEN) as file:
    CURVES = file['curves']
    SOURCES = json.loads(str(file['about']))['sources']
each_config = pytest.mark.parametrize('config', SOURCES)


def _build(cfg):
    """The network, without storage, and its optimizer."""
    init_default_scope('mmdet')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    return model, build_optim_wrapper(model, cfg.optim_wrapper)


def _group_of_each_parameter(model, optim_wrapper):
    """The optimizer's settings of each trained parameter by its name."""
    names = {id(param): name for name, param in model.named_parameters()}
    return {
        names[id(param)]: group
        for group in optim_wrapper.param_groups
        for param in group['params']
        if param.requires_grad
    }


@functools.cache
def _relative_rates(settings):
    """Learning rate of each iteration, relative to the one of the optimizer.

    Args:
        settings (str): Schedulers, iterations and those of an epoch, as JSON; 0 if no scheduler
            counts epochs.
    """
    schedulers, iterations, epoch = json.loads(settings)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    built = [
        PARAM_SCHEDULERS.build(dict(each), default_args=dict(optimizer=optimizer))
        for each in schedulers
    ]
    hook = ParamSchedulerHook()
    runner = SimpleNamespace(param_schedulers=built)
    rates = np.empty(iterations)
    for i in range(iterations):
        rates[i] = optimizer.param_groups[0]['lr']
        hook.after_train_iter(runner, i)
        if epoch and not (i + 1) % epoch:
            hook.after_train_epoch(runner)
    return rates


@each_config
def test_every_parameter_learns_as_in_detectron2(config):
    """Rates of all iterations, momentum and decay of each parameter."""
    source = SOURCES[config]
    cfg = Config.fromfile(config_path(config))
    assert cfg.train_cfg.max_iters == CURVES.shape[1] == 90000
    model, optim_wrapper = _build(cfg)
    rates = _relative_rates(json.dumps([cfg.param_scheduler, cfg.train_cfg.max_iters, 0]))
    found = _group_of_each_parameter(model, optim_wrapper)
    checkpoint = SimpleNamespace(path=config, weights=dict.fromkeys(source['parameters']))
    match = match_names(
        checkpoint, detectron2_to_multitask.describe(checkpoint), dict(model.named_parameters())
    )
    assert not match.left and not match.unknown
    assert set(match.found) == set(found)
    for ours, theirs in match.found.items():
        group = source['groups'][source['parameters'][theirs]]
        assert {key: found[ours][key] for key in CONSTANT} == {
            key: group[key] for key in CONSTANT
        }, ours
    pairs = {
        (found[ours]['lr'], source['groups'][source['parameters'][theirs]]['curve'])
        for ours, theirs in match.found.items()
    }
    for rate, curve in pairs:
        np.testing.assert_allclose(rate * rates, CURVES[curve], rtol=RELATIVE, atol=0)


@each_config
def test_training_data_is_chosen_and_resized_as_in_detectron2(config):
    expected = SOURCES[config]['data']
    assert (expected['sampler'], expected['min_size_sampling'], expected['flip']) == (
        'TrainingSampler',
        'choice',
        'horizontal',
    )
    assert not expected['crop']
    cfg = Config.fromfile(config_path(config))
    loader = cfg.train_dataloader
    images = expected['images_per_batch']
    assert cfg.auto_scale_lr.base_batch_size == 8 * loader.batch_size == images
    assert cfg.optim_wrapper.type == 'OptimWrapper' and not expected['amp']
    assert 'clip_grad' not in cfg.optim_wrapper
    assert not expected['clip_gradients']
    assert loader.sampler == dict(type='InfiniteSampler', shuffle=True)
    assert expected['aspect_ratio_grouping']
    assert loader.batch_sampler.type == 'AspectRatioGroupedBatchSampler'
    assert loader.batch_sampler.boundaries == [1.0]
    filter_cfg = loader.dataset.filter_cfg
    assert filter_cfg.filter_empty_gt == expected['filter_empty']
    assert filter_cfg.min_size == 0
    assert filter_cfg.get('min_keypoints', 0) == expected['min_keypoints']
    load, annotations, resize, flip, pack = loader.dataset.pipeline
    assert flip == dict(type='RandomFlip', prob=expected['flip_prob'])
    assert resize.type == 'RandomChoiceResize'
    assert resize.scales == expected['min_size']
    assert resize.max_size == expected['max_size']


@pytest.mark.parametrize(
    'size, short, expected',
    [
        # 736 x 2531.84 at 736 / 50, times 1333 / 2531.84: 387.5 in exact
        # arithmetic, a hair less in two steps of rounded ones, and one step of
        # MMCV's Resize gives 388.
        ((50, 172), 736, (387, 1333)),
        ((427, 640), 800, (800, 1199)),  # 640 * 800 / 427 = 1199.06
        ((640, 427), 672, (1007, 672)),  # 1007.21
        ((300, 900), 640, (444, 1333)),  # 900 * 640 / 300 > 1333: 444.3
    ],
)
def test_sizes_are_those_of_detectron2(size, short, expected):
    init_default_scope('mmdet')
    cfg = Config.fromfile(config_path('r50_fpn_detectron2'))
    step = dict(cfg.train_dataloader.dataset.pipeline[2], scales=[short])
    found = TRANSFORMS.build(step)(dict(img=np.zeros((*size, 3), np.uint8), img_shape=size))
    assert found['img'].shape[:2] == found['img_shape'] == expected


def _converted(name):
    return Config.fromfile(CONFIGS / f'converted/multitask-rcnn_{name}_coco.py')


def test_mmdetections_1x():
    """Rates of all iterations, settings of each parameter, image sizes and filters."""
    ours = _converted('r50_fpn_mmdet-mask_8xb2-87960')
    theirs = get_config('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py')
    here, there = [
        {
            name: {key: group[key] for key in ('lr', *CONSTANT)}
            for name, group in _group_of_each_parameter(*_build(cfg)).items()
        }
        for cfg in (ours, theirs)
    ]
    assert here == there
    epoch = math.ceil(math.ceil(117266 / 8) / 2)  # images on 8 ranks, 2 at a time
    iterations = 12 * epoch
    assert ours.train_cfg.max_iters == iterations
    assert theirs.train_cfg.max_epochs * epoch == iterations
    found = _relative_rates(json.dumps([ours.param_scheduler, iterations, 0]))
    expected = _relative_rates(json.dumps([theirs.param_scheduler, iterations, epoch]))
    np.testing.assert_allclose(found, expected, rtol=RELATIVE, atol=0)
    assert ours.auto_scale_lr.base_batch_size == theirs.auto_scale_lr.base_batch_size == 16
    here, there = [cfg.train_dataloader.dataset for cfg in (ours, theirs)]
    assert here.filter_cfg == there.filter_cfg
    assert here.pipeline[2].scales == [there.pipeline[2].scale] == [(1333, 800)]
    assert here.pipeline[3] == there.pipeline[3]
    assert 'boundaries' not in ours.train_dataloader.batch_sampler


def test_assigners_and_samplers_are_mmdetections():
    ours = _converted('r50_fpn_mmdet-mask_8xb2-87960').model.train_cfg
    theirs = get_config('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py').model.train_cfg
    for stage in ('rpn', 'rcnn'):
        # Crowds are background there, and ignored here.
        assert ours[stage].assigner.pop('ignore_iof_thr') == 0.5
        assert theirs[stage].assigner.pop('ignore_iof_thr') == -1
        # Other classes with the same results.
        for part in ('assigner', 'sampler'):
            ours[stage][part].pop('type')
            theirs[stage][part].pop('type')
    assert ours == theirs


def _rates_of_torchvisions_script(iterations, epochs, steps):
    """Learning rates of references/detection/train.py and engine.py."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.02)
    decay = torch.optim.lr_scheduler.MultiStepLR(optimizer, steps, gamma=0.1)
    warm_up = torch.optim.lr_scheduler.LinearLR(
        optimizer, start_factor=1 / 1000, total_iters=min(1000, iterations - 1)
    )
    rates = []
    for epoch in range(epochs):
        for i in range(iterations):
            rates.append(optimizer.param_groups[0]['lr'])
            if epoch == 0 and i < 1000:
                optimizer.step()
                warm_up.step()
        decay.step()
    return np.array(rates)


def test_torchvisions_schedule():
    cfg = _converted('r50_fpn_torchvision-mask_8xb2-190554')
    epoch = math.ceil(117266 / 8) // 2  # images on 8 ranks, 2 at a time
    expected = _rates_of_torchvisions_script(epoch, 26, [16, 22])
    assert cfg.train_cfg.max_iters == len(expected)
    found = _relative_rates(json.dumps([cfg.param_scheduler, len(expected), 0]))
    rate = cfg.optim_wrapper.optimizer.lr
    np.testing.assert_allclose(rate * found, expected, rtol=RELATIVE, atol=0)
    optimizer = dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4)
    assert cfg.optim_wrapper == dict(type='OptimWrapper', optimizer=optimizer)
    pipeline = cfg.train_dataloader.dataset.pipeline
    assert pipeline[3].scales == [(1333, 800)]

    keypoints = _converted('r50_fpn_torchvision-kps_8xb2-190554')
    assert keypoints.train_cfg.max_iters == len(expected)
    assert keypoints.param_scheduler[0] == cfg.param_scheduler[0]
    steps = [len(expected) * each // 46 for each in (36, 43)]
    assert keypoints.param_scheduler[1] == dict(cfg.param_scheduler[1], milestones=steps)
    data = keypoints.train_dataloader
    assert data.dataset.filter_cfg == dict(filter_empty_gt=True, min_size=0, min_keypoints=10)
    assert [scale[1] for scale in data.dataset.pipeline[3].scales] == [*range(640, 801, 32)]
    np.testing.assert_allclose(data.batch_sampler.boundaries, 2 ** np.linspace(-1, 1, 7))


@pytest.mark.parametrize('source', TRAINED)
def test_sampling_is_that_of_the_source(source):
    """Numbers, fractions and thresholds of anchors, proposals and RoIs."""
    config, path = TRAINED[source], GOLDEN.parent / f'training-{source}.npz'
    with np.load(path) as file:
        expected = json.loads(str(file['about']))['settings']
    cfg = Config.fromfile(config_path(config))
    train = cfg.model.train_cfg
    rpn, roi = train.rpn, train.rcnn
    found = dict(
        rpn_num=rpn.sampler.num,
        rpn_fraction=rpn.sampler.pos_fraction,
        rpn_thresholds=[rpn.assigner.neg_iou_thr, rpn.assigner.pos_iou_thr],
        nms_pre=train.rpn_proposal.nms_pre,
        max_per_img=train.rpn_proposal.max_per_img,
        nms=train.rpn_proposal.nms.iou_threshold,
        roi_num=roi.sampler.num,
        roi_fraction=roi.sampler.pos_fraction,
        roi_thresholds=[roi.assigner.pos_iou_thr],
        add_gt=roi.sampler.add_gt_as_proposals,
    )
    assert found == {key: expected[key] for key in found}
    if 'short_sides' in expected:
        scales = cfg.train_dataloader.dataset.pipeline[3].scales
        assert [short for _, short in scales] == expected['short_sides']
