"""RefinedConv2d beside the regular convolution."""

import math

import pytest
import torch
import torch.nn.functional as F

from multitask_refine.ops import RefinedConv2d
from tests.test_ops.inputs import random_tensor


@pytest.mark.parametrize('modulated', [False, True])
@pytest.mark.parametrize(
    'settings',
    [
        dict(),
        dict(stride=2, bias=False),
        dict(dilation=2, padding=2),
        dict(groups=2, deform_groups=2),
    ],
)
def test_initialized_to_the_regular_convolution(modulated, settings):
    torch.manual_seed(4)
    settings = {'padding': 1, **settings}
    conv = RefinedConv2d(4, 6, 3, modulated=modulated, **settings).double()
    torch.nn.init.normal_(conv.conv_offset.weight)
    conv.init_weights()
    x = torch.randn(5, 4, 8, 7, dtype=torch.double)
    regular = F.conv2d(
        x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups
    )
    torch.testing.assert_close(conv(x), regular)


@pytest.mark.parametrize('modulated', [False, True])
def test_offsets_change_the_output_and_get_gradients(modulated):
    torch.manual_seed(5)
    conv = RefinedConv2d(2, 3, 3, padding=1, modulated=modulated)
    torch.nn.init.normal_(conv.conv_offset.weight)
    x = torch.randn(2, 2, 6, 6)
    regular = F.conv2d(x, conv.weight, conv.bias, padding=1)
    y = conv(x)
    assert (y - regular).abs().max() > 0.01
    y.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in conv.parameters())


def test_empty_batch():
    conv = RefinedConv2d(2, 3, 3, padding=1)
    y = conv(torch.zeros(0, 2, 5, 5))
    assert y.shape == (0, 3, 5, 5)
    y.sum().backward()
    assert all(p.grad is not None for p in conv.parameters())


def test_max_offset_by_hand():
    """A 1x1 kernel of weight 1; offsets of ln 3 are bounded to 2 tanh(ln(3) / 2) = 1 pixel."""
    conv = RefinedConv2d(1, 1, 1, bias=False, max_offset=2.0)
    torch.nn.init.ones_(conv.weight)
    with torch.no_grad():
        conv.conv_offset.bias.copy_(torch.tensor([0.0, math.log(3)]))  # y, x
    found = conv(torch.tensor([[[[1.0, 2.0, 4.0]]]]))
    assert found.flatten().tolist() == pytest.approx([2.0, 4.0, 0.0])


@pytest.mark.parametrize('modulated', [False, True])
def test_without_fast_cpu_ops_mmcv_computes_the_same(modulated):
    torch.manual_seed(16)
    conv = RefinedConv2d(4, 6, 3, padding=1, modulated=modulated)
    torch.nn.init.normal_(conv.conv_offset.weight)
    x = torch.randn(3, 4, 9, 9)
    fast = conv(x)
    conv.fast_cpu_ops = False
    torch.testing.assert_close(conv(x), fast)


def test_in_place_activation_gives_the_same_gradient():
    torch.manual_seed(13)
    conv = RefinedConv2d(3, 4, 3, padding=1).double()
    x = random_tensor(2, 3, 5, 5)
    grad_x = [
        torch.autograd.grad(F.relu(conv(x), inplace=inplace).sum(), x)[0]
        for inplace in (False, True)
    ]
    assert torch.equal(*grad_x)


@pytest.mark.parametrize('bias', [True, False])
def test_traced_graph_computes_the_same(bias):
    torch.manual_seed(15)
    conv = RefinedConv2d(4, 6, 3, padding=1, bias=bias)
    torch.nn.init.normal_(conv.conv_offset.weight)
    x = torch.randn(3, 4, 9, 9)
    graph = torch.jit.trace(conv, x, check_trace=False)
    torch.testing.assert_close(graph(x), conv(x))
    other = torch.randn(3, 4, 9, 9)
    torch.testing.assert_close(graph(other), conv(other))


@pytest.mark.parametrize('groups', [1, 2])
def test_mixed_precision(groups):
    torch.manual_seed(14)
    conv = RefinedConv2d(8, 8, 3, padding=1, groups=groups)
    x = torch.randn(2, 8, 9, 9, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16):
        y = conv(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), conv(x), rtol=0.02, atol=0.02)
    y.float().square().sum().backward()
    mixed = x.grad.clone(), conv.weight.grad.clone(), conv.bias.grad.clone()
    x.grad = None
    conv.zero_grad()
    conv(x).square().sum().backward()
    for found, exact in zip(mixed, (x.grad, conv.weight.grad, conv.bias.grad)):
        assert (found - exact).abs().max() < 0.03 * exact.abs().max()


def test_bound_does_not_change_the_gradient_at_zero_offsets():
    gradients = []
    for bound in (None, 2.0):
        torch.manual_seed(0)
        conv = RefinedConv2d(4, 3, 3, padding=1, max_offset=bound)
        conv(torch.rand(2, 4, 14, 14)).square().sum().backward()
        gradients.append(conv.conv_offset.weight.grad)
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(*gradients)
