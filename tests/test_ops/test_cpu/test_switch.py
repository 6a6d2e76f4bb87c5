"""The switch of the CPU implementations."""

import pytest
import torch
from torch import nn

from multitask_refine.ops import RefinedConv2d, SeparableRoIAlign, WinogradConv2d, set_fast_cpu_ops


def _network():
    return nn.Sequential(
        nn.Conv2d(128, 128, 3, padding=1), RefinedConv2d(4, 4, 3), SeparableRoIAlign(7)
    )


@pytest.mark.parametrize('enabled', [True, False])
def test_every_layer_is_switched_and_parameters_keep_their_names(enabled):
    network = _network()
    names = list(network.state_dict())
    set_fast_cpu_ops(network, enabled)
    conv, refined, pooling = network
    assert isinstance(conv, WinogradConv2d) == enabled
    assert refined.fast_cpu_ops == pooling.fast_cpu_ops == enabled
    assert list(network.state_dict()) == names


def test_winograd_layers_can_be_switched_off_again():
    network = _network()
    set_fast_cpu_ops(network, True)
    set_fast_cpu_ops(network, False)
    conv = network[0]
    x = torch.randn(1, 128, 32, 32)
    expected = nn.functional.conv2d(x, conv.weight, conv.bias, padding=1)
    assert torch.equal(conv(x), expected)
