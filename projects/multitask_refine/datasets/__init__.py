from .coco_multitask_dataset import CocoMultitaskDataset, keypoint_counts, order_categories
from .metainfo.category_keypoints import join_meta_files
from .metainfo.keypoint_mapping import KeypointMapping
from .metainfo.meta_file import find_meta_file, load_meta_file
from .samplers.aspect_ratio_grouped_batch_sampler import AspectRatioGroupedBatchSampler
from .samplers.multi_source_sampler import MultiSourceInfiniteSampler
from .transforms.copy_paste import MultitaskCopyPaste
from .transforms.formatting import FloatResize, LoadMultitaskAnnotations, PackMultitaskInputs
from .transforms.loading import CheckedLoadImageFromFile
from .validation.annotations import mend, read_annotations
from .validation.images import ImageError
from .validation.issues import AnnotationError

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
    'AspectRatioGroupedBatchSampler',
    'find_meta_file',
    'join_meta_files',
    'keypoint_counts',
    'load_meta_file',
    'mend',
    'order_categories',
    'read_annotations',
]
