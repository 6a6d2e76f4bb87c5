"""What the annotation of one instance must be, field by field.

A rule looks at one field, when those before it are in order. It gives None, or
a finding, which also says how the annotation is mended. No entry is changed
in place.
"""

from typing import Callable, List, NamedTuple, Optional, Tuple

import numpy as np
from pycocotools import mask as coco_mask

from .issues import Finding, shorten
from .masks import are_numbers, encode, polygon_fault, rle_fault, rough_area

# How far a box or a joint may lie outside of the image, in pixels.
OVERHANG = 1.0
# An area may differ from its mask's by a factor and some pixels; COCO's do:
# polygons overlap, crowds are drawn coarsely, slivers have few pixels.
AREA_FACTOR, AREA_SLACK, BOX_FACTOR = 3.0, 32.0, 1.1
# By so much not even the order of magnitude is right.
ABSURD_FACTOR = 10.0


class Place(NamedTuple):
    """What an annotation is compared with.

    Attributes:
        width: Of its image, in pixels.
        height: Of its image.
        joints: How many its category has; None if nothing says so.
    """

    width: int
    height: int
    joints: Optional[int]


def _crowd(ann: dict, place: Place) -> Optional[Finding]:
    found = ann.get('iscrowd')
    if isinstance(found, int) and found in (0, 1):
        return None
    return Finding(
        'iscrowd', shorten(ann.get('iscrowd', 'nothing')), '0 or 1', 'set to 0', dict(iscrowd=0)
    )


def _ignore(ann: dict, place: Place) -> Optional[Finding]:
    # mmdet leaves these out, whatever else they have.
    if not ann.get('ignore'):
        return None
    return Finding(
        'ignore',
        f'"ignore": {shorten(ann["ignore"])}',
        'an instance to learn, or "iscrowd": 1 for a region that does not count',
        stops_test=False,
    )


def _box(ann: dict, place: Place) -> Optional[Finding]:
    box = ann.get('bbox')
    if box is None or box == []:
        return _missing_box(ann, place)
    if not isinstance(box, list) or len(box) != 4 or not are_numbers(box):
        return Finding('box', shorten(box), 'x, y, width and height')
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return Finding('box', shorten(box), 'a width and height above 0')
    left, right = max(x, 0), min(x + width, place.width)
    top, bottom = max(y, 0), min(y + height, place.height)
    size = f'an image of {place.width} x {place.height} pixels'
    if right <= left or bottom <= top:
        return Finding('box', shorten(box), f'a box in {size}')
    most = max(-x, -y, x + width - place.width, y + height - place.height)
    if most <= OVERHANG:
        return None
    return Finding(
        'box_overhang',
        shorten(box),
        f'a box in {size}',
        'clipped to the image',
        dict(bbox=[left, top, right - left, bottom - top]),
        stops_test=False,
    )


def _missing_box(ann: dict, place: Place) -> Finding:
    """Derive the box from the mask, else from the labelled keypoints."""
    found, expected = 'nothing', 'x, y, width and height'
    if ann.get('segmentation'):
        tight = _tight_box(ann, place)
        if min(tight[2:]) > 0:
            return Finding('box', found, expected, 'box put around the mask', dict(bbox=tight))
    points = np.reshape(ann.get('keypoints') or [], (-1, 3))
    points = points[points[:, 2] > 0, :2]
    if len(points) < 2:
        return Finding('box', found, f'{expected}, a mask or 2 labelled keypoints')
    # The index of a pixel; the pixel reaches from there to the next.
    points = points.clip(0, [place.width - 1, place.height - 1])
    extent = points.max(0) - points.min(0) + 1
    return Finding(
        'box',
        found,
        expected,
        f'box put around its {len(points)} labelled keypoints',
        dict(bbox=[*points.min(0).tolist(), *extent.tolist()]),
    )


