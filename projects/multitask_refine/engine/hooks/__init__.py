from .ema_hook import ResumableEMAHook
from .keypoint_transfer_hook import KeypointTransferHook, transfer_keypoints
from .offset_statistics_hook import OffsetStatisticsHook

__all__ = [
    'KeypointTransferHook',
    'OffsetStatisticsHook',
    'ResumableEMAHook',
    'transfer_keypoints',
]
