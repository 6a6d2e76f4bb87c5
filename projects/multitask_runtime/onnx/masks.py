"""Masks from the network's boxes into the picture.

N people, masks of M x M cells on a box. mmdet's ``FCNMaskHead`` computes the
same with torch's ``grid_sample``.
"""

from typing import Tuple

import numpy as np


def paste_masks(
    masks: np.ndarray, boxes: np.ndarray, shape: Tuple[int, int], threshold: float
) -> np.ndarray:
    """Sample each mask at the centres of the picture's pixels, bilinearly.

    Args:
        masks (np.ndarray): (N, M, M) probabilities; outside of the box they
            are 0.
        boxes (np.ndarray): (N, 4) xyxy in pixels of the picture.
        shape (tuple[int, int]): Its height and width.
        threshold (float): From this on a pixel belongs to the person.

    Returns:
        np.ndarray: (N, H, W) bool.
    """
    pasted = np.zeros((len(masks), *shape), bool)
    for mask, box, picture in zip(masks, boxes, pasted):
        rows, down = _weigh(box[1], box[3], len(mask), shape[0])
        columns, across = _weigh(box[0], box[2], len(mask), shape[1])
        picture[rows, columns] = down @ mask @ across.T >= threshold
    return pasted


def _weigh(
    start: np.float32, stop: np.float32, cells: int, length: int
) -> Tuple[slice, np.ndarray]:
    """Along one axis, the pixels near the box and the weight of each cell for
    each of them, (pixels, M)."""
    first = int(max(np.floor(start) - 1, 0))
    last = int(min(np.ceil(stop) + 1, length))
    pixels = slice(first, max(first, last))
    centres = np.arange(pixels.start, pixels.stop, dtype=np.float32) + 0.5
    with np.errstate(divide='ignore', invalid='ignore'):
        place = (centres - start) / (stop - start)
    # A box without width is sampled at its middle, as mmdet does.
    place[np.isinf(place)] = 0.5
    distance = (place * cells - 0.5)[:, None] - np.arange(cells)
    return pixels, np.maximum(1 - abs(distance), 0).astype(np.float32)
