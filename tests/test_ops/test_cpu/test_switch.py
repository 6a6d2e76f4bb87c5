"""The switch of the CPU implementations."""

import pytest
import torch
from torch import nn

from multitask_refine.ops import (
    InferenceLinear,
    RefinedConv2d,
    SeparableRoIAlign,
    WinogradConv2d,
    set_fast_cpu_ops,
)
from multitask_refine.ops.cpu import deform_conv, mkldnn_linear, winograd


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


@pytest.mark.parametrize('enabled', [True, False])
def test_winograd_and_onednn_run_only_behind_the_switch(monkeypatch, enabled):
    called = []

    def record(module, name):
        original = getattr(module, name)

        def call(*args):
            called.append(name)
            return original(*args)

        monkeypatch.setattr(module, name, call)

    record(winograd, 'conv3x3_by_winograd')
    record(deform_conv, 'prepack_linear')
    record(mkldnn_linear, 'mkldnn_linear')
    network = nn.Sequential(
        nn.Conv2d(128, 128, 3, padding=1), RefinedConv2d(4, 4, 3), InferenceLinear(4, 4)
    )
    set_fast_cpu_ops(network, enabled)
    conv, refined, linear = network
    conv(torch.randn(1, 128, 32, 32))
    refined(torch.randn(1, 4, 8, 8))
    with torch.no_grad():
        linear(torch.randn(3, 4))
    everything = ['conv3x3_by_winograd', 'prepack_linear', 'mkldnn_linear']
    assert called == (everything if enabled else [])
