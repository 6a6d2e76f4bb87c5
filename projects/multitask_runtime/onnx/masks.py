"""Paste the masks of RoIs into the image.

The same as MMDetection's ``FCNMaskHead`` computes with torch's ``grid_sample``.

Shape letters: N instances, M side of a mask in cells.
"""

import numpy as np

from multitask_runtime.utils.types import Array


def paste_masks(
    masks: Array, boxes: Array, image_size: tuple[int, int], threshold: float
) -> Array:
    """Sample each mask bilinearly at the centers of the image's pixels.

    Args:
        masks (np.ndarray): Mask probabilities, shape (N, M, M); 0 outside of the box.
        boxes (np.ndarray): xyxy in image pixels, shape (N, 4).
        image_size (tuple[int, int]): Height and width of the image.
        threshold (float): Least probability of a foreground pixel.

    Returns:
        np.ndarray: bool, shape (N, H, W).
    """
    pasted = np.zeros((len(masks), *image_size), bool)
    for mask, box, image_mask in zip(masks, boxes, pasted, strict=True):
        rows, weight_y = _interpolation_weights(box[1], box[3], len(mask), image_size[0])
        columns, weight_x = _interpolation_weights(box[0], box[2], len(mask), image_size[1])
        # (h, M) x (M, M) x (M, w): bilinear interpolation is separable
        image_mask[rows, columns] = weight_y @ mask @ weight_x.T >= threshold
    return pasted


def _interpolation_weights(
    start: np.float32, stop: np.float32, num_cells: int, length: int
) -> tuple[slice, Array]:
    """Compute the linear interpolation along one axis.

    Returns:
        tuple[slice, np.ndarray]: The pixels around the box, and the weight of each cell
        for each of them, shape (pixels, M).
    """
    first = int(max(np.floor(start) - 1, 0))
    last = int(min(np.ceil(stop) + 1, length))
    pixels = slice(first, max(first, last))
    centers = np.arange(pixels.start, pixels.stop, dtype=np.float32) + 0.5
    with np.errstate(divide='ignore', invalid='ignore'):
        position = (centers - start) / (stop - start)
    # MMDetection samples a box without width at its middle, too.
    position[np.isinf(position)] = 0.5
    distance = (position * num_cells - 0.5)[:, None] - np.arange(num_cells)
    return pixels, np.maximum(1 - abs(distance), 0).astype(np.float32)
