"""Values by hand, mmcv's operator and numerical gradients."""

import mmcv.ops
import pytest
import torch
from torch.autograd import gradcheck

from multitask_refine.ops import SeparableRoIAlign
from multitask_refine.ops.cpu import roi_align
from tests.test_ops.inputs import random_rois, random_tensor


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('size, ratio', [(7, 0), (7, 1), (14, 2)])
def test_equals_mmcv(size, ratio, aligned, monkeypatch):
    monkeypatch.setattr(roi_align, '_CHUNK_SIZE', 7)
    torch.manual_seed(6)
    x = random_tensor(3, 4, 10, 12)
    rois = random_rois(20)
    rois[0, 1:] = torch.tensor([-40.0, -40.0, 200.0, 200.0])  # partly far outside
    rois[1, 1:] = torch.tensor([200.0, 200.0, 240.0, 240.0])  # nothing inside
    rois[2, 1:] = torch.tensor([20.0, 20.0, 20.0, 20.0])  # empty
    results = [
        pool(size, 1 / 8, ratio, aligned=aligned)(x, rois)
        for pool in (SeparableRoIAlign, mmcv.ops.RoIAlign)
    ]
    # mmcv rounds positions to float32.
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in results]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_value_by_hand():
    """A ramp whose pixel (column i, row j) is i + 100 j."""
    ramp = torch.arange(16.0) + 100 * torch.arange(16.0)[:, None]
    rois = torch.tensor([[0.0, 8.0, 16.0, 24.0, 40.0]])  # 4 x 6 pixels at 1/4
    pooled = SeparableRoIAlign(2, 0.25, 0)(ramp[None, None], rois)[0, 0]
    # Pixel indices of the bins' centers: half a pixel less than their positions.
    columns, rows = torch.tensor([2.5, 4.5]), torch.tensor([5.0, 8.0])
    torch.testing.assert_close(pooled, columns + 100 * rows[:, None])


def test_gradients_and_empty_rois():
    torch.manual_seed(7)
    rois = torch.tensor([[0.0, 9.0, 9.0, 25.0, 33.0], [1.0, -5.0, 10.0, 30.0, 20.0]])
    assert gradcheck(
        lambda x: SeparableRoIAlign(3, 0.25)(x, rois.double()), random_tensor(2, 2, 12, 12)
    )
    x = random_tensor(2, 3, 8, 8)
    pooled = SeparableRoIAlign(7)(x, torch.zeros(0, 5))
    assert pooled.shape == (0, 3, 7, 7)
    assert torch.autograd.grad(pooled.sum(), x)[0].abs().sum() == 0


def test_without_fast_cpu_ops_it_is_mmcv():
    torch.manual_seed(8)
    x, rois = torch.rand(3, 4, 10, 12), random_rois(20).float()
    pool = SeparableRoIAlign(7, 1 / 8)
    pool.fast_cpu_ops = False
    assert torch.equal(pool(x, rois), mmcv.ops.RoIAlign(7, 1 / 8)(x, rois))
