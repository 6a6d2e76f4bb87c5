"""Annotation formats of other tools, from and to COCO's: YOLO, LabelMe, CVAT, Label Studio."""

from .cvat import to_cvat
from .label_studio import labeling_config, to_label_studio
from .labelme import to_labelme
from .segmentations import mask_to_polygons, to_mask, to_rle
from .yolo import to_yolo

__all__ = [
    'labeling_config',
    'mask_to_polygons',
    'to_cvat',
    'to_label_studio',
    'to_labelme',
    'to_mask',
    'to_rle',
    'to_yolo',
]
