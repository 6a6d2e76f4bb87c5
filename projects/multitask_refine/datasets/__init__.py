from .coco_multitask import CocoMultitaskDataset, find_meta_file
from .shape_batch_sampler import ShapeBatchSampler
from .transforms import (FloatResize, LoadMultitaskAnnotations,
                         PackMultitaskInputs)

__all__ = [
    'CocoMultitaskDataset', 'FloatResize', 'LoadMultitaskAnnotations',
    'PackMultitaskInputs', 'ShapeBatchSampler', 'find_meta_file'
]