def _mask(ann: dict, place: Place) -> Optional[Finding]:
    mask = ann.get('segmentation')
    size = place.width, place.height
    if not mask:
        return None
    removed = 'mask removed', dict(segmentation=[])
    if isinstance(mask, dict):
        fault = rle_fault(mask, *size)
        return fault and Finding(
            'segmentation', fault, "run lengths of the image's pixels", *removed
        )
    expected = 'a list of polygons, each of 3 corners or more'
    if not isinstance(mask, list):
        return Finding('segmentation', shorten(mask), expected, *removed)
    faults = [polygon_fault(polygon, *size) for polygon in mask]
    if not any(faults):
        return None
    whole = [polygon for polygon, fault in zip(mask, faults) if not fault]
    found = next(filter(None, faults))
    if not whole:
        return Finding('segmentation', found, expected, *removed)
    return Finding('segmentation', found, expected, 'polygon removed', dict(segmentation=whole))


def _box_and_mask(ann: dict, place: Place) -> Optional[Finding]:
    if not ann.get('segmentation'):
        return None
    box = _box_area(ann)
    most = (box * BOX_FACTOR + AREA_SLACK) * AREA_FACTOR
    if rough_area(ann['segmentation']) <= most:
        return None
    mask = _mask_area(ann, place)
    if mask <= most:
        return None
    return Finding(
        'box_and_mask',
        f'a box of {box:.0f} pixels',
        f'a box around its mask of {mask:.0f} pixels',
        'box put around the mask',
        dict(bbox=_tight_box(ann, place)),
    )


def _tight_box(ann: dict, place: Place) -> List[float]:
    """x, y, width and height of the mask; of a sliver all may be 0."""
    return coco_mask.toBbox(encode(ann['segmentation'], place.width, place.height)).tolist()


def _small_box(ann: dict, place: Place) -> Optional[Finding]:
    # mmdet leaves these out; an evaluation takes them.
    if min(ann['bbox'][2:]) >= 1:
        return None
    return Finding(
        'box_small', shorten(ann['bbox']), 'a box at least 1 pixel wide and high', stops_test=False
    )


def _area(ann: dict, place: Place) -> Optional[Finding]:
    area = ann.get('area')
    if not are_numbers([area]) or area <= 0:
        found = shorten(area) if 'area' in ann else 'nothing'
        return Finding('area', found, 'pixels of the mask, above 0', *_measure(ann, place))
    box = _box_area(ann)
    if area > box * BOX_FACTOR + AREA_SLACK:
        return _other_area(
            ann, place, f'no more than the box, {box:.0f}', area > box * ABSURD_FACTOR + AREA_SLACK
        )
    if not ann.get('segmentation'):
        return None
    # What the lines enclose tells nearly always, and sooner.
    if _is_near(area, rough_area(ann['segmentation']), AREA_FACTOR):
        return None
    mask = _mask_area(ann, place)
    if _is_near(area, mask, AREA_FACTOR):
        return None
    return _other_area(
        ann, place, f'that of its mask, {mask:.0f}', not _is_near(area, mask, ABSURD_FACTOR)
    )


def _is_near(area: float, mask: float, factor: float) -> bool:
    return mask / factor - AREA_SLACK <= area <= mask * factor + AREA_SLACK


def _other_area(ann: dict, place: Place, expected: str, is_absurd: bool) -> Finding:
    return Finding(
        'area_differs', shorten(ann['area']), expected, *_measure(ann, place), stops_test=is_absurd
    )


def _measure(ann: dict, place: Place) -> Tuple[str, dict]:
    """The fix of an area."""
    mask = _mask_area(ann, place) if ann.get('segmentation') else 0.0
    area = min(mask, _box_area(ann) * BOX_FACTOR) or _box_area(ann)
    return f'set to {area:.0f}', dict(area=area)


def _mask_area(ann: dict, place: Place) -> float:
    """Pixels of the mask; a sliver may have none."""
    return float(coco_mask.area(encode(ann['segmentation'], place.width, place.height)))


def _box_area(ann: dict) -> float:
    return float(ann['bbox'][2] * ann['bbox'][3])


