"""Optimizer, schedule and training data of the converted configs against those
of Detectron2 and MMDetection.

``golden/detectron2-schedules.npz`` holds what Detectron2's own code gave;
``make_schedule_golden.py`` wrote it. Here MMEngine builds optimizer and
schedulers from the config, and its hook steps them as in training.
"""

import functools
import json
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
from tests.test_converters.networks import config_path

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
        settings (str): Schedulers and iterations, as JSON.
    """
    schedulers, iterations = json.loads(settings)
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
    return rates


@each_config
def test_every_parameter_learns_as_in_detectron2(config):
    """Rates of all iterations, momentum and decay of each parameter."""
    source = SOURCES[config]
    cfg = Config.fromfile(config_path(config))
    assert cfg.train_cfg.max_iters == CURVES.shape[1] == 90000
    model, optim_wrapper = _build(cfg)
    rates = _relative_rates(json.dumps([cfg.param_scheduler, cfg.train_cfg.max_iters]))
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


def test_what_differs_from_mmdetections_1x():
    """The optimizer is the same; docs/checkpoint-conversion.md lists the differences."""
    ours = Config.fromfile(config_path('r50_fpn_mmdet-mask'))
    theirs = get_config('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py')
    here, there = [
        {
            name: {key: group[key] for key in ('lr', *CONSTANT)}
            for name, group in _group_of_each_parameter(*_build(cfg)).items()
        }
        for cfg in (ours, theirs)
    ]
    shared = here.keys() & there.keys()
    assert len(shared) == len(here)
    assert {name: here[name] for name in shared} == {name: there[name] for name in shared}
    # Weights and biases of the batch norms of layer2 to layer4: three in each
    # of 4 + 6 + 3 blocks, and one in each downsampling.
    norms = there.keys() - shared
    assert len(norms) == 2 * (3 * (4 + 6 + 3) + 3)
    assert all('.bn' in name or '.downsample.1.' in name for name in norms)
    assert theirs.auto_scale_lr.base_batch_size == 16
    warm_up, steps = theirs.param_scheduler
    assert (warm_up.start_factor, warm_up.end) == (0.001, 500)
    assert (steps.gamma, steps.milestones, steps.end) == (0.1, [8, 11], 12)
    assert theirs.train_dataloader.dataset.pipeline[2].scale == (1333, 800)
