"""Learning rates of the layers that predict offsets."""

from pathlib import Path

import mmdet
import pytest
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

import multitask_refine  # noqa: F401
from multitask_refine.ops import RefinedConv2d
from multitask_refine.utils.errors import ConfigError
from tests.conftest import CONFIGS
from tests.shrink import shrink_network

LR = 0.5


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture
def network():
    network = nn.Module()
    network.backbone = nn.Sequential(RefinedConv2d(1, 1, 3, bias=False))
    network.head = nn.Module()
    network.head.offset_pred = nn.Conv2d(1, 2, 1, bias=False)
    return network


def _rates(network, **paramwise):
    wrapper = build_optim_wrapper(
        network, dict(optimizer=dict(type='SGD', lr=LR), paramwise_cfg=paramwise)
    )
    names = {id(param): name for name, param in network.named_parameters()}
    return {names[id(group['params'][0])]: group['lr'] for group in wrapper.optimizer.param_groups}


def test_dcn_offset_lr_mult_acts_on_every_offset_layer(network):
    assert _rates(network, dcn_offset_lr_mult=0.1) == {
        'backbone.0.weight': LR,
        'backbone.0.conv_offset.weight': 0.05,
        'backbone.0.conv_offset.bias': 0.05,
        'head.offset_pred.weight': 0.05,
    }


def test_longest_custom_key_wins(network):
    rates = _rates(
        network,
        dcn_offset_lr_mult=0.1,
        custom_keys={'backbone': dict(lr_mult=0.2), 'head.offset_pred': dict(lr_mult=0.4)},
    )
    assert rates == {
        'backbone.0.weight': 0.1,
        'backbone.0.conv_offset.weight': 0.05,
        'backbone.0.conv_offset.bias': 0.05,
        'head.offset_pred.weight': 0.2,
    }


def test_key_without_a_matching_parameter_is_refused(network):
    with pytest.raises(ConfigError, match="found 'bakbone'.* close matches: backbone"):
        _rates(network, custom_keys=dict(bakbone=dict(lr_mult=0.1)))


def test_offset_rate_without_offset_layers_is_refused():
    network = nn.Sequential(nn.Conv2d(1, 1, 1))
    with pytest.raises(ConfigError, match='dcn_offset_lr_mult'):
        _rates(network, dcn_offset_lr_mult=0.1)


def _groups(config):
    """(rate, weight decay) of each parameter that is trained, by its name;
    the network; the clip."""
    cfg = Config.fromfile(CONFIGS / f'multitask_refine/multitask-rcnn_{config}_coco.py')
    shrink_network(cfg.model)
    network = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(network, cfg.optim_wrapper)
    names = {id(param): name for name, param in network.named_parameters()}
    settings = {}
    for group in wrapper.optimizer.param_groups:
        for param in group['params']:
            settings[names[id(param)]] = (group['lr'], group['weight_decay'])
    return settings, network, wrapper.clip_grad_kwargs


def test_groups_of_the_adamw_recipe():
    """Offsets at a tenth, norms and biases without decay."""
    settings, network, clip = _groups('r50-tnr-pre_fpn-ms_rb-h_8xb2-adamw-90k')
    expected, kinds = {}, set()
    for prefix, module in network.named_modules():
        for name, param in module.named_parameters(prefix, recurse=False):
            if not param.requires_grad:
                continue
            offset = prefix.endswith(('conv_offset', 'offset_pred'))
            norm = isinstance(module, nn.BatchNorm2d)
            bias = name.endswith('.bias')
            expected[name] = (1e-5 if offset else 1e-4, 0 if norm or bias else 0.1)
            kinds.add((offset, norm, bias))
    assert len(kinds) == 6  # offset, norm, other; each weight and bias
    assert settings == {name: pytest.approx(values) for name, values in expected.items()}
    # 3x3 of conv3 to conv5, of the keypoint head, and its heatmaps' offsets.
    offsets = [name for name in settings if settings[name][0] < 5e-5]
    assert len(offsets) == 2 * (4 + 6 + 3 + 1 + 1)
    assert not [name for name in settings if 'layer1' in name]
    assert clip['max_norm'] == 35


def test_recipe_of_the_report_has_a_single_rate():
    settings, _, clip = _groups('r50_fpn-ms_rb-h_4xb3-90k')
    assert set(settings.values()) == {(0.03, 0.0001)}
    assert any('conv_offset' in name for name in settings)
    assert clip is None


def test_recipe_starts_like_mmdetection():
    """Weights, their normalization, and how the backbone is trained."""
    cfg = Config.fromfile(
        CONFIGS
        / 'multitask_refine/multitask-rcnn_r50-tnr-pre_fpn-ms_regular_8xb2-adamw-90k_coco.py'
    )
    theirs = Config.fromfile(
        Path(mmdet.__file__).parent / '.mim/configs/faster_rcnn/'
        'faster-rcnn_r50-tnr-pre_fpn_1x_coco.py'
    )
    for part, keys in dict(
        data_preprocessor=('mean', 'std', 'bgr_to_rgb'),
        backbone=('init_cfg', 'style', 'norm_cfg', 'norm_eval', 'frozen_stages'),
    ).items():
        for key in keys:
            assert cfg.model[part][key] == theirs.model[part][key], key
    assert cfg.optim_wrapper.optimizer == theirs.optim_wrapper.optimizer
    assert cfg.auto_scale_lr == theirs.auto_scale_lr
    assert 8 * cfg.train_dataloader.batch_size == (cfg.auto_scale_lr.base_batch_size)
