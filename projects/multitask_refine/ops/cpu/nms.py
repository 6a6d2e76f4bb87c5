"""Non-maximum suppression on the CPU, vectorized over pairs of boxes."""

import numpy as np
import torch
from torch import Tensor

_CHUNK_SIZE = 128  # boxes at a time, so that the IoUs of their pairs stay in the caches


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> tuple[Tensor, Tensor]:
    """Suppress boxes that overlap with a box of a higher score.

    The results are those of ``mmcv.ops.nms``, in float32 to the bit; mmcv's CPU kernel visits one
    pair after the other on one thread.

    Args:
        boxes (Tensor): Boxes xyxy, shape (N, 4).
        scores (Tensor): Shape (N).
        iou_threshold (float): A box is suppressed if its IoU with a kept box of a higher score is
            greater.

    Returns:
        tuple[Tensor, Tensor]: The kept boxes with their scores, highest score first, shape
        (n, 5), and their indices, int64 (n).
    """
    order = scores.sort(descending=True)[1]
    ranked = boxes[order]
    keep = np.ones(len(boxes), bool)
    for start in range(0, len(boxes), _CHUNK_SIZE):
        remaining = keep[start:]  # a view: assignments change `keep`
        chunk = ranked[start : start + _CHUNK_SIZE]
        overlaps = _is_iou_greater(chunk, ranked[start:], iou_threshold).numpy()
        for i, row in enumerate(overlaps):
            if remaining[i]:
                # Greedy: a box that was suppressed itself suppresses no other.
                remaining[i + 1 :] &= ~row[i + 1 :]
    kept = order[torch.from_numpy(keep)]
    return torch.cat([boxes[kept], scores[kept, None]], 1), kept


def _is_iou_greater(boxes1: Tensor, boxes2: Tensor, threshold: float) -> Tensor:
    """Compare the IoUs of all pairs of boxes, (n, 4) and (N, 4), with a threshold: bool (n, N)."""
    # mmcv's order of operations, for the same rounding.
    left, top = (torch.maximum(boxes1[:, None, i], boxes2[:, i]) for i in (0, 1))  # (n, N) each
    right, bottom = (torch.minimum(boxes1[:, None, i], boxes2[:, i]) for i in (2, 3))
    intersection = (right - left).clamp_(min=0).mul_((bottom - top).clamp_(min=0))
    areas1, areas2 = (
        (each[:, 2] - each[:, 0]) * (each[:, 3] - each[:, 1]) for each in (boxes1, boxes2)
    )
    union = (areas1[:, None] + areas2).sub_(intersection)
    return intersection / union > threshold
