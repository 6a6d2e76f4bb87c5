"""torchvision's anchors by hand."""

import math

import torch

from multitask_refine.models import TorchvisionAnchorGenerator


def test_anchors_by_hand():
    """An image of 32 x 96 pixels: 8 x 24 cells at stride 4, then 4 x 12 cells, then 1 x 3 cells
    with steps of 32 // 1 and 96 // 3 pixels."""
    generator = TorchvisionAnchorGenerator(strides=[4, 8, 64], ratios=[2.0], scales=[8])
    fine, middle, coarse = generator.grid_priors([(8, 24), (4, 12), (1, 3)], device='cpu')
    assert [len(a) for a in (fine, middle, coarse)] == [192, 48, 3]
    # 32 / sqrt(2) = 22.6 wide, 45.3 high: half of each, rounded.
    base = torch.tensor([-11.0, -23.0, 11.0, 23.0])
    assert fine[0].tolist() == base.tolist()
    assert fine[1].tolist() == (base + torch.tensor([4.0, 0, 4, 0])).tolist()
    assert fine[24].tolist() == (base + torch.tensor([0.0, 4, 0, 4])).tolist()
    half = 512 / math.sqrt(2) / 2, 512 * math.sqrt(2) / 2
    assert coarse[2].tolist() == [
        64.0 - round(half[0]),
        -round(half[1]),
        64.0 + round(half[0]),
        round(half[1]),
    ]
