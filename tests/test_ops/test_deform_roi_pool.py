"""Values by hand, mmcv's RoIAlign and numerical gradients."""

import mmcv.ops
import pytest
import torch
from torch.autograd import gradcheck

from multitask_refine.ops import (
    DeformRoIPool,
    SeparableRoIAlign,
    deform_roi_pool_by_grid_sample,
    deform_roi_pool_by_mmcv,
)
from tests.test_ops.inputs import random_rois, random_tensor


def test_moved_bins_by_hand():
    """On a ramp whose pixel (column i, row j) is i + 100 j the value of a bin is that of its center,
    whose pixel index is half a pixel less than its position."""
    ramp = torch.arange(16.0) + 100 * torch.arange(16.0)[:, None]
    x = ramp.double()[None, None]
    rois = torch.tensor([[0.0, 8.0, 16.0, 24.0, 40.0]]).double()  # 4 x 6 at 1/4
    offsets = torch.zeros(1, 2, 2, 2, dtype=torch.double)
    offsets[0, 0, 1, 0] = 3.0  # the lower left bin: 0.1 * 4 * 3 to the right
    offsets[0, 1, 0, 1] = -2.0  # the upper right bin: 0.1 * 6 * 2 upwards
    y = deform_roi_pool_by_grid_sample(x, rois, offsets, 2, 0.25, 2)[0, 0]
    columns, rows = (2 + 1 - 0.5, 2 + 3 - 0.5), (4 + 1.5 - 0.5, 4 + 4.5 - 0.5)
    expected = torch.tensor(
        [
            [columns[0] + 100 * rows[0], columns[1] + 100 * (rows[0] - 1.2)],
            [columns[0] + 1.2 + 100 * rows[1], columns[1] + 100 * rows[1]],
        ]
    )
    torch.testing.assert_close(y, expected.double())


def test_equal_offsets_are_roi_align_of_the_shifted_roi():
    torch.manual_seed(8)
    x, rois = random_tensor(3, 4, 10, 12), random_rois(20)
    offsets = torch.randn(20, 2, 1, 1, dtype=torch.double).expand(-1, -1, 7, 7)
    y = deform_roi_pool_by_grid_sample(x, rois, offsets, 7, 1 / 8, 2, 0.3)
    moved = rois.clone()
    step = 0.3 * (rois[:, 3:] - rois[:, 1:3]) * offsets[:, :, 0, 0]
    moved[:, 1:] += step.repeat(1, 2)
    expected = mmcv.ops.RoIAlign(7, 1 / 8, 2)(x, moved)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


def test_gradients():
    torch.manual_seed(9)
    rois = torch.tensor([[0.0, 9.0, 9.0, 25.0, 33.0], [1.0, 5.0, 10.0, 30.0, 20.0]])

    def pool(x, offsets):
        return deform_roi_pool_by_grid_sample(x, rois.double(), offsets, 3, 0.25, 2)

    assert gradcheck(pool, (random_tensor(2, 2, 12, 12), random_tensor(2, 2, 3, 3)))


def test_initialized_to_roi_align_and_offsets_get_gradients():
    torch.manual_seed(10)
    x, rois = random_tensor(3, 4, 10, 12), random_rois(6)
    pool = DeformRoIPool(14, 4, 1 / 8).double()
    plain = SeparableRoIAlign(14, 1 / 8, 2)(x, rois)
    torch.testing.assert_close(pool(x, rois), plain)
    pool(x, rois).square().sum().backward()
    assert pool.conv_offset.weight.grad.abs().sum() > 0
    torch.nn.init.normal_(pool.conv_offset.weight)
    assert (pool(x, rois) - plain).abs().max() > 0.01
    with pytest.raises(ValueError, match='sampling_ratio'):
        DeformRoIPool(14, 4, sampling_ratio=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
def test_equals_mmcv_on_cuda():
    torch.manual_seed(11)
    x, rois = random_tensor(3, 4, 10, 12), random_rois(20)
    offsets = random_tensor(20, 2, 7, 7)
    ours = deform_roi_pool_by_grid_sample(x, rois, offsets, 7, 1 / 8, 2)
    theirs = deform_roi_pool_by_mmcv(
        x.cuda().float(), rois.cuda().float(), offsets.cuda().float(), 7, 1 / 8, 2
    )
    torch.testing.assert_close(ours.float(), theirs.cpu(), rtol=1e-4, atol=1e-4)
