"""Fields of COCO annotations that all formats share.

Annotations here are COCO's: boxes and polygons in continuous image pixels, keypoints by
pixel index, which is half a pixel less. In the files of annotation tools all coordinates
are continuous; :func:`get_keypoints` and :func:`set_keypoints` convert.

Shape letters: K keypoints of a category.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, TypeAlias

import numpy as np

from multitask_runtime.utils.errors import FormatError
from multitask_runtime.utils.types import Array

from .segmentations import to_mask

Entry: TypeAlias = dict[str, Any]
Losses: TypeAlias = Counter[str]  # what a format cannot hold, in words that follow a number

PIXEL_INDEX = 0.5  # COCO's keypoints are pixel indices, less by this
DECIMALS = 4  # of coordinates in pixels

# The keypoints of COCO's persons, for files that do not name theirs.
COCO_KEYPOINTS = (
    *('nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder'),
    *('right_shoulder', 'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hip'),
    *('right_hip', 'left_knee', 'right_knee', 'left_ankle', 'right_ankle'),
)
COCO_SKELETON = (
    *((16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9)),
    *((8, 10), (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7)),
)
# What the formats hold, beside ids, areas and num_keypoints, which are made anew.
_FIELDS = dict(
    images=('id', 'file_name', 'width', 'height'),
    annotations=(
        *('id', 'image_id', 'category_id', 'iscrowd', 'bbox', 'area', 'segmentation'),
        *('keypoints', 'num_keypoints'),
    ),
    categories=('id', 'name', 'keypoints', 'skeleton'),
)


def keypoint_names(category: Mapping[str, Any]) -> list[str]:
    """Return the names of a category's keypoints, empty if it has none."""
    return [str(name) for name in category.get('keypoints') or ()]


def get_keypoints(annotation: Entry, category: Mapping[str, Any]) -> Array | None:
    """Return the keypoints of an annotation in continuous image pixels.

    Args:
        annotation (dict): COCO annotation.
        category (Mapping): Its category.

    Returns:
        np.ndarray | None: x, y and visibility, shape (K, 3); None if they are not labeled.

    Raises:
        FormatError: If their number is not that of the category.
    """
    flat, names = annotation.get('keypoints'), keypoint_names(category)
    if not flat:
        return None
    if len(flat) != 3 * len(names):
        raise FormatError(
            f'annotation {annotation.get("id")}: keypoints: expected 3 numbers for each of the '
            f'{len(names)} keypoints of category {category["name"]!r}, found {len(flat)} '
            'numbers. Repair the file: tools/dataset/check_coco.py FILE --fix OUT.json'
        )
    keypoints = np.array(flat, float).reshape(-1, 3)
    keypoints[:, :2] += PIXEL_INDEX
    return keypoints


def set_keypoints(annotation: Entry, keypoints: Array) -> None:
    """Set the keypoints of an annotation.

    Args:
        annotation (dict): COCO annotation; is changed.
        keypoints (np.ndarray): x, y and visibility in continuous image pixels, shape (K, 3).
    """
    labeled = keypoints[:, 2] > 0
    stored = np.where(labeled[:, None], keypoints[:, :2] - PIXEL_INDEX, 0)
    annotation['keypoints'] = [
        number
        for (x, y), visibility in zip(stored.tolist(), keypoints[:, 2].tolist(), strict=True)
        for number in (to_number(x), to_number(y), int(visibility))
    ]
    annotation['num_keypoints'] = int(labeled.sum())


def get_bbox(annotation: Entry, image: Entry) -> list[float]:
    """Return the box of an annotation, derived from its mask or keypoints if it has none.

    Args:
        annotation (dict): COCO annotation.
        image (dict): Its image.

    Returns:
        list[float]: x, y, width and height in continuous image pixels.

    Raises:
        FormatError: If there is nothing to derive it from.
    """
    if annotation.get('bbox'):
        return [float(value) for value in annotation['bbox']]
    if annotation.get('segmentation'):
        return mask_bbox(annotation['segmentation'], image)
    flat = np.array(annotation.get('keypoints') or [], float).reshape(-1, 3)
    points = flat[flat[:, 2] > 0, :2] + PIXEL_INDEX
    if len(points) < 2:
        raise FormatError(
            f'annotation {annotation.get("id")}: bbox: expected a box, a mask or two labeled '
            'keypoints, found none of them. Remove it: tools/dataset/check_coco.py FILE --fix '
            'OUT.json'
        )
    corner, size = points.min(0), np.ptp(points, 0)
    return [to_number(value) for value in (*corner, *size)]


def mask_bbox(segmentation: Any, image: Entry) -> list[float]:
    """Return the box around polygons or around the pixels of an RLE, xywh."""
    if isinstance(segmentation, Mapping):
        mask = to_mask(segmentation, image['height'], image['width'])
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return [0.0, 0.0, 0.0, 0.0]
        left, top = int(columns[0]), int(rows[0])
        return [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
    points = np.concatenate([np.array(polygon, float) for polygon in segmentation]).reshape(-1, 2)
    return [to_number(value) for value in (*points.min(0), *np.ptp(points, 0))]


def to_number(value: float) -> float | int:
    """Round a coordinate in pixels; whole numbers become integers."""
    number = round(float(value), DECIMALS)
    return int(number) if number.is_integer() else number


def to_points(polygon: Sequence[float]) -> list[list[float]]:
    """Return the corners (x, y) of a polygon that COCO writes as one list."""
    return [[to_number(x), to_number(y)] for x, y in zip(polygon[::2], polygon[1::2], strict=True)]


def group_annotations(content: Entry, losses: Losses) -> list[tuple[Entry, list[Entry]]]:
    """Return each image of a COCO file with its annotations, without further fields.

    Args:
        content (dict): Content of a valid COCO annotation file.
        losses (Counter): Counts the fields that other formats do not have.

    Raises:
        FormatError: If a file name leads out of the folder of the images.
    """
    for kind in ('images', 'annotations'):
        _count_further(content, kind, losses)
    images: dict[Any, tuple[Entry, list[Entry]]] = {}
    known = _FIELDS['annotations']
    for image in content['images']:
        check_name(str(image['file_name']), f'image {image["id"]}: file_name')
        images[image['id']] = (image, [])
    for annotation in content.get('annotations', ()):
        kept = {name: value for name, value in annotation.items() if name in known}
        images[annotation['image_id']][1].append(kept)
    return list(images.values())


def check_name(name: str, place: str) -> None:
    """Check that the name of an image does not lead out of the folder of the images.

    Args:
        name (str): Path with '/'.
        place (str): Name of the field in the message.

    Raises:
        FormatError: If it does, or there is no name.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or '..' in path.parts or not path.name or '\0' in name:
        raise FormatError(
            f'{place}: expected a path within the folder of the images, found {name!r:.80}. '
            'Correct it.'
        )


def categories_by_id(content: Entry, losses: Losses | None = None) -> dict[int, Entry]:
    """Return the categories of a COCO file by their id, in order of the file.

    Args:
        content (dict): Content of a valid COCO annotation file.
        losses (Counter, optional): Counts the fields that other formats do not have.
    """
    if losses is not None:
        _count_further(content, 'categories', losses)
    return {category['id']: category for category in content['categories']}


def _count_further(content: Entry, kind: str, losses: Losses) -> None:
    """Count the fields of images, annotations or categories that other formats do not have."""
    for entry in content.get(kind, ()):
        for name in entry.keys() - _FIELDS[kind]:
            losses[f'{kind} with a field {name!r}: left out'] += 1
