"""Whether the coordinates of a file as a whole are what COCO's are.

COCO writes pixels, and boxes as x, y, width and height. Files of other tools
have fractions of the image, or boxes as two corners. One such box may be a
slip; that all of them are is seen by statistics over the file.
"""

from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np
from pycocotools import mask as coco_mask

from .issues import Problem, shorten
from .masks import are_numbers, encode, polygon_fault, rle_fault

# Rules of which one case spoils all annotations.
FILE_RULES = ('normalized', 'corners')
# Share of the boxes that must be valid corners: a few may be wrong anyway.
_SHARE_VALID = 0.99
# How well one of the two readings must fit a mask to count, and how much
# better than the other, in intersection over union.
_GOOD_FIT, _MARGIN = 0.75, 0.1
# Votes that are enough: those of one mask, or of three sets of keypoints.
_MIN_VOTES = 3
# Instances with a mask or keypoints that are looked at.
_MOST_WITNESSES = 1000
# Without any, so many boxes, and this share of them, must reach out of their
# image if they are read as x, y, width and height.
_MIN_OUTSIDE, _SHARE_OUTSIDE = 3, 0.25

Sizes = Dict[int, Tuple[int, int]]


class _Boxes(NamedTuple):
    """Boxes of finite numbers.

    Attributes:
        owners: Their N annotations.
        boxes: (N, 4) numbers as in the file.
        sizes: (N, 2) width and height of their images, in pixels.
    """

    owners: List[dict]
    boxes: np.ndarray
    sizes: np.ndarray


def mend_coordinates(entries: List[dict], sizes: Sizes, problems: List[Problem]) -> List[dict]:
    """Turn fractions of the image into pixels, and corners into x, y, width
    and height, if the file as a whole has them.

    Args:
        entries (list[dict]): Annotations that belong to images; are not
            changed.
        sizes (dict[int, tuple[int, int]]): Width and height of each image.
        problems (list[Problem]): Gets one of :data:`FILE_RULES` each.

    Returns:
        list[dict]: The annotations, in pixels and with COCO's boxes.
    """
    table = _collect_boxes(entries, sizes)
    if _are_normalized(table):
        problems.append(
            _file_problem(
                'normalized',
                table,
                'fractions of the image (0 to 1) in all {count} boxes',
                'pixels',
                'multiplied by width and height',
            )
        )
        entries = _scale(entries, sizes)
        table = _collect_boxes(entries, sizes)
    if _are_corners(table):
        problems.append(
            _file_problem(
                'corners',
                table,
                'two corners (x1, y1, x2, y2) in {count} boxes',
                'x, y, width and height',
                'written as x, y, width and height',
            )
        )
        entries = [
            {**ann, 'bbox': _from_corners(ann['bbox'])} if _is_box(ann) else ann for ann in entries
        ]
    return entries


def _is_box(ann: dict) -> bool:
    box = ann.get('bbox')
    return isinstance(box, list) and len(box) == 4 and are_numbers(box)


def _collect_boxes(entries: List[dict], sizes: Sizes) -> _Boxes:
    owners = [ann for ann in entries if _is_box(ann)]
    return _Boxes(
        owners,
        np.array([ann['bbox'] for ann in owners], float).reshape(-1, 4),
        np.array([sizes[ann['image_id']] for ann in owners], float).reshape(-1, 2),
    )


def _file_problem(rule: str, table: _Boxes, found: str, expected: str, fix: str) -> Problem:
    first = table.owners[0]
    found = found.format(count=len(table.owners))
    return Problem(
        rule,
        None,
        None,
        f'{found}, such as {shorten(first["bbox"])} of annotation {shorten(first["id"], 30)}',
        f'"bbox" in {expected}' if rule == 'normalized' else f'"bbox" as {expected}',
        fix,
    )


def _are_normalized(table: _Boxes) -> bool:
    boxes = table.boxes
    if not len(boxes) or (table.sizes <= 2).all():
        return False
    # Rounding may take the far edges beyond 1 by a little.
    inside = boxes.min() >= -1e-3 and boxes.max() <= 1 + 1e-3
    return bool(inside and ((boxes > 0) & (boxes < 1)).any())


