"""YOLO: a text file for each image, as Ultralytics defines it for detect, segment and pose.

A line for each instance: the index of its class, and coordinates divided by the width and
height of the image. They are those of COCO's files, keypoints by pixel index, as in
Ultralytics' own conversion of COCO.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np

from multitask_runtime.utils.errors import FormatError
from multitask_runtime.utils.types import Array

from .coco import PIXEL_INDEX, Entry, Losses, get_bbox, get_keypoints, keypoint_names, mask_bbox
from .segmentations import Segmentation, mask_to_polygons, to_mask

Task: TypeAlias = Literal['detect', 'segment', 'pose']
TASKS: tuple[Task, ...] = ('detect', 'segment', 'pose')
_DECIMALS = 9  # less than 1e-4 pixels in any image


def to_yolo(
    image: Entry,
    annotations: Sequence[Entry],
    categories: Mapping[int, Entry],
    task: Task,
    losses: Losses | None = None,
) -> str:
    """Convert the COCO annotations of one image.

    Args:
        image (dict): COCO image with ``height`` and ``width``.
        annotations (Sequence[dict]): Its COCO annotations; a ``score`` becomes the last
            number of the line.
        categories (Mapping[int, dict]): COCO categories by id; the classes are counted in
            this order.
        task (str): 'detect': class, center and size of the box; 'segment': class and
            polygon; 'pose': as 'detect', then x, y and visibility of each keypoint.
        losses (Counter, optional): Counts what the format cannot hold.

    Returns:
        str: Content of the text file, empty without instances.

    Raises:
        FormatError: If the task is unknown or, for 'pose', the categories have no
            keypoints, or different ones.
    """
    if task not in TASKS:
        raise FormatError(f'task: expected one of {", ".join(TASKS)}, found {task!r}')
    losses = Counter() if losses is None else losses
    classes = {category_id: index for index, category_id in enumerate(categories)}
    num_keypoints = len(common_keypoints(categories)) if task == 'pose' else 0
    size = np.array([image['width'], image['height']], float)
    lines = []
    for annotation in annotations:
        if annotation.get('iscrowd'):
            losses['crowds left out'] += 1
            continue
        segmentation = annotation.get('segmentation')
        if task != 'segment' and segmentation:
            losses[f'masks left out of labels for {task}'] += 1
        if task != 'pose' and annotation.get('num_keypoints', annotation.get('keypoints')):
            losses[f'keypoints of instances left out of labels for {task}'] += 1
        numbers = []
        if task == 'segment':
            if not segmentation:
                losses['instances without a mask left out'] += 1
                continue
            if annotation.get('bbox', mask_bbox(segmentation, image)) != mask_bbox(
                segmentation, image
            ):
                losses['boxes that differ from the box of their mask left out'] += 1
            polygon = _to_polygon(segmentation, image, losses)
            numbers += (polygon / size).clip(0, 1).flatten().tolist()
        else:
            box = np.array(get_bbox(annotation, image))
            corners = (np.stack([box[:2], box[:2] + box[2:]]) / size).clip(0, 1)  # (2, 2)
            numbers += [*corners.mean(0), *np.ptp(corners, 0)]
        if task == 'pose':
            keypoints = get_keypoints(annotation, categories[annotation['category_id']])
            if keypoints is None:
                losses['instances without keypoints: keypoints written as not labeled'] += 1
                keypoints = np.zeros((num_keypoints, 3))
            numbers += _to_numbers(keypoints, size, losses)
        if 'score' in annotation:
            numbers.append(annotation['score'])
        texts = [f'{number:.{_DECIMALS}f}'.rstrip('0').rstrip('.') for number in numbers]
        lines.append(' '.join([str(classes[annotation['category_id']]), *texts]))
    return ''.join(line + '\n' for line in lines)


def common_keypoints(categories: Mapping[int, Entry]) -> list[str]:
    """Return the names of the keypoints, which all categories must share.

    Raises:
        FormatError: If there are none, or different ones.
    """
    lists = {tuple(keypoint_names(category)) for category in categories.values()}
    if len(lists) != 1 or lists == {()}:
        found = 'none' if lists <= {()} else f'{len(lists)} different lists'
        raise FormatError(
            f"pose: expected the same keypoints in all categories, as YOLO's pose labels have, "
            f'found {found}. Convert one category at a time, or another task (segment, detect).'
        )
    return list(lists.pop())


def _to_numbers(keypoints: Array, size: Array, losses: Losses) -> list[float]:
    """Return x, y, visibility of keypoints (K, 3), coordinates from 0 to 1."""
    labeled = keypoints[:, 2] > 0
    inside = ((keypoints[:, :2] >= 0) & (keypoints[:, :2] <= size)).all(1)
    if num_outside := int((labeled & ~inside).sum()):
        losses['keypoints outside of the image moved to its border'] += num_outside
    relative = ((keypoints[:, :2] - PIXEL_INDEX) / size).clip(0, 1)
    relative[~labeled] = 0
    return [float(number) for number in np.column_stack([relative, keypoints[:, 2]]).flatten()]


def _to_polygon(segmentation: Segmentation, image: Entry, losses: Losses) -> Array:
    """Return a segmentation as one polygon, shape (P, 2)."""
    polygons = segmentation
    if isinstance(segmentation, Mapping):
        mask = to_mask(segmentation, image['height'], image['width'])
        polygons, num_holes = mask_to_polygons(mask)
        losses['masks of pixels (RLE) written as polygons'] += 1
        if num_holes:
            losses['holes of masks filled'] += num_holes
    rings = [np.array(polygon, float).reshape(-1, 2) for polygon in polygons]
    if len(rings) > 1:
        losses['masks of several polygons joined into one polygon'] += 1
    return join_polygons(rings)


def join_polygons(rings: Sequence[Array]) -> Array:
    """Join polygons into one by lines of no width between their nearest corners.

    Args:
        rings (Sequence[np.ndarray]): Corners of each polygon, shape (P, 2).

    Returns:
        np.ndarray: Corners of one polygon that covers the same area.
    """
    joined = rings[0]
    for ring in rings[1:]:
        distances = ((joined[:, None] - ring[None]) ** 2).sum(-1)
        here, there = np.unravel_index(distances.argmin(), distances.shape)
        turned = np.roll(ring, -there, 0)
        # Go over to the other polygon, around it, and back to the same corner.
        detour = [joined[: here + 1], turned, turned[:1], joined[here:]]
        joined = np.concatenate(detour)
    return joined
