"""Values by hand, mmcv's deformable convolution and numerical gradients."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from multitask_refine.ops import bound_offsets, resample_heatmaps, resample_heatmaps_by_deform_conv
from tests.test_ops.inputs import random_tensor

ONE_TO_NINE = torch.arange(1.0, 10.0, dtype=torch.double).reshape(1, 1, 3, 3)
IMPLEMENTATIONS = [resample_heatmaps, resample_heatmaps_by_deform_conv]


@pytest.mark.parametrize('resample', IMPLEMENTATIONS)
@pytest.mark.parametrize(
    'cell, offset, expected',
    [
        # (x, y) of the cell, (dx, dy): Eq. 2 and 3 by hand on 1..9
        ((1, 1), (0.5, -0.25), 0.25 * 2.5 + 0.75 * 5.5),
        ((0, 0), (1.0, 1.0), 5.0),
        ((0, 0), (-0.5, 0.0), 0.5 * 1),  # half of it lies outside
        ((2, 2), (0.25, 0.5), 0.75 * 0.5 * 9),
        ((0, 2), (-1.0, 0.0), 0.0),
        ((1, 1), (0.0, 7.0), 0.0),
    ],
)
def test_resampled_value_by_hand(resample, cell, offset, expected):
    offsets = torch.zeros(1, 2, 3, 3, dtype=torch.double)
    offsets[0, :, cell[1], cell[0]] = torch.tensor(offset).double()
    refined = resample(ONE_TO_NINE, offsets)
    assert refined[0, 0, cell[1], cell[0]].item() == pytest.approx(expected)
    untouched = torch.ones(3, 3, dtype=torch.bool)
    untouched[cell[1], cell[0]] = False
    assert torch.allclose(refined[0, 0][untouched], ONE_TO_NINE[0, 0][untouched])


def test_implementations_agree():
    torch.manual_seed(0)
    heatmaps, offsets = random_tensor(3, 4, 6, 6), random_tensor(3, 8, 6, 6, scale=3)
    results = [resample(heatmaps, offsets) for resample in IMPLEMENTATIONS]
    torch.testing.assert_close(*results)
    gradients = [torch.autograd.grad(y.square().sum(), (heatmaps, offsets)) for y in results]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('resample', IMPLEMENTATIONS)
def test_gradients(resample):
    torch.manual_seed(1)
    assert gradcheck(resample, (random_tensor(2, 2, 4, 4), random_tensor(2, 4, 4, 4)))


def test_offsets_of_wrong_shape_are_rejected():
    with pytest.raises(ValueError, match=r'\(1, 2, 3, 3\).*\(1, 3, 3, 3\)'):
        resample_heatmaps(ONE_TO_NINE, torch.zeros(1, 3, 3, 3))


def test_positions_are_exact_in_half_precision():
    """bfloat16 has steps of 1/8 at cell 20; with an offset of 1/32 the weights of the cell and its
    neighbor are 31/32 and 1/32."""
    heatmaps = torch.zeros(1, 1, 28, 28, dtype=torch.bfloat16)
    heatmaps[0, 0, 20, 20] = 1.0
    offsets = torch.zeros(1, 2, 28, 28, dtype=torch.bfloat16)
    torch.testing.assert_close(resample_heatmaps(heatmaps, offsets), heatmaps.float())
    offsets[:, 0] = 1 / 32
    found = resample_heatmaps(heatmaps, offsets)[0, 0, 20]
    assert found[19:21].tolist() == pytest.approx([1 / 32, 31 / 32], abs=1e-5)


def test_bounded_offset_by_hand():
    """2 tanh(x / 2): at x = ln 3, tanh(ln(3) / 2) = (3 - 1) / (3 + 1) = 1/2,
    and the slope is 1 - (1/2)^2 = 3/4."""
    offsets = torch.tensor([0.0, math.log(3), -1e6], requires_grad=True)
    bounded = bound_offsets(offsets, 2.0)
    assert bounded.tolist() == pytest.approx([0.0, 1.0, -2.0])
    bounded.sum().backward()
    assert offsets.grad.tolist() == pytest.approx([1.0, 0.75, 0.0])
    assert bound_offsets(offsets, None) is offsets
