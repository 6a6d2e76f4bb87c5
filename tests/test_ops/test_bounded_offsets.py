"""Offsets with a bound, and positions in half precision."""

import math

import pytest
import torch

from multitask_refine.ops import RefinedConv2d, bound_offsets, resample_heatmaps
from tests.test_models.heads import offset_head


def test_bounded_offset_by_hand():
    """2 tanh(x / 2): at x = ln 3, tanh(ln(3) / 2) = (3 - 1) / (3 + 1) = 1/2,
    and the slope is 1 - (1/2)^2 = 3/4."""
    offsets = torch.tensor([0.0, math.log(3), -1e6], requires_grad=True)
    bounded = bound_offsets(offsets, 2.0)
    assert bounded.tolist() == pytest.approx([0.0, 1.0, -2.0])
    bounded.sum().backward()
    assert offsets.grad.tolist() == pytest.approx([1.0, 0.75, 0.0])
    assert bound_offsets(offsets, None) is offsets


def test_bounded_convolution_by_hand():
    """A 1x1 kernel of weight 1, whose offsets of ln 3 become one pixel."""
    conv = RefinedConv2d(1, 1, 1, bias=False, max_offset=2.0)
    torch.nn.init.ones_(conv.weight)
    with torch.no_grad():
        conv.conv_offset.bias.copy_(torch.tensor([0.0, math.log(3)]))  # y, x
    found = conv(torch.tensor([[[[1.0, 2.0, 4.0]]]]))
    assert found.flatten().tolist() == pytest.approx([2.0, 4.0, 0.0])


def _gradients(layer, run):
    torch.manual_seed(1)
    run(layer, torch.rand(2, 4, 14, 14)).square().sum().backward()
    return [p.grad for name, p in layer.named_parameters() if 'offset' in name]


@pytest.mark.parametrize(
    'build, run',
    [
        (
            lambda bound: RefinedConv2d(4, 3, 3, padding=1, max_offset=bound),
            lambda conv, x: conv(x),
        ),
        (lambda bound: offset_head(max_offset=bound), lambda head, x: head.refined_heatmaps(x)),
    ],
    ids=['convolution', 'heatmaps'],
)
def test_from_zero_the_bounded_learns_as_the_free(build, run):
    found = []
    for bound in (None, 2.0):
        torch.manual_seed(0)
        found.append(_gradients(build(bound), run))
    for free, bounded in zip(*found, strict=True):
        assert free.abs().sum() > 0
        torch.testing.assert_close(bounded, free)


def test_no_heatmap_offset_is_longer_than_the_bound():
    head = offset_head(max_offset=1.5)
    torch.nn.init.normal_(head.offset_pred.weight, std=10)
    offsets = head(torch.randn(3, 4, 14, 14))[1]
    assert 1.4 < offsets.abs().max() <= 1.5


def test_positions_are_exact_in_half_precision():
    """bfloat16 has steps of 1/8 at cell 20; an offset of 1/32 reads 31 parts
    of the own cell and one of its neighbor."""
    heatmaps = torch.zeros(1, 1, 28, 28, dtype=torch.bfloat16)
    heatmaps[0, 0, 20, 20] = 1.0
    offsets = torch.zeros(1, 2, 28, 28, dtype=torch.bfloat16)
    torch.testing.assert_close(resample_heatmaps(heatmaps, offsets), heatmaps.float())
    offsets[:, 0] = 1 / 32
    found = resample_heatmaps(heatmaps, offsets)[0, 0, 20]
    assert found[19:21].tolist() == pytest.approx([1 / 32, 31 / 32], abs=1e-5)
