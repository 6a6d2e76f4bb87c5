from .offset_statistics_hook import OffsetStatisticsHook

__all__ = ['OffsetStatisticsHook']
