"""Learning rates of the layers that predict offsets."""
import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

import projects.multitask_refine  # noqa: F401
from projects.multitask_refine.errors import ConfigError
from projects.multitask_refine.ops import RefinedConv2d

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
    wrapper = build_optim_wrapper(network, dict(
        optimizer=dict(type='SGD', lr=LR), paramwise_cfg=paramwise))
    names = {id(param): name for name, param in network.named_parameters()}
    return {
        names[id(group['params'][0])]: group['lr']
        for group in wrapper.optimizer.param_groups
    }


def test_dcn_offset_lr_mult_acts_on_every_offset_layer(network):
    assert _rates(network, dcn_offset_lr_mult=0.1) == {
        'backbone.0.weight': LR,
        'backbone.0.conv_offset.weight': 0.05,
        'backbone.0.conv_offset.bias': 0.05,
        'head.offset_pred.weight': 0.05,
    }


def test_the_longest_custom_key_wins(network):
    rates = _rates(
        network,
        dcn_offset_lr_mult=0.1,
        custom_keys={
            'backbone': dict(lr_mult=0.2),
            'head.offset_pred': dict(lr_mult=0.4)
        })
    assert rates == {
        'backbone.0.weight': 0.1,
        'backbone.0.conv_offset.weight': 0.05,
        'backbone.0.conv_offset.bias': 0.05,
        'head.offset_pred.weight': 0.2,
    }


def test_a_key_that_matches_no_parameter_is_refused(network):
    with pytest.raises(ConfigError,
                       match="custom_keys: 'bakbone' .* near are backbone"):
        _rates(network, custom_keys=dict(bakbone=dict(lr_mult=0.1)))


def test_an_offset_rate_without_an_offset_is_refused():
    network = nn.Sequential(nn.Conv2d(1, 1, 1))
    with pytest.raises(ConfigError, match='dcn_offset_lr_mult'):
        _rates(network, dcn_offset_lr_mult=0.1)
