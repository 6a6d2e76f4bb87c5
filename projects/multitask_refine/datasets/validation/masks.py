"""Check COCO segmentations before pycocotools reads them.

pycocotools reads past the end of a truncated RLE string, and allocates as much memory as the
perimeter of a polygon needs.
"""

import numpy as np
from pycocotools import mask as coco_mask

Segmentation = list | dict

MAX_COORDINATE = 1e9


def are_finite_numbers(values: list) -> bool:
    """Check that a list has only finite numbers below 1e9, at least one, and no bool."""
    if not values or not set(map(type, values)) <= {int, float}:
        return False
    # min and max can miss a NaN, the sum cannot.
    in_range = min(values) > -MAX_COORDINATE and max(values) < MAX_COORDINATE
    return in_range and abs(sum(values)) < MAX_COORDINATE * len(values)


def find_polygon_error(polygon: object, width: int, height: int) -> str | None:
    """Describe the error of a polygon.

    Args:
        polygon: Expected to be x, y of each vertex in a row, in image pixels.
        width: Image width.
        height: Image height.

    Returns:
        None for a valid polygon.
    """
    if not isinstance(polygon, list):
        return f'a polygon that is a {type(polygon).__name__}'
    if len(polygon) < 6 or len(polygon) % 2:
        return f'a polygon of {len(polygon)} numbers'
    if not are_finite_numbers(polygon):
        return 'a polygon with something else than finite numbers'
    x, y = polygon[::2], polygon[1::2]
    if min(x) < -width or max(x) > 2 * width or min(y) < -height or max(y) > 2 * height:
        return 'a polygon far outside of the image'
    return None


def find_rle_error(rle: dict, width: int, height: int) -> str | None:
    """Describe the error of an RLE, compressed or not.

    Args:
        rle: Expected to have ``size`` (height, width) and ``counts``: run lengths in column-major
            order, a list or COCO's compressed string.
        width: Image width.
        height: Image height.

    Returns:
        None for a valid RLE.
    """
    size, counts = rle.get('size'), rle.get('counts')
    if size != [height, width] or list(map(type, size)) != [int, int]:
        return f'size {size!r} in an image of size {[height, width]}'
    if isinstance(counts, str):
        counts = decompress_counts(counts)
    if not isinstance(counts, list) or set(map(type, counts)) != {int}:
        return 'counts that are no run lengths'
    if min(counts) < 0 or sum(counts) != width * height:
        return f'runs of {sum(counts)} pixels, not of {width * height}'
    return None if any(counts[1::2]) else 'a mask without a pixel'


def decompress_counts(text: str) -> list[int] | None:
    """Decompress the ``counts`` of an RLE.

    Each character holds 5 bits of a number, lowest first, and a continuation bit. From the
    fourth number on, numbers are differences to the last but one.

    Args:
        text: ``counts`` of a compressed RLE.

    Returns:
        Run lengths, None if the text is invalid or truncated.
    """
    runs, value, shift = [], 0, 0
    for code in (ord(char) - 48 for char in text):
        if not 0 <= code < 64 or shift > 40:
            return None
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:  # sign bit
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    return None if shift else runs


def approximate_area(segmentation: Segmentation) -> float:
    """Return the area of a valid segmentation in pixels, without rasterization.

    Polygons are measured by the shoelace formula; where they overlap, pixels count twice.
    """
    if isinstance(segmentation, dict):
        counts = segmentation['counts']
        counts = decompress_counts(counts) if isinstance(counts, str) else counts
        return float(sum(counts[1::2]))
    total = 0.0
    for polygon in segmentation:
        points = np.array(polygon, dtype=float)
        x, y = points[::2] - points[0], points[1::2] - points[1]
        total += abs(x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2
    return float(total)


def to_rle(segmentation: Segmentation, width: int, height: int) -> dict:
    """Convert a valid segmentation into a compressed RLE of pycocotools."""
    if isinstance(segmentation, dict):
        if isinstance(segmentation['counts'], str):
            return segmentation
        return coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
