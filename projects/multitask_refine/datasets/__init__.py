from .coco_multitask import CocoMultitaskDataset, find_meta_file
from .transforms import LoadMultitaskAnnotations, PackMultitaskInputs

__all__ = [
    'CocoMultitaskDataset', 'LoadMultitaskAnnotations', 'PackMultitaskInputs',
    'find_meta_file'
]
