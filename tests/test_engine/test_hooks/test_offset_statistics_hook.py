"""Statistics of the learned offsets."""

import math
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from multitask_refine.engine import OffsetStatisticsHook
from multitask_refine.ops import RefinedConv2d


@pytest.fixture
def runner():
    model = nn.Sequential(RefinedConv2d(1, 1, 3, padding=1, modulated=True))
    return SimpleNamespace(model=model, iter=0, rank=0, visualizer=Mock(), logger=Mock())


def _step(hook, runner, iteration, size):
    runner.iter = iteration
    hook.before_train_iter(runner, iteration)
    runner.model(torch.zeros(1, 1, size, size))
    hook.after_train_iter(runner, iteration)


def _set_offsets(runner, y, x):
    """All nine points move by (y, x); the factors are large numbers."""
    bias = runner.model[0].conv_offset.bias.data
    bias[:18:2], bias[1:18:2], bias[18:] = y, x, 100.0


def test_mean_and_maximum_length_of_every_layer(runner):
    hook = OffsetStatisticsHook(interval=2)
    _set_offsets(runner, 3.0, 4.0)
    runner.model[0].conv_offset.bias.data[:2] = torch.tensor([0.0, 14.0])
    hook.before_train(runner)
    _step(hook, runner, 0, 16)
    runner.visualizer.add_scalars.assert_not_called()
    _step(hook, runner, 1, 16)
    (scalars,), settings = runner.visualizer.add_scalars.call_args
    assert settings == dict(step=2)
    assert scalars == {
        'offsets/0.conv_offset/mean': pytest.approx((8 * 5 + 14) / 9),
        'offsets/0.conv_offset/max': pytest.approx(14),
        'offsets/outside': 0,
    }
    runner.logger.warning.assert_not_called()


def test_warning_for_offsets_longer_than_the_map(runner):
    hook = OffsetStatisticsHook(interval=1)
    _set_offsets(runner, 0.0, 9.0)
    hook.before_train(runner)
    _step(hook, runner, 0, 8)
    (warning,) = runner.logger.warning.call_args.args
    assert '0.conv_offset (maximum 9.0 cells, map 8)' in warning
    assert 'dcn_offset_lr_mult' in warning
    (scalars,) = runner.visualizer.add_scalars.call_args.args
    assert scalars['offsets/outside'] == 1


def test_max_offset_of_the_layer_applies(runner):
    """2 tanh(ln(3) / 2) = 1 in both directions."""
    runner.model[0].max_offset = 2.0
    hook = OffsetStatisticsHook(interval=1)
    _set_offsets(runner, math.log(3), math.log(3))
    hook.before_train(runner)
    _step(hook, runner, 0, 8)
    (scalars,) = runner.visualizer.add_scalars.call_args.args
    assert scalars['offsets/0.conv_offset/max'] == pytest.approx(2**0.5)


def test_forward_hooks_are_removed_after_training(runner):
    hook = OffsetStatisticsHook(interval=1)
    hook.before_train(runner)
    hook.after_train(runner)
    _step(hook, runner, 0, 8)
    runner.visualizer.add_scalars.assert_not_called()
