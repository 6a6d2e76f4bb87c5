"""Non-maximum suppression on the CPU, many pairs of boxes at a time."""

from typing import Tuple

import numpy as np
import torch
from torch import Tensor

_ROWS = 128  # boxes at a time: what is computed of their pairs stays in caches


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tuple[Tensor, Tensor]:
    """What ``mmcv.ops.nms`` finds, whose kernel for the CPU takes pair after
    pair on one thread. In float32 the results are the same to the bit.

    Args:
        boxes (Tensor): Boxes xyxy, shape (N, 4).
        scores (Tensor): Shape (N).
        iou_threshold (float): A box is left out if its intersection over
            union with a better one that is kept is greater.

    Returns:
        tuple: The kept boxes with their scores, best first, shape (n, 5),
        and their indices, int64 (n).
    """
    order = scores.sort(descending=True)[1]
    keep = order[_stays(boxes[order], iou_threshold)]
    return torch.cat([boxes[keep], scores[keep, None]], 1), keep


def _stays(boxes: Tensor, iou_threshold: float) -> Tensor:
    """Whether each box, (N, 4), best first, overlaps with no better one that
    stays, bool (N)."""
    stays = np.ones(len(boxes), bool)
    for first in range(0, len(boxes), _ROWS):
        rest = stays[first:]
        apart = ~_overlap(boxes[first : first + _ROWS], boxes[first:], iou_threshold).numpy()
        for i, row in enumerate(apart):
            if rest[i]:
                rest[i + 1 :] &= row[i + 1 :]
    return torch.from_numpy(stays)


def _overlap(some: Tensor, others: Tensor, iou_threshold: float) -> Tensor:
    """Whether pairs of boxes, (n, 4) and (N, 4), overlap by more than the
    threshold, bool (n, N). The order of operations is mmcv's."""
    left, top = (torch.maximum(some[:, None, i], others[:, i]) for i in (0, 1))
    width, height = (
        (torch.minimum(some[:, None, i], others[:, i]) - near).clamp_(min=0)
        for i, near in ((2, left), (3, top))
    )
    shared = width.mul_(height)
    areas = _areas(some)[:, None] + _areas(others)
    return shared / areas.sub_(shared) > iou_threshold


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
