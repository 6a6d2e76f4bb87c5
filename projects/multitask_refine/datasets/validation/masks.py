"""What a COCO segmentation must be before pycocotools may see it.

pycocotools reads past the end of a cut run-length text, and asks for as much
memory as the way around a polygon is long. So everything is looked at here
first.
"""

from typing import List, Optional, Union

import numpy as np
from pycocotools import mask as coco_mask

Segmentation = Union[list, dict]

# No coordinate of an image is as large.
LIMIT = 1e9


def are_numbers(values: list) -> bool:
    """Whether all are finite numbers; true and false are none.

    Args:
        values (list): Anything from a JSON file.
    """
    if not values or not set(map(type, values)) <= {int, float}:
        return False
    total_is_safe = -LIMIT < min(values) and max(values) < LIMIT
    return total_is_safe and abs(sum(values)) < LIMIT * len(values)


def polygon_fault(polygon: object, width: int, height: int) -> Optional[str]:
    """What is wrong with a polygon.

    Args:
        polygon: Should be x, y of each corner in a row, in pixels.
        width (int): Of the image.
        height (int): Of the image.

    Returns:
        str | None: None if nothing is.
    """
    if not isinstance(polygon, list):
        return f'a polygon that is a {type(polygon).__name__}'
    if len(polygon) < 6 or len(polygon) % 2:
        return f'a polygon of {len(polygon)} numbers'
    if not are_numbers(polygon):
        return 'a polygon with something else than finite numbers'
    x, y = polygon[::2], polygon[1::2]
    if min(x) < -width or max(x) > 2 * width or min(y) < -height or max(y) > 2 * height:
        return 'a polygon far outside of the image'
    return None


def rle_fault(rle: dict, width: int, height: int) -> Optional[str]:
    """What is wrong with a run-length code, plain or compressed.

    Args:
        rle (dict): Should have ``size``, the image's height and width, and
            ``counts``: lengths of runs down the columns, as a list or as
            COCO's text.
        width (int): Of the image.
        height (int): Of the image.

    Returns:
        str | None: None if nothing is.
    """
    size, counts = rle.get('size'), rle.get('counts')
    if size != [height, width] or list(map(type, size)) != [int, int]:
        return f'size {size!r} in an image of size {[height, width]}'
    if isinstance(counts, str):
        counts = run_lengths(counts)
    if not isinstance(counts, list) or set(map(type, counts)) != {int}:
        return 'counts that are no run lengths'
    if min(counts) < 0 or sum(counts) != width * height:
        return f'runs of {sum(counts)} pixels, not of {width * height}'
    return None if any(counts[1::2]) else 'a mask without a pixel'


def run_lengths(text: str) -> Optional[List[int]]:
    """Decode COCO's compressed run lengths.

    Numbers have five bits in each character, the lowest first; a sixth says
    that more follow. From the fourth on they are differences to the last but
    one.

    Args:
        text (str): ``counts`` of a compressed mask.

    Returns:
        list[int] | None: None if it is no such text, or ends too early.
    """
    runs, value, shift = [], 0, 0
    for code in (ord(char) - 48 for char in text):
        if not 0 <= code < 64 or shift > 40:
            return None
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    return None if shift else runs


def rough_area(segmentation: Segmentation) -> float:
    """Area of a faultless mask in pixels; of polygons what is within their
    lines, so parts that overlap count twice."""
    if isinstance(segmentation, dict):
        counts = segmentation['counts']
        counts = run_lengths(counts) if isinstance(counts, str) else counts
        return float(sum(counts[1::2]))
    total = 0.0
    for polygon in segmentation:
        points = np.array(polygon, dtype=float)
        x, y = points[::2] - points[0], points[1::2] - points[1]
        total += abs(x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2
    return float(total)


def encode(segmentation: Segmentation, width: int, height: int) -> dict:
    """A faultless mask as compressed run lengths, for pycocotools."""
    if isinstance(segmentation, dict):
        if isinstance(segmentation['counts'], str):
            return segmentation
        return coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