def _scale(entries: List[dict], sizes: Sizes) -> List[dict]:
    """Multiply what is from 0 to 1 by the size of the image."""
    scaled = []
    for ann in entries:
        width, height = sizes[ann['image_id']]
        change = {}
        if _is_box(ann):
            x, y, w, h = ann['bbox']
            change['bbox'] = [x * width, y * height, w * width, h * height]
        if are_numbers([ann.get('area')]) and ann['area'] <= 1:
            change['area'] = ann['area'] * width * height
        polygons = ann.get('segmentation')
        if isinstance(polygons, list) and all(
            isinstance(each, list) and are_numbers(each) and max(each) <= 1.001
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
            and are_numbers(flat)
            and max(flat[::3] + flat[1::3]) <= 1.001
        ):
            change['keypoints'] = [
                value * (width, height, 1)[index % 3] for index, value in enumerate(flat)
            ]
        scaled.append({**ann, **change})
    return scaled


def _are_corners(table: _Boxes) -> bool:
    """Whether the boxes are corners: nearly all can be, and the masks and
    keypoints, or how far the boxes reach otherwise, say that they are."""
    if not len(table.boxes):
        return False
    first, second = table.boxes[:, :2], table.boxes[:, 2:]
    slack = 1 + 0.01 * table.sizes
    valid = ((second > first) & (first >= -slack) & (second <= table.sizes + slack)).all(1)
    if valid.mean() < _SHARE_VALID:
        return False
    votes = []
    for owner, box, size in zip(*table):
        vote = _vote_for_corners(owner, box, size)
        if vote:
            votes.append(vote)
        if len(votes) == _MOST_WITNESSES:
            break
    if votes:
        corners = sum(vote for vote in votes if vote > 0)
        return corners >= _MIN_VOTES and corners >= 0.9 * np.abs(votes).sum()
    outside = (first + second > table.sizes + slack).any(1)
    return bool(outside.sum() >= _MIN_OUTSIDE and outside.mean() >= _SHARE_OUTSIDE)


def _vote_for_corners(ann: dict, box: np.ndarray, size: np.ndarray) -> int:
    """How strongly the mask, or else the keypoints, say that a box is two
    corners; below 0 if x, y, width and height, 0 if they do not tell."""
    corners, sides = box, np.concatenate([box[:2], box[:2] + box[2:]])
    extent = _mask_extent(ann, *map(int, size))
    if extent is not None:
        fits = _overlap(corners, extent), _overlap(sides, extent)
        if abs(fits[0] - fits[1]) < _MARGIN or max(fits) < _GOOD_FIT:
            return 0
        return _MIN_VOTES if fits[0] > fits[1] else -_MIN_VOTES
    points = _labelled_points(ann)
    if len(points) < 3:
        return 0
    # A box is around all keypoints, but not close around few of them: what
    # lies outside refutes corners, what is inside confirms them only if the
    # other reading leaves the image.
    slack = 1 + 0.1 * (corners[2:] - corners[:2])
    if ((points < corners[:2] - slack) | (points > corners[2:] + slack)).any():
        return -1
    return int((sides[2:] > size + 1 + 0.01 * size).any())


def _mask_extent(ann: dict, width: int, height: int) -> Optional[np.ndarray]:
    """(4, ) corners around the mask; None if there is no faultless one."""
    mask = ann.get('segmentation')
    if isinstance(mask, dict) and not rle_fault(mask, width, height):
        x, y, w, h = coco_mask.toBbox(encode(mask, width, height))
        return np.array([x, y, x + w, y + h])
    if (
        isinstance(mask, list)
        and mask
        and not any(polygon_fault(each, width, height) for each in mask)
    ):
        points = np.concatenate([np.reshape(each, (-1, 2)) for each in mask])
        return np.concatenate([points.min(0), points.max(0)])
    return None


def _labelled_points(ann: dict) -> np.ndarray:
    """(N, 2) positions of the labelled keypoints."""
    flat = ann.get('keypoints')
    if not isinstance(flat, list) or len(flat) % 3 or not are_numbers(flat):
        return np.zeros((0, 2))
    points = np.reshape(flat, (-1, 3)).astype(float)
    return points[points[:, 2] > 0, :2]


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes given by corners."""
    inner = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    if (inner <= 0).any():
        return 0.0
    total = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod()
    return float(inner.prod() / (total - inner.prod()))


def _from_corners(box: List[float]) -> List[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]
