"""Fine-tuning on few images: statistics, settings by rules, and the config file."""

from .base_checkpoint import find_base
from .config_file import append_options, format_config, format_meta_file
from .data import (
    COCO_KEYPOINTS,
    Keypoints,
    Source,
    check_validation,
    hold_out,
    read_keypoints,
    repair_source,
    select_classes,
)
from .settings import VARIANTS, Settings, choose_settings, format_tables
from .statistics import DatasetStatistics, collect_statistics

__all__ = [
    'COCO_KEYPOINTS',
    'DatasetStatistics',
    'Keypoints',
    'Settings',
    'Source',
    'VARIANTS',
    'append_options',
    'check_validation',
    'choose_settings',
    'collect_statistics',
    'find_base',
    'format_config',
    'format_meta_file',
    'format_tables',
    'hold_out',
    'read_keypoints',
    'repair_source',
    'select_classes',
]
