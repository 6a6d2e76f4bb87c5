"""Visualizer, and figures of learned offsets."""

from .offset_analysis import HeatmapRefinement, KernelPoints, OffsetAnalysis, analyze_offsets
from .sampling_points import Arrows, CellGrid, Sampling, offset_arrows, trace
from .visualizer import MultitaskVisualizer

__all__ = [
    'Arrows',
    'CellGrid',
    'HeatmapRefinement',
    'KernelPoints',
    'MultitaskVisualizer',
    'OffsetAnalysis',
    'Sampling',
    'analyze_offsets',
    'offset_arrows',
    'trace',
]
