"""Annotation formats of other tools, from and to COCO's: YOLO, LabelMe, CVAT, Label Studio.

For whole datasets ``coco_to_FORMAT`` and ``FORMAT_to_coco``, which count what is lost; for
single images ``to_FORMAT``.
"""

from .cvat import coco_to_cvat, cvat_to_coco, to_cvat
from .label_studio import (
    coco_to_label_studio,
    label_studio_to_coco,
    labeling_config,
    to_label_studio,
)
from .labelme import coco_to_labelme, labelme_to_coco, to_labelme
from .segmentations import mask_to_polygons, to_mask, to_rle
from .yolo import coco_to_yolo, to_yolo, yolo_to_coco

__all__ = [
    'coco_to_cvat',
    'coco_to_label_studio',
    'coco_to_labelme',
    'coco_to_yolo',
    'cvat_to_coco',
    'label_studio_to_coco',
    'labeling_config',
    'labelme_to_coco',
    'mask_to_polygons',
    'to_cvat',
    'to_label_studio',
    'to_labelme',
    'to_mask',
    'to_rle',
    'to_yolo',
    'yolo_to_coco',
]
