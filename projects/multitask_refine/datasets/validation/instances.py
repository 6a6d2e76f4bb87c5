"""Rules for the fields of one instance annotation.

Each rule checks one field, and may rely on the rules before it in :data:`RULES`. It returns
None or an :class:`~.issues.Issue` with the repaired fields. No rule changes its arguments.
"""

from collections.abc import Callable

import numpy as np
from pycocotools import mask as coco_mask

from .issues import Issue, format_value
from .masks import approximate_area, are_finite_numbers, find_polygon_error, find_rle_error, to_rle

# Boxes and keypoints may lie outside of the image by this many pixels.
MAX_OVERHANG = 1.0
# An area may differ from that of its mask by a factor and some pixels, as COCO's do: polygons
# overlap, crowds are outlined coarsely, and thin masks have few pixels.
AREA_FACTOR, AREA_TOLERANCE, BOX_FACTOR = 3.0, 32.0, 1.1
# From this factor on an evaluation puts the instance into another range of areas.
FATAL_AREA_FACTOR = 10.0

Size = tuple[int, int]


def check_ignore(ann: dict, size: Size, num_keypoints: int | None) -> Issue | None:
    """Check that ``ignore`` is not set; mmdet drops such annotations."""
    if not ann.get('ignore'):
        return None
    return Issue(
        'ignore',
        f'"ignore": {format_value(ann["ignore"])}',
        'an instance to learn, or "iscrowd": 1 for a region that does not count',
        fatal_in_test=False,
    )


def check_iscrowd(ann: dict, size: Size, num_keypoints: int | None) -> Issue | None:
    """Check that ``iscrowd`` is 0 or 1."""
    found = ann.get('iscrowd')
    if isinstance(found, int) and found in (0, 1):
        return None
    return Issue(
        'iscrowd',
        format_value(ann.get('iscrowd', 'nothing')),
        '0 or 1',
        'set to 0',
        dict(iscrowd=0),
    )


def check_segmentation(ann: dict, size: Size, num_keypoints: int | None) -> Issue | None:
    """Check the polygons or the RLE of the mask."""
    mask = ann.get('segmentation')
    if not mask:
        return None
    removed = 'mask removed', dict(segmentation=[])
    if isinstance(mask, dict):
        error = find_rle_error(mask, *size)
        expected = "run lengths of the image's pixels"
        return Issue('segmentation', error, expected, *removed) if error else None
    expected = 'a list of polygons, each of 3 corners or more'
    if not isinstance(mask, list):
        return Issue('segmentation', format_value(mask), expected, *removed)
    errors = [find_polygon_error(polygon, *size) for polygon in mask]
    if not any(errors):
        return None
    found = next(filter(None, errors))
    valid = [polygon for polygon, error in zip(mask, errors, strict=True) if not error]
    if not valid:
        return Issue('segmentation', found, expected, *removed)
    return Issue('segmentation', found, expected, 'polygon removed', dict(segmentation=valid))


def check_keypoints_length(ann: dict, size: Size, num_keypoints: int | None) -> Issue | None:
    """Check that ``keypoints`` has three numbers for each keypoint of the category."""
    flat = ann.get('keypoints')
    if flat is None or flat == []:
        return None
    if isinstance(flat, list) and (
        len(flat) == 3 * num_keypoints if num_keypoints else len(flat) % 3 == 0
    ):
        return None
    count = num_keypoints or 0
    return Issue(
        'keypoints',
        f'{len(flat)} numbers' if isinstance(flat, list) else format_value(flat),
        f'3 numbers for each of {count or "its"} keypoints',
        'no keypoint labeled',
        dict(keypoints=[0] * (3 * count), num_keypoints=0),
    )


def check_keypoint_values(ann: dict, size: Size, num_keypoints: int | None) -> Issue | None:
    """Check that coordinates are finite and visibilities 0, 1 or 2."""
    flat = ann.get('keypoints')
    if not flat or (are_finite_numbers(flat) and set(flat[2::3]) <= {0, 1, 2}):
        return None
    invalid = [
        start
        for start in range(0, len(flat), 3)
        if not are_finite_numbers(flat[start : start + 3]) or flat[start + 2] not in (0, 1, 2)
    ]
    expected = 'x, y and a visibility of 0, 1 or 2'
    return _unlabel_keypoints('keypoint_values', ann, invalid, expected)


