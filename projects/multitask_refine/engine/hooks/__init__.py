from .ema_hook import ResumableEMAHook
from .offset_statistics_hook import OffsetStatisticsHook

__all__ = ['OffsetStatisticsHook', 'ResumableEMAHook']
