from .backbone import ResNet26
from .detector import MultitaskRCNN
from .keypoint_head import KeypointOffsetHead
from .normalisation import SharedMeanRPNHead
from .roi_extractor import RegistryRoIExtractor
from .roi_head import MultitaskRoIHead

__all__ = [
    'KeypointOffsetHead', 'MultitaskRCNN', 'MultitaskRoIHead',
    'RegistryRoIExtractor', 'ResNet26', 'SharedMeanRPNHead'
]
