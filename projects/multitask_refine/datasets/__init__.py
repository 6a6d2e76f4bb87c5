from .annotation_rules import mend, read_annotations
from .category_keypoints import join_meta_files
from .coco_multitask import CocoMultitaskDataset, keypoint_counts, order_categories
from .copy_paste import MultitaskCopyPaste
from .image_rules import ImageError
from .keypoint_mapping import KeypointMapping
from .load_image import CheckedLoadImageFromFile
from .meta_file import find_meta_file, load_meta_file
from .multi_source_sampler import MultiSourceInfiniteSampler
from .problems import AnnotationError
from .shape_batch_sampler import ShapeBatchSampler
from .transforms import FloatResize, LoadMultitaskAnnotations, PackMultitaskInputs

__all__ = [
    'AnnotationError',
    'CheckedLoadImageFromFile',
    'CocoMultitaskDataset',
    'FloatResize',
    'ImageError',
    'KeypointMapping',
    'LoadMultitaskAnnotations',
    'MultiSourceInfiniteSampler',
    'MultitaskCopyPaste',
    'PackMultitaskInputs',
    'ShapeBatchSampler',
    'find_meta_file',
    'join_meta_files',
    'keypoint_counts',
    'load_meta_file',
    'mend',
    'order_categories',
    'read_annotations',
]
