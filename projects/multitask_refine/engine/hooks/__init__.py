"""Hooks of training, validation and test."""

from .bad_images_hook import BadImagesHook
from .checkpoint_hook import AtomicCheckpointHook
from .consistency_hook import ConsistencyHook
from .early_stopping_hook import ResumableEarlyStoppingHook
from .ema_hook import ResumableEMAHook
from .keypoint_transfer_hook import KeypointTransferHook, transfer_keypoints
from .offset_statistics_hook import OffsetStatisticsHook
from .partial_load_hook import PartialLoadHook
from .preemption_hook import PreemptionHook
from .resume_hook import ResumeHook
from .val_loss_hook import ValLossHook

__all__ = [
    'AtomicCheckpointHook',
    'BadImagesHook',
    'ConsistencyHook',
    'KeypointTransferHook',
    'OffsetStatisticsHook',
    'PartialLoadHook',
    'PreemptionHook',
    'ResumableEMAHook',
    'ResumableEarlyStoppingHook',
    'ResumeHook',
    'ValLossHook',
    'transfer_keypoints',
]
