"""Write instances as COCO person keypoint annotations.

COCO stores keypoints as pixel indices, continuous coordinates minus 0.5; its boxes and polygons
are continuous.
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
# Masks are written as polygons if these, rasterized again, have this IoU with the mask.
POLYGON_IOU = 0.98


def category() -> dict:
    """Return COCO's person category."""
    return dict(
        supercategory='person', id=1, name='person', keypoints=list(KEYPOINTS), skeleton=SKELETON
    )


def annotation(instance: Instance, *, id: int, image_id: int, with_keypoints: bool = True) -> dict:
    """Return the COCO annotation of an instance; without keypoints, all 17 are unlabeled."""
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
    """Encode a (H, W) bool mask in one of the three formats of COCO.

    Uncompressed RLE for a crowd, polygons if they are accurate enough, and otherwise compressed
    RLE.
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
    """Encode a mask as run lengths in column-major order, zeros first."""
    flat = mask.flatten(order='F')
    turns = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], turns, [flat.size]])).tolist()
    return [0] + runs if flat[0] else runs


def outline(mask: np.ndarray, zoom: int = 4) -> list[list[float]]:
    """Trace polygons around the components of a mask, none if one has a hole.

    Contours run through pixel centers; the mask is enlarged, so that they are near the border.
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
        points = (points + 0.5) / zoom
        polygons.append(np.round(points, 2).flatten().tolist())
    return polygons
