"""Instances in the form of COCO's person keypoint annotations.

COCO counts joints from the first pixel's centre: what it stores is a
continuous coordinate minus 0.5. Its boxes and polygons are continuous.
"""

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from .scene import Instance
from .skeleton import KEYPOINTS

SKELETON = [
    [16, 14],
    [14, 12],
    [17, 15],
    [15, 13],
    [12, 13],
    [6, 12],
    [7, 13],
    [6, 7],
    [6, 8],
    [7, 9],
    [8, 10],
    [9, 11],
    [2, 3],
    [1, 2],
    [1, 3],
    [2, 4],
    [3, 5],
    [4, 6],
    [5, 7],
]
# A polygon is written where, drawn again, it is this close to the mask.
POLYGON_IOU = 0.98


def category() -> dict:
    """COCO's person category."""
    return dict(
        supercategory='person', id=1, name='person', keypoints=list(KEYPOINTS), skeleton=SKELETON
    )


def annotation(instance: Instance, *, id: int, image_id: int, with_keypoints: bool = True) -> dict:
    """One COCO annotation. Without keypoints, all 17 are unlabelled."""
    code = coco_mask.encode(np.asfortranarray(instance.mask, np.uint8))
    visibility = instance.visibility * with_keypoints
    stored = np.where(visibility[:, None] > 0, instance.keypoints - 0.5, 0)
    keypoints = []
    for (x, y), v in zip(stored.tolist(), visibility.tolist()):
        keypoints += [round(x, 2), round(y, 2), v]
    return dict(
        segmentation=segmentation(instance.mask, instance.crowd),
        num_keypoints=int((visibility > 0).sum()),
        area=int(instance.mask.sum()),
        iscrowd=int(instance.crowd),
        keypoints=keypoints,
        image_id=image_id,
        bbox=[int(v) for v in coco_mask.toBbox(code)],
        category_id=1,
        id=id,
    )


def segmentation(mask: np.ndarray, crowd: bool = False) -> list | dict:
    """A (H, W) bool mask in one of COCO's three forms: plain run lengths for a
    crowd, polygons where they are close enough, else packed run lengths.
    """
    size = list(mask.shape)
    if crowd:
        return dict(counts=run_lengths(mask), size=size)
    polygons = outline(mask)
    code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    if polygons:
        drawn = coco_mask.merge(coco_mask.frPyObjects(polygons, *size))
        if coco_mask.iou([drawn], [code], [0])[0, 0] >= POLYGON_IOU:
            return polygons
    return dict(counts=code['counts'].decode('ascii'), size=size)


def run_lengths(mask: np.ndarray) -> list[int]:
    """Lengths of the runs of equal pixels down the columns, 0s first."""
    flat = mask.flatten(order='F')
    turns = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], turns, [flat.size]])).tolist()
    return [0] + runs if flat[0] else runs


def outline(mask: np.ndarray, zoom: int = 4) -> list[list[float]]:
    """Polygons around a mask's pieces; none if a piece has a hole.

    The mask is enlarged first: a traced line runs through the centres of the
    outermost pixels, and small pixels have their centres near the border.
    """
    large = mask.astype(np.uint8).repeat(zoom, 0).repeat(zoom, 1)
    contours, tree = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if tree is None or (tree[0, :, 3] >= 0).any():
        return []
    polygons = []
    for contour in contours:
        points = cv2.approxPolyDP(contour, 0.3 * zoom, True)[:, 0]
        if len(points) < 3:
            return []
        places = (points + 0.5) / zoom
        polygons.append(np.round(places, 2).flatten().tolist())
    return polygons
