"""The multitask RoI head, its three heads, their branches, the mask gate and its RoI extractor."""

from .bbox_head import PersonBBoxHead
from .branches import KeypointScoreBranch, KeypointVisibilityBranch, MaskScoreBranch
from .keypoint_heads import KeypointOffsetHead, KeypointSoftmaxHead
from .mask_gate import MaskGate
from .mask_head import PersonMaskHead
from .multitask_roi_head import InstanceOutputs, MultitaskRoIHead
from .roi_extractor import RegistryRoIExtractor

__all__ = [
    'InstanceOutputs',
    'KeypointOffsetHead',
    'KeypointScoreBranch',
    'KeypointSoftmaxHead',
    'KeypointVisibilityBranch',
    'MaskGate',
    'MaskScoreBranch',
    'MultitaskRoIHead',
    'PersonBBoxHead',
    'PersonMaskHead',
    'RegistryRoIExtractor',
]
