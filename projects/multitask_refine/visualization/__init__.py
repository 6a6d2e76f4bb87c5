from .offset_analysis import HeatmapRefinement, KernelPoints, OffsetAnalysis, analyze_offsets
from .sampling_points import Arrows, CellGrid, Sampling, moved_cells, trace
from .visualizer import MultitaskVisualizer

__all__ = [
    'Arrows',
    'CellGrid',
    'HeatmapRefinement',
    'KernelPoints',
    'MultitaskVisualizer',
    'OffsetAnalysis',
    'Sampling',
    'moved_cells',
    'analyze_offsets',
    'trace',
]
