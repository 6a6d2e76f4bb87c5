"""The multitask RoI head, its three heads and its RoI extractor."""

from .bbox_head import PersonBBoxHead
from .keypoint_heads import KeypointOffsetHead, KeypointSoftmaxHead
from .mask_head import PersonMaskHead
from .multitask_roi_head import MultitaskRoIHead
from .roi_extractor import RegistryRoIExtractor

__all__ = [
    'KeypointOffsetHead',
    'KeypointSoftmaxHead',
    'MultitaskRoIHead',
    'PersonBBoxHead',
    'PersonMaskHead',
    'RegistryRoIExtractor',
]
