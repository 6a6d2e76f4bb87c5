"""Winograd convolution beside PyTorch's, in float64 and in float32."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from multitask_refine.ops import WinogradConv2d, conv3x3_by_winograd, convert_to_winograd
from multitask_refine.ops.cpu import winograd


def _random(*shape):
    return torch.randn(*shape, dtype=torch.double).requires_grad_()


@pytest.mark.parametrize(
    'batch, height, width', [(1, 1, 1), (1, 4, 8), (3, 7, 9), (2, 13, 6), (7, 3, 6)]
)
@pytest.mark.parametrize('strip, block', [(1 << 16, 256), (1, 2), (99, 3)])
def test_values_and_gradients_equal_pytorch(batch, height, width, strip, block, monkeypatch):
    """Whole and cut tiles, in one strip, in strips of one row and of some rows."""
    monkeypatch.setattr(winograd, '_STRIP', strip)
    monkeypatch.setattr(winograd, '_BLOCK', block)
    torch.manual_seed(0)
    inputs = _random(batch, 3, height, width), _random(5, 3, 3, 3), _random(5)
    expected = F.conv2d(*inputs, padding=1)
    found = conv3x3_by_winograd(*inputs)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    weight = torch.randn_like(expected)
    gradients = [torch.autograd.grad((weight * y).sum(), inputs) for y in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-11)


def test_values_by_hand():
    """Map and kernel 1 to 9. The center is the sum of squares; the corner is the product of the
    map's (1, 2, 4, 5) and the kernel's (5, 6, 8, 9)."""
    nine = torch.arange(1.0, 10.0).view(1, 1, 3, 3)
    found = conv3x3_by_winograd(nine, nine)
    assert found[0, 0, 1, 1].item() == pytest.approx(285)
    assert found[0, 0, 0, 0].item() == pytest.approx(5 + 12 + 32 + 45)


def test_rounding_error_in_float32():
    torch.manual_seed(0)
    x, weight = torch.randn(4, 256, 14, 14), torch.randn(128, 256, 3, 3)
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    error = conv3x3_by_winograd(x, weight) - exact
    assert error.abs().max() < 2e-5 * exact.abs().max()


def test_only_suitable_layers_change_and_parameters_keep_their_names():
    suitable = nn.Conv2d(128, 128, 3, padding=1)
    others = [
        nn.Conv2d(128, 64, 3, padding=1),
        nn.Conv2d(128, 128, 1),
        nn.Conv2d(128, 128, 3),
        nn.Conv2d(128, 128, 3, 2, padding=1),
        nn.Conv2d(128, 128, 3, padding=2, dilation=2),
        nn.Conv2d(128, 128, 3, padding=1, groups=2),
        nn.Conv2d(128, 128, 3, padding=1, padding_mode='reflect'),
    ]
    model = nn.Sequential(suitable, *others)
    names = list(model.state_dict())
    convert_to_winograd(model)
    assert type(suitable) is WinogradConv2d
    assert all(type(layer) is nn.Conv2d for layer in others)
    assert list(model.state_dict()) == names


@pytest.mark.parametrize(
    'side, autocast, expected', [(32, False, True), (24, False, False), (32, True, False)]
)
def test_layer_is_conv2d_where_winograd_is_slower(side, autocast, expected, monkeypatch):
    used = []
    monkeypatch.setattr(
        winograd,
        'conv3x3_by_winograd',
        lambda x, *layer: used.append(1) or conv3x3_by_winograd(x, *layer),
    )
    layer = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1))
    convert_to_winograd(layer)
    x = torch.randn(1, 128, side, side)
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        found = layer(x)
        expected_output = F.conv2d(x, layer[0].weight, layer[0].bias, padding=1)
    assert bool(used) is expected
    torch.testing.assert_close(found, expected_output, rtol=0, atol=1e-4)


def test_prepacked_weight_gives_the_same():
    layer = nn.Sequential(nn.Conv2d(128, 130, 3, padding=1))
    convert_to_winograd(layer)
    x = torch.randn(1, 128, 32, 32)
    with torch.no_grad():
        before = layer(x)
        layer[0].prepack()
        assert torch.equal(layer(x), before)


def test_prepacked_weight_does_not_affect_gradients():
    layer = WinogradConv2d(128, 130, 3, padding=1)
    layer.prepack()
    x = torch.randn(1, 128, 32, 32, requires_grad=True)
    inputs = x, layer.weight, layer.bias
    expected_output = F.conv2d(x, layer.weight, layer.bias, padding=1)
    found, expected = (
        torch.autograd.grad(y.square().sum(), inputs) for y in (layer(x), expected_output)
    )
    for one, other in zip(found, expected):
        assert (one - other).abs().max() < 1e-4 * other.abs().max()
