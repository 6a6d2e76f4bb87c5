"""Visualizer, and figures of learned offsets."""

from .offset_analysis import HeatmapRefinement, KernelPoints, OffsetAnalysis, analyze_offsets
from .sampling_points import Arrows, CellGrid, Sampling, offset_arrows, trace
from .vis_backends import LocalAimVisBackend, LocalMLflowVisBackend, OfflineWandbVisBackend
from .visualizer import MultitaskVisualizer

__all__ = [
    'Arrows',
    'CellGrid',
    'HeatmapRefinement',
    'KernelPoints',
    'LocalAimVisBackend',
    'LocalMLflowVisBackend',
    'MultitaskVisualizer',
    'OfflineWandbVisBackend',
    'OffsetAnalysis',
    'Sampling',
    'analyze_offsets',
    'offset_arrows',
    'trace',
]
