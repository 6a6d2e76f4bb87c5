"""NMS by hand and beside mmcv's operator."""

import mmcv.ops
import pytest
import torch

from multitask_refine.ops import nms


def test_by_hand():
    """IoUs: 0.4 of the first and second box, 0.8 of the first and third, 0.5 of the second and
    third, 0 with the fourth."""
    boxes = torch.tensor(
        [
            [0.0, 0.0, 10.0, 10.0],
            [0.0, 0.0, 10.0, 4.0],
            [0.0, 0.0, 10.0, 8.0],
            [50.0, 50.0, 60.0, 60.0],
        ]
    )
    scores = torch.tensor([0.9, 0.6, 0.8, 0.7])
    dets, keep = nms(boxes, scores, 0.5)
    assert keep.tolist() == [0, 3, 1]  # a suppressed box suppresses nothing
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], 1)[keep])
    assert nms(boxes, scores, 0.39)[1].tolist() == [0, 3]
    # An IoU equal to the threshold does not suppress.
    assert nms(boxes[:2], scores[:2], 0.4)[1].tolist() == [0, 1]


@pytest.mark.parametrize('count', [0, 1, 127, 128, 129, 700])
@pytest.mark.parametrize('extent', [20, 200])
@pytest.mark.parametrize('threshold', [0.3, 0.7])
def test_equals_mmcv(count, extent, threshold):
    """Including equal scores, equal boxes and boxes without area."""
    torch.manual_seed(count)
    corners = (400 * torch.rand(count, 2)).round()
    boxes = torch.cat([corners, corners + extent * torch.rand(count, 2)], 1)
    boxes[::11] = boxes[:1].clone()
    boxes[5::13, 2] = boxes[5::13, 0]
    scores = (40 * torch.rand(count)).round() / 40
    for ours, theirs in zip(nms(boxes, scores, threshold), mmcv.ops.nms(boxes, scores, threshold)):
        assert torch.equal(ours, theirs)
    if count == 700:
        assert count // 20 < len(theirs) < count - count // 20
