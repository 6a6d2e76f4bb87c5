"""Task modules: anchor generators, assigners and samplers."""

from .anchor_generator import TorchvisionAnchorGenerator
from .assigner import ArgmaxIoUAssigner
from .sync_free import FewSyncRandomSampler, SyncFreeBboxOverlaps2D, SyncFreeMaxIoUAssigner

__all__ = [
    'ArgmaxIoUAssigner',
    'FewSyncRandomSampler',
    'SyncFreeMaxIoUAssigner',
    'SyncFreeBboxOverlaps2D',
    'TorchvisionAnchorGenerator',
]
