from .keypoint_transfer_hook import KeypointTransferHook, transfer_keypoints
from .offset_statistics_hook import OffsetStatisticsHook

__all__ = [
    'KeypointTransferHook', 'OffsetStatisticsHook', 'transfer_keypoints'
]
