"""Task modules: anchor generators, assigners, samplers and postprocessors of instances."""

from .anchor_generator import TorchvisionAnchorGenerator
from .assigner import ArgmaxIoUAssigner
from .instance_postprocessors import (
    InstanceNMS,
    KeypointBoxRefiner,
    KeypointRescorer,
    MaskBoxRefiner,
)
from .sync_free import FewSyncRandomSampler, SyncFreeBboxOverlaps2D, SyncFreeMaxIoUAssigner

__all__ = [
    'ArgmaxIoUAssigner',
    'FewSyncRandomSampler',
    'InstanceNMS',
    'KeypointBoxRefiner',
    'KeypointRescorer',
    'MaskBoxRefiner',
    'SyncFreeMaxIoUAssigner',
    'SyncFreeBboxOverlaps2D',
    'TorchvisionAnchorGenerator',
]
