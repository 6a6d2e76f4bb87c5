from .offset_study import HeatmapRefinement, KernelPoints, OffsetStudy, study_offsets
from .sampling_points import Arrows, CellGrid, Sampling, moved_cells, trace
from .visualizer import MultitaskVisualizer

__all__ = [
    'Arrows',
    'CellGrid',
    'HeatmapRefinement',
    'KernelPoints',
    'MultitaskVisualizer',
    'OffsetStudy',
    'Sampling',
    'moved_cells',
    'study_offsets',
    'trace',
]
