"""Detect files with normalized coordinates, or with boxes given by two corners.

COCO writes pixels, and boxes as x, y, width and height. A single other box may be a mistake;
that all boxes of a file are written otherwise is detected by statistics over the file.
"""

from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from .issues import Issue, format_value
from .masks import are_finite_numbers, find_polygon_error, find_rle_error, to_rle

# Rules for the file as a whole: one issue concerns all annotations.
FILE_RULES = ('normalized', 'corners')
_MIN_VALID = 0.99  # fraction of the boxes that must be valid corners
# To vote, one of both interpretations must overlap with the mask by this IoU, and better than
# the other by a margin.
_MIN_IOU, _IOU_MARGIN = 0.75, 0.1
# Votes that decide. A mask has this weight, and keypoints have 1.
_MIN_VOTES = 3
_MAX_VOTERS = 1000  # instances with a mask or keypoints to examine
# Without votes: number and fraction of the boxes that must reach out of their image if they are
# read as x, y, width and height.
_MIN_OUTSIDE, _MIN_OUTSIDE_FRACTION = 3, 0.25

Sizes = dict[int, tuple[int, int]]


class _BoxTable(NamedTuple):
    """The N annotations with a box of four finite numbers.

    Attributes:
        anns: Annotations.
        boxes: (N, 4) numbers as in the file.
        sizes: (N, 2) width and height of their images in pixels.
    """

    anns: list[dict]
    boxes: np.ndarray
    sizes: np.ndarray


def repair_coordinates(annotations: list[dict], sizes: Sizes, issues: list[Issue]) -> list[dict]:
    """Convert normalized coordinates and corner boxes if the whole file uses them.

    Args:
        annotations: Annotations with valid image ids; they are not changed.
        sizes: Width and height of each image by its id.
        issues: Extended by an issue for each of :data:`FILE_RULES` that the file breaks.

    Returns:
        Annotations in pixels with boxes as x, y, width and height.
    """
    table = _collect_boxes(annotations, sizes)
    if _are_normalized(table):
        found = f'fractions of the image (0 to 1) in all {len(table.anns)} boxes'
        fix = 'multiplied by width and height'
        issues.append(_file_issue('normalized', table, found, '"bbox" in pixels', fix))
        annotations = [_denormalize(ann, *sizes[ann['image_id']]) for ann in annotations]
        table = _collect_boxes(annotations, sizes)
    if _are_corners(table):
        found = f'two corners (x1, y1, x2, y2) in {len(table.anns)} boxes'
        expected, fix = '"bbox" as x, y, width and height', 'written as x, y, width and height'
        issues.append(_file_issue('corners', table, found, expected, fix))
        annotations = [
            ann | dict(bbox=_to_xywh(ann['bbox'])) if _has_box(ann) else ann for ann in annotations
        ]
    return annotations


def _has_box(ann: dict) -> bool:
    box = ann.get('bbox')
    return isinstance(box, list) and len(box) == 4 and are_finite_numbers(box)


