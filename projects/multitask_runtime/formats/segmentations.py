"""Masks, run-length encodings and polygons of COCO segmentations.

Shape letters: H, W height and width of the image.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
from pycocotools import mask as mask_utils

from multitask_runtime.utils.types import Array

Segmentation: TypeAlias = Sequence[Sequence[float]] | Mapping[str, Any]


def to_mask(segmentation: Segmentation, height: int, width: int) -> Array:
    """Rasterize a segmentation as pycocotools does.

    Args:
        segmentation (list | dict): Polygons, or an RLE, compressed or not.
        height (int): Height of the image.
        width (int): Width of the image.

    Returns:
        np.ndarray: bool, shape (H, W).
    """
    if isinstance(segmentation, Mapping) and not isinstance(segmentation['counts'], list):
        rle = segmentation
    else:
        rle = mask_utils.frPyObjects(segmentation, height, width)
        if isinstance(rle, list):  # one RLE for each polygon
            rle = mask_utils.merge(rle)
    mask: Array = mask_utils.decode(rle).astype(bool)
    return mask


def to_rle(mask: Array) -> dict[str, Any]:
    """Encode a mask, bool of shape (H, W), as a compressed RLE that JSON can hold."""
    rle = mask_utils.encode(np.asfortranarray(mask, np.uint8))
    return dict(size=list(rle['size']), counts=rle['counts'].decode())


def mask_to_polygons(mask: Array, tolerance: float = 0.0) -> tuple[list[list[float]], int]:
    """Trace the borders of a mask along the edges of its pixels.

    Args:
        mask (np.ndarray): bool, shape (H, W).
        tolerance (float): Distance in pixels by which a polygon may leave the border, to
            have fewer corners. With 0, rasterization gives the same mask, except for its
            holes. Defaults to 0.

    Returns:
        tuple[list[list[float]], int]: Polygons as x, y of each corner in a row, continuous
        image pixels; and the number of holes, which polygons cannot hold.
    """
    # Contours go through the centers of border pixels. In the doubled image each pixel has
    # a center of its own beside each of its corners, which rounding up maps to the corner.
    doubled = mask.astype(np.uint8).repeat(2, 0).repeat(2, 1)  # (2H, 2W)
    contours, tree = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    polygons, num_holes = [], 0
    for contour, (_, _, _, parent) in zip(contours, [] if tree is None else tree[0], strict=True):
        if parent >= 0:
            num_holes += 1
            continue
        corners = _drop_straight((contour[:, 0] + 1) // 2)
        if tolerance:
            few = cv2.approxPolyDP(corners.astype(np.float32), tolerance, True)[:, 0]
            corners = few if len(few) > 2 else corners
        polygons.append(corners.astype(float).flatten().tolist())
    return polygons, num_holes


def _drop_straight(points: Array) -> Array:
    """Drop repeated points of a closed outline, (N, 2) int, and those on straight lines."""
    points = points[(points != np.roll(points, 1, 0)).any(1)]
    before, after = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
    corners: Array = points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    return corners
