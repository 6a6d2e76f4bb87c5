from .offset_study import (Arrows, HeatmapRefinement, KernelPoints,
                           OffsetStudy, study_offsets)
from .offsets import CellGrid, Sampling, moved_cells, recorded_inputs, trace
from .visualizer import MultitaskVisualizer

__all__ = [
    'Arrows', 'CellGrid', 'HeatmapRefinement', 'KernelPoints',
    'MultitaskVisualizer', 'OffsetStudy', 'Sampling', 'moved_cells',
    'recorded_inputs', 'study_offsets', 'trace'
]
