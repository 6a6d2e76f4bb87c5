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
        one, other = ranked[start : start + _CHUNK_SIZE], ranked[start:]  # (n, 4), (N, 4)
        # IoUs of all pairs, (n, N), in mmcv's order of operations for the same rounding.
        left, top = (torch.maximum(one[:, None, i], other[:, i]) for i in (0, 1))
        right, bottom = (torch.minimum(one[:, None, i], other[:, i]) for i in (2, 3))
        intersection = (right - left).clamp_(min=0).mul_((bottom - top).clamp_(min=0))
        areas, other_areas = (
            (each[:, 2] - each[:, 0]) * (each[:, 3] - each[:, 1]) for each in (one, other)
        )
        union = (areas[:, None] + other_areas).sub_(intersection)
        overlaps = intersection / union > iou_threshold
        for i, row in enumerate(overlaps.numpy()):
            if remaining[i]:
                # Greedy: a box that was suppressed itself suppresses no other.
                remaining[i + 1 :] &= ~row[i + 1 :]
    kept = order[torch.from_numpy(keep)]
    return torch.cat([boxes[kept], scores[kept, None]], 1), kept