def _to_xywh(box: list[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def _collect_boxes(annotations: list[dict], sizes: Sizes) -> _BoxTable:
    anns = [ann for ann in annotations if _has_box(ann)]
    return _BoxTable(
        anns,
        np.array([ann['bbox'] for ann in anns], float).reshape(-1, 4),
        np.array([sizes[ann['image_id']] for ann in anns], float).reshape(-1, 2),
    )


def _file_issue(rule: str, table: _BoxTable, found: str, expected: str, fix: str) -> Issue:
    first = table.anns[0]
    example = f'{format_value(first["bbox"])} of annotation {format_value(first["id"], 30)}'
    return Issue(rule, f'{found}, such as {example}', expected, fix, {})


def _are_normalized(table: _BoxTable) -> bool:
    """Check whether all boxes are fractions, and not only integers 0 and 1."""
    boxes = table.boxes
    if not len(boxes) or (table.sizes <= 2).all():
        return False
    # Rounding may move edges beyond 1.
    inside = boxes.min() >= -1e-3 and boxes.max() <= 1 + 1e-3
    return bool(inside and ((boxes > 0) & (boxes < 1)).any())


def _denormalize(ann: dict, width: int, height: int) -> dict:
    """Multiply the fields of an annotation that are fractions by the image size."""
    change = {}
    if _has_box(ann):
        x, y, w, h = ann['bbox']
        change['bbox'] = [x * width, y * height, w * width, h * height]
    if are_finite_numbers([ann.get('area')]) and ann['area'] <= 1:
        change['area'] = ann['area'] * width * height
    polygons = ann.get('segmentation')
    if isinstance(polygons, list) and all(
        isinstance(each, list) and are_finite_numbers(each) and max(each) <= 1.001
        for each in polygons
    ):
        change['segmentation'] = [
            [value * (height if index % 2 else width) for index, value in enumerate(each)]
            for each in polygons
        ]
    flat = ann.get('keypoints')
    if (
        isinstance(flat, list)
        and len(flat) % 3 == 0
        and are_finite_numbers(flat)
        and max(flat[::3] + flat[1::3]) <= 1.001
    ):
        change['keypoints'] = [
            value * (width, height, 1)[index % 3] for index, value in enumerate(flat)
        ]
    return ann | change


def _are_corners(table: _BoxTable) -> bool:
    """Check whether almost all boxes can be corners, and masks or keypoints agree.

    Without masks and keypoints, boxes that would reach far out of their image decide.
    """
    if not len(table.boxes):
        return False
    first, second = table.boxes[:, :2], table.boxes[:, 2:]
    tolerance = 1 + 0.01 * table.sizes
    is_inside = (first >= -tolerance) & (second <= table.sizes + tolerance)
    valid = ((second > first) & is_inside).all(1)
    if valid.mean() < _MIN_VALID:
        return False
    votes = []
    for ann, box, size in zip(*table, strict=True):
        vote = _vote_for_corners(ann, box, size)
        if vote:
            votes.append(vote)
        if len(votes) == _MAX_VOTERS:
            break
    if votes:
        for_corners = sum(vote for vote in votes if vote > 0)
        return for_corners >= _MIN_VOTES and for_corners >= 0.9 * np.abs(votes).sum()
    outside = (first + second > table.sizes + tolerance).any(1)
    return bool(outside.sum() >= _MIN_OUTSIDE and outside.mean() >= _MIN_OUTSIDE_FRACTION)


def _vote_for_corners(ann: dict, box: np.ndarray, size: np.ndarray) -> int:
    """Compare both interpretations of a box with the mask, or else with the keypoints.

    Returns:
        A positive number for corners, a negative one for x, y, width and height, 0 if undecided.
    """
    mask_box = _measure_mask(ann, *map(int, size))  # xywh
    if mask_box is not None:
        # pycocotools compares boxes as x, y, width and height: both readings of the four numbers.
        readings = np.stack([_to_xywh(box), box])  # corners, xywh
        # (2, 1) to two numbers
        as_corners, as_xywh = coco_mask.iou(readings, mask_box[None], [0])[:, 0]
        if abs(as_corners - as_xywh) < _IOU_MARGIN or max(as_corners, as_xywh) < _MIN_IOU:
            return 0
        return _MIN_VOTES if as_corners > as_xywh else -_MIN_VOTES
    flat = ann.get('keypoints')
    if not isinstance(flat, list) or len(flat) % 3 or not are_finite_numbers(flat):
        return 0
    points = np.reshape(flat, (-1, 3)).astype(float)  # (K, 3)
    points = points[points[:, 2] > 0, :2]  # labeled ones
    if len(points) < 3:
        return 0
    # A box surrounds all keypoints, but not tightly. Keypoints outside of the corners refute
    # them; keypoints inside confirm them only if the other reading leaves the image.
    tolerance = 1 + 0.1 * (box[2:] - box[:2])
    if ((points < box[:2] - tolerance) | (points > box[2:] + tolerance)).any():
        return -1
    return int((box[:2] + box[2:] > size + 1 + 0.01 * size).any())


def _measure_mask(ann: dict, width: int, height: int) -> np.ndarray | None:
    """Return the (4,) box of the mask as x, y, width and height, None without a valid mask."""
    mask = ann.get('segmentation')
    if isinstance(mask, dict) and not find_rle_error(mask, width, height):
        return coco_mask.toBbox(to_rle(mask, width, height))
    if (
        isinstance(mask, list)
        and mask
        and not any(find_polygon_error(each, width, height) for each in mask)
    ):
        points = np.concatenate([np.reshape(each, (-1, 2)) for each in mask]).astype(float)
        return np.concatenate([points.min(0), np.ptp(points, axis=0)])
    return None