def check_keypoints_inside(ann: dict, size: Size, num_keypoints: int | None) -> Issue | None:
    """Check that labeled keypoints lie in the image."""
    flat = ann.get('keypoints')
    if not flat:
        return None
    width, height = size
    xs, ys = flat[::3], flat[1::3]
    # Almost all instances leave here, without a loop in Python.
    if min(*xs, *ys) >= -MAX_OVERHANG and max(xs) <= width and max(ys) <= height:
        return None
    outside = [
        3 * index
        for index, (x, y, visibility) in enumerate(zip(xs, ys, flat[2::3], strict=True))
        if visibility and not (-MAX_OVERHANG <= x <= width and -MAX_OVERHANG <= y <= height)
    ]
    if not outside:
        return None
    expected = f'a keypoint in an image of {width} x {height} pixels'
    issue = _unlabel_keypoints('keypoint_outside', ann, outside, expected)
    return issue._replace(fatal_in_test=False)


def check_num_keypoints(ann: dict, size: Size, num_keypoints: int | None) -> Issue | None:
    """Check that ``num_keypoints`` is the number of labeled keypoints."""
    if not ann.get('keypoints'):
        return None
    visibilities = ann['keypoints'][2::3]
    count, found = len(visibilities) - visibilities.count(0), ann.get('num_keypoints')
    if type(found) is int and found == count:
        return None
    # COCO's evaluation only asks whether there are any.
    is_harmless = 'num_keypoints' not in ann or (type(found) is int and bool(found) == bool(count))
    return Issue(
        'num_keypoints',
        format_value(found) if found is not None else 'nothing',
        f'{count}, the labeled keypoints',
        f'set to {count}',
        dict(num_keypoints=count),
        fatal_in_test=not is_harmless,
    )


def check_bbox(ann: dict, size: Size, num_keypoints: int | None) -> Issue | None:
    """Check that the box has an extent and lies in the image; derive a missing one."""
    box, (image_width, image_height) = ann.get('bbox'), size
    expected = 'x, y, width and height'
    if box is None or box == []:
        return _derive_box(ann, size, expected)
    if not isinstance(box, list) or len(box) != 4 or not are_finite_numbers(box):
        return Issue('box', format_value(box), expected)
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return Issue('box', format_value(box), 'a width and height above 0')
    left, right = max(x, 0), min(x + width, image_width)
    top, bottom = max(y, 0), min(y + height, image_height)
    expected = f'a box in an image of {image_width} x {image_height} pixels'
    if right <= left or bottom <= top:
        return Issue('box', format_value(box), expected)
    if max(-x, -y, x + width - image_width, y + height - image_height) <= MAX_OVERHANG:
        return None
    return Issue(
        'box_overhang',
        format_value(box),
        expected,
        'clipped to the image',
        dict(bbox=[left, top, right - left, bottom - top]),
        fatal_in_test=False,
    )


def check_box_covers_mask(ann: dict, size: Size, num_keypoints: int | None) -> Issue | None:
    """Check that the mask is not much larger than the box."""
    if not ann.get('segmentation'):
        return None
    box_area = _box_area(ann)
    limit = (box_area * BOX_FACTOR + AREA_TOLERANCE) * AREA_FACTOR
    # Rasterization is slow, and almost never necessary.
    if approximate_area(ann['segmentation']) <= limit:
        return None
    mask_area = _mask_area(ann, size)
    if mask_area <= limit:
        return None
    return Issue(
        'box_and_mask',
        f'a box of {box_area:.0f} pixels',
        f'a box around its mask of {mask_area:.0f} pixels',
        'box put around the mask',
        dict(bbox=_mask_box(ann, size)),
    )


def check_box_size(ann: dict, size: Size, num_keypoints: int | None) -> Issue | None:
    """Check that the box has a pixel at least; mmdet drops smaller ones, COCO does not."""
    if min(ann['bbox'][2:]) >= 1:
        return None
    expected = 'a box at least 1 pixel wide and high'
    return Issue('box_small', format_value(ann['bbox']), expected, fatal_in_test=False)


