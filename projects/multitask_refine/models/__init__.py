from .backbones import ResNet26
from .dense_heads import LogitRankedRPNHead, TorchvisionAnchorGenerator
from .detectors import MultitaskRCNN
from .losses.avg_factor import SyncAvgFactorRPNHead
from .roi_heads import (
    KeypointOffsetHead,
    KeypointSoftmaxHead,
    MultitaskRoIHead,
    PersonBBoxHead,
    PersonMaskHead,
    RegistryRoIExtractor,
)
from .test_time_augs import MultitaskTTAModel, flip_tta_pipeline
from .utils.inference import prepare_for_inference

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
    'SyncAvgFactorRPNHead',
    'TorchvisionAnchorGenerator',
    'flip_tta_pipeline',
    'prepare_for_inference',
]
