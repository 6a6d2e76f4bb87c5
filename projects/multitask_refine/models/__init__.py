"""The network: detectors, backbones, heads, losses and test-time augmentation."""

from .backbones import ConvNeXt, ResNet26, TimmBackbone
from .dense_heads import LogitRankedRPNHead, SyncAvgFactorRPNHead
from .detectors import CombinedRCNN, MultitaskRCNN
from .roi_heads import (
    KeypointOffsetHead,
    KeypointScoreBranch,
    KeypointSoftmaxHead,
    KeypointVisibilityBranch,
    MaskGate,
    MaskScoreBranch,
    MultitaskRoIHead,
    PersonBBoxHead,
    PersonMaskHead,
    RegistryRoIExtractor,
)
from .task_modules import (
    ArgmaxIoUAssigner,
    FewSyncRandomSampler,
    InstanceNMS,
    KeypointBoxRefiner,
    KeypointRescorer,
    MaskBoxRefiner,
    SyncFreeBboxOverlaps2D,
    SyncFreeMaxIoUAssigner,
    TorchvisionAnchorGenerator,
)
from .test_time_augs import MultitaskTTAModel, flip_tta_pipeline
from .utils.inference import prepare_for_inference

__all__ = [
    'ArgmaxIoUAssigner',
    'CombinedRCNN',
    'ConvNeXt',
    'FewSyncRandomSampler',
    'InstanceNMS',
    'KeypointBoxRefiner',
    'KeypointOffsetHead',
    'KeypointRescorer',
    'KeypointScoreBranch',
    'KeypointSoftmaxHead',
    'KeypointVisibilityBranch',
    'LogitRankedRPNHead',
    'MaskBoxRefiner',
    'MaskGate',
    'MaskScoreBranch',
    'MultitaskRCNN',
    'MultitaskRoIHead',
    'MultitaskTTAModel',
    'PersonBBoxHead',
    'PersonMaskHead',
    'RegistryRoIExtractor',
    'ResNet26',
    'SyncAvgFactorRPNHead',
    'SyncFreeBboxOverlaps2D',
    'SyncFreeMaxIoUAssigner',
    'TimmBackbone',
    'TorchvisionAnchorGenerator',
    'flip_tta_pipeline',
    'prepare_for_inference',
]
