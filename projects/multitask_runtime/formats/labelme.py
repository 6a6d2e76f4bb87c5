"""LabelMe: a JSON file for each image.

The shapes of an instance share a ``group_id``: its box (rectangle), its mask (polygons, or
a mask of pixels where COCO has an RLE) and its keypoints (points, whose label is the name
of the keypoint). Occluded keypoints have the flag ``occluded``, crowds the flag ``crowd``.
"""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from .coco import (
    Entry,
    Losses,
    get_bbox,
    get_keypoints,
    keypoint_names,
    mask_bbox,
    to_number,
    to_points,
)
from .segmentations import to_mask

VERSION = '5.5.0'


def to_labelme(
    image: Entry,
    annotations: Sequence[Entry],
    categories: Mapping[int, Entry],
    losses: Losses | None = None,
) -> dict[str, Any]:
    """Convert the COCO annotations of one image.

    Args:
        image (dict): COCO image with ``file_name``, ``height`` and ``width``.
        annotations (Sequence[dict]): Its COCO annotations.
        categories (Mapping[int, dict]): COCO categories by id.
        losses (Counter, optional): Counts what the format cannot hold.

    Returns:
        dict: Content of a LabelMe file.
    """
    losses = Counter() if losses is None else losses
    shapes = []
    for group, annotation in enumerate(annotations, 1):
        category = categories[annotation['category_id']]
        flags = dict(crowd=True) if annotation.get('iscrowd') else {}
        shared = dict(label=category['name'], group_id=group, flags=flags, description='')
        if 'score' in annotation:
            shared['score'] = annotation['score']
        segmentation = annotation.get('segmentation')
        bbox = get_bbox(annotation, image)
        if not segmentation or bbox != mask_bbox(segmentation, image):
            x, y, width, height = bbox
            points = to_points([x, y, x + width, y + height])
            shapes.append(dict(shared, shape_type='rectangle', points=points))
        if isinstance(segmentation, Mapping):
            shapes.append(shared | _encode_mask(segmentation, image))
        for polygon in segmentation if isinstance(segmentation, list) else ():
            shapes.append(dict(shared, shape_type='polygon', points=to_points(polygon)))
        keypoints = get_keypoints(annotation, category)
        if keypoints is None:
            continue
        if not keypoints[:, 2].any():
            losses['instances without a labeled keypoint: keypoints left out'] += 1
        for name, (x, y, visibility) in zip(keypoint_names(category), keypoints, strict=True):
            if visibility:
                flags = dict(occluded=True) if visibility == 1 else {}
                shapes.append(
                    dict(
                        label=name,
                        points=[[to_number(x), to_number(y)]],
                        group_id=group,
                        description='',
                        shape_type='point',
                        flags=flags,
                    )
                )
    return dict(
        version=VERSION,
        flags={},
        shapes=shapes,
        imagePath=image['file_name'],
        imageData=None,
        imageHeight=image['height'],
        imageWidth=image['width'],
    )


def _encode_mask(segmentation: Mapping[str, Any], image: Entry) -> dict[str, Any]:
    """Return a shape of the type mask: a PNG of the pixels between two corner pixels."""
    mask = to_mask(segmentation, image['height'], image['width'])
    left, top, width, height = (int(value) for value in mask_bbox(segmentation, image))
    crop = mask[top : top + height, left : left + width].astype(np.uint8) * 255
    png = cv2.imencode('.png', crop)[1].tobytes()
    return dict(
        shape_type='mask',
        # LabelMe includes both corner pixels.
        points=[[left, top], [left + width - 1, top + height - 1]],
        mask=base64.b64encode(png).decode(),
    )
