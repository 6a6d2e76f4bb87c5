"""Data sets, transforms and samplers."""

from .annotation_file import read_annotations
from .coco_multitask_dataset import CocoMultitaskDataset, keypoints_per_class, order_categories
from .metainfo.category_keypoints import join_meta_files
from .metainfo.keypoint_mapping import KeypointMapping
from .metainfo.meta_file import find_meta_file, load_meta_file
from .samplers import AspectRatioGroupedBatchSampler, MultiSourceInfiniteSampler
from .transforms import (
    CheckedLoadImageFromFile,
    FloatResize,
    LoadMultitaskAnnotations,
    MultitaskCopyPaste,
    PackMultitaskInputs,
)
from .validation.annotations import repair
from .validation.images import ImageError
from .validation.issues import AnnotationError

__all__ = [
    'AnnotationError',
    'AspectRatioGroupedBatchSampler',
    'CheckedLoadImageFromFile',
    'CocoMultitaskDataset',
    'FloatResize',
    'ImageError',
    'KeypointMapping',
    'LoadMultitaskAnnotations',
    'MultiSourceInfiniteSampler',
    'MultitaskCopyPaste',
    'PackMultitaskInputs',
    'find_meta_file',
    'join_meta_files',
    'keypoints_per_class',
    'load_meta_file',
    'order_categories',
    'read_annotations',
    'repair',
]
