"""Fine-tuning on few images: statistics, settings by rules, a config file."""

from .base_checkpoint import find_base
from .config_file import Source, append_options, format_config, format_meta_file
from .settings import VARIANTS, Settings, choose_settings, format_tables
from .statistics import (
    COCO_KEYPOINTS,
    DatasetStatistics,
    collect_statistics,
    mend_annotations,
    read_keypoints,
    select_classes,
)

__all__ = [
    'COCO_KEYPOINTS',
    'DatasetStatistics',
    'Settings',
    'Source',
    'VARIANTS',
    'append_options',
    'choose_settings',
    'collect_statistics',
    'find_base',
    'format_config',
    'format_meta_file',
    'format_tables',
    'mend_annotations',
    'read_keypoints',
    'select_classes',
]