def _keypoints(ann: dict, place: Place) -> Optional[Finding]:
    flat = ann.get('keypoints')
    if flat is None or flat == []:
        return None
    if isinstance(flat, list) and (
        len(flat) == 3 * place.joints if place.joints else len(flat) % 3 == 0
    ):
        return None
    count = place.joints or 0
    found = f'{len(flat)} numbers' if isinstance(flat, list) else shorten(flat)
    return Finding(
        'keypoints',
        found,
        f'3 numbers for each of {count or "its"} joints',
        'no joint labelled',
        dict(keypoints=[0] * (3 * count), num_keypoints=0),
    )


def _joints(ann: dict, place: Place) -> Optional[Finding]:
    flat = ann.get('keypoints')
    if not flat or (are_numbers(flat) and set(flat[2::3]) <= {0, 1, 2}):
        return None
    bad = [
        start
        for start in range(0, len(flat), 3)
        if not are_numbers(flat[start : start + 3]) or flat[start + 2] not in (0, 1, 2)
    ]
    return Finding(
        'joint',
        shorten(flat[bad[0] : bad[0] + 3]),
        'x, y and a visibility of 0, 1 or 2',
        *_unlabel(ann, bad),
    )


def _joints_outside(ann: dict, place: Place) -> Optional[Finding]:
    flat = ann.get('keypoints')
    if not flat:
        return None
    xs, ys = flat[::3], flat[1::3]
    if (
        min(xs) >= -OVERHANG
        and max(xs) <= place.width
        and min(ys) >= -OVERHANG
        and max(ys) <= place.height
    ):
        return None
    bad = [
        3 * index
        for index, (x, y, seen) in enumerate(zip(xs, ys, flat[2::3]))
        if seen and not (-OVERHANG <= x <= place.width and -OVERHANG <= y <= place.height)
    ]
    if not bad:
        return None
    return Finding(
        'joint_outside',
        shorten(flat[bad[0] : bad[0] + 3]),
        f'a joint in an image of {place.width} x {place.height} pixels',
        *_unlabel(ann, bad),
        stops_test=False,
    )


def _unlabel(ann: dict, starts: List[int]) -> Tuple[str, dict]:
    """The fix of joints: they are not labelled."""
    flat = list(ann['keypoints'])
    for start in starts:
        flat[start : start + 3] = [0, 0, 0]
    labelled = sum(bool(value) for value in flat[2::3] if value in (0, 1, 2))
    return (f'{len(starts)} joints unlabelled', dict(keypoints=flat, num_keypoints=labelled))


def _num_keypoints(ann: dict, place: Place) -> Optional[Finding]:
    if not ann.get('keypoints'):
        return None
    seen = ann['keypoints'][2::3]
    count, found = len(seen) - seen.count(0), ann.get('num_keypoints')
    if type(found) is int and found == count:
        return None
    is_same = 'num_keypoints' not in ann or (type(found) is int and bool(found) == bool(count))
    return Finding(
        'num_keypoints',
        shorten(found) if found is not None else 'nothing',
        f'{count}, the labelled joints',
        f'set to {count}',
        dict(num_keypoints=count),
        stops_test=not is_same,
    )


# In this order; each may rely on what those before it made sure of.
RULES: Tuple[Callable[[dict, Place], Optional[Finding]], ...] = (
    _ignore,
    _crowd,
    _mask,
    _keypoints,
    _joints,
    _joints_outside,
    _num_keypoints,
    _box,
    _box_and_mask,
    _small_box,
    _area,
)


def inspect(ann: dict, place: Place) -> Tuple[Optional[dict], List[Finding]]:
    """Apply all rules to one annotation.

    Args:
        ann (dict): With ids that are in order.
        place (Place): What it is compared with.

    Returns:
        tuple[dict | None, list[Finding]]: The annotation mended, None if it
        is to be removed, and what was found.
    """
    findings = []
    for rule in RULES:
        finding = rule(ann, place)
        if finding:
            findings.append(finding)
            if finding.change is None:
                return None, findings
            ann = {**ann, **finding.change}
    return ann, findings