def check_area(ann: dict, size: Size, num_keypoints: int | None) -> Issue | None:
    """Check that the area is about that of the mask and no more than the box."""

    def is_near(mask_area: float, factor: float) -> bool:
        return mask_area / factor - AREA_TOLERANCE <= area <= mask_area * factor + AREA_TOLERANCE

    area, box_area = ann.get('area'), _box_area(ann)
    rule, found, is_fatal = 'area_differs', format_value(area), True
    if not are_finite_numbers([area]) or area <= 0:
        rule, expected = 'area', 'pixels of the mask, above 0'
        found = found if 'area' in ann else 'nothing'
    elif area > box_area * BOX_FACTOR + AREA_TOLERANCE:
        expected = f'no more than the box, {box_area:.0f}'
        is_fatal = area > box_area * FATAL_AREA_FACTOR + AREA_TOLERANCE
    else:
        mask = ann.get('segmentation')
        # Rasterization is slow, and almost never necessary.
        if not mask or is_near(approximate_area(mask), AREA_FACTOR):
            return None
        mask_area = _mask_area(ann, size)
        if is_near(mask_area, AREA_FACTOR):
            return None
        expected = f'that of its mask, {mask_area:.0f}'
        is_fatal = not is_near(mask_area, FATAL_AREA_FACTOR)
    mask_area = _mask_area(ann, size) if ann.get('segmentation') else 0.0
    # Without a pixel in the mask the box is the best estimate.
    repaired = min(mask_area, box_area * BOX_FACTOR) or box_area
    return Issue(
        rule,
        found,
        expected,
        f'set to {repaired:.0f}',
        dict(area=repaired),
        fatal_in_test=is_fatal,
    )


RULES: tuple[Callable[[dict, Size, int | None], Issue | None], ...] = (
    check_ignore,
    check_iscrowd,
    check_segmentation,
    check_keypoints_length,
    check_keypoint_values,
    check_keypoints_inside,
    check_num_keypoints,
    check_bbox,
    check_box_covers_mask,
    check_box_size,
    check_area,
)


def repair_instance(
    ann: dict, size: Size, num_keypoints: int | None
) -> tuple[dict | None, list[Issue]]:
    """Apply all rules to one annotation.

    Args:
        ann: Annotation with valid ids.
        size: Width and height of its image in pixels.
        num_keypoints: Number of keypoints of its category, None if unknown.

    Returns:
        The repaired annotation, None if it is to be removed, and its issues.
    """
    issues = []
    for rule in RULES:
        issue = rule(ann, size, num_keypoints)
        if issue:
            issues.append(issue)
            if issue.change is None:
                return None, issues
            ann = ann | issue.change
    return ann, issues


def _derive_box(ann: dict, size: Size, expected: str) -> Issue:
    """Derive the box from the mask, or else from the labeled keypoints."""
    if ann.get('segmentation'):
        box = _mask_box(ann, size)
        if min(box[2:]) > 0:
            return Issue('box', 'nothing', expected, 'box put around the mask', dict(bbox=box))
    points = np.reshape(ann.get('keypoints') or [], (-1, 3))  # (K, 3)
    points = points[points[:, 2] > 0, :2]
    if len(points) < 2:
        return Issue('box', 'nothing', f'{expected}, a mask or 2 labeled keypoints')
    # Coordinates are pixel indices; the last pixel extends to the next index.
    points = points.clip(0, [size[0] - 1, size[1] - 1])
    extent = points.max(0) - points.min(0) + 1
    return Issue(
        'box',
        'nothing',
        expected,
        f'box put around its {len(points)} labeled keypoints',
        dict(bbox=[*points.min(0).tolist(), *extent.tolist()]),
    )


def _unlabel_keypoints(rule: str, ann: dict, starts: list[int], expected: str) -> Issue:
    """Make an issue whose repair sets the keypoints at some offsets to 0, 0, 0."""
    flat = list(ann['keypoints'])
    found = format_value(flat[starts[0] : starts[0] + 3])
    for start in starts:
        flat[start : start + 3] = [0, 0, 0]
    count = sum(bool(value) for value in flat[2::3] if value in (0, 1, 2))
    change = dict(keypoints=flat, num_keypoints=count)
    return Issue(rule, found, expected, f'{len(starts)} keypoints unlabeled', change)


def _box_area(ann: dict) -> float:
    return float(ann['bbox'][2] * ann['bbox'][3])


def _mask_area(ann: dict, size: Size) -> float:
    """Count the pixels of the mask; a thin polygon may have none."""
    return float(coco_mask.area(to_rle(ann['segmentation'], *size)))


def _mask_box(ann: dict, size: Size) -> list[float]:
    """Return x, y, width and height of the mask, all 0 if it has no pixel."""
    return coco_mask.toBbox(to_rle(ann['segmentation'], *size)).tolist()
