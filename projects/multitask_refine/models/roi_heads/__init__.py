"""The multitask RoI head, its three heads, their branches and its RoI extractor."""

from .bbox_head import PersonBBoxHead
from .branches import KeypointVisibilityBranch
from .keypoint_heads import KeypointOffsetHead, KeypointSoftmaxHead
from .mask_head import PersonMaskHead
from .multitask_roi_head import InstanceOutputs, MultitaskRoIHead
from .roi_extractor import RegistryRoIExtractor

__all__ = [
    'InstanceOutputs',
    'KeypointOffsetHead',
    'KeypointSoftmaxHead',
    'KeypointVisibilityBranch',
    'MultitaskRoIHead',
    'PersonBBoxHead',
    'PersonMaskHead',
    'RegistryRoIExtractor',
]
