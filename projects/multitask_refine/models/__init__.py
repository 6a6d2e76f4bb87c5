from .backbone import ResNet26
from .box_head import PersonBBoxHead
from .detector import MultitaskRCNN
from .inference import prepare_for_inference
from .keypoint_head import KeypointOffsetHead, KeypointSoftmaxHead
from .mask_head import PersonMaskHead
from .normalisation import SharedMeanRPNHead
from .proposals import LogitRankedRPNHead, StretchedAnchorGenerator
from .roi_extractor import RegistryRoIExtractor
from .roi_head import MultitaskRoIHead
from .tta import MultitaskTTAModel, mirrored_pipeline

__all__ = [
    'KeypointOffsetHead',
    'KeypointSoftmaxHead',
    'LogitRankedRPNHead',
    'MultitaskRCNN',
    'MultitaskRoIHead',
    'MultitaskTTAModel',
    'PersonBBoxHead',
    'PersonMaskHead',
    'RegistryRoIExtractor',
    'ResNet26',
    'SharedMeanRPNHead',
    'StretchedAnchorGenerator',
    'mirrored_pipeline',
    'prepare_for_inference',
]
