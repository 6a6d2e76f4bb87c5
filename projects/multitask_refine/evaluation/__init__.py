"""COCO evaluation, predictions files and submissions."""

from .coco_metric import MultitaskCocoMetric
from .coco_scores import TASKS, CocoData, evaluate, figures, load_ground_truth
from .predictions import PredictionsFileError, add_run, file_sha256, read_predictions, to_coco
from .submission import check_submission, write_submission
from .table import format_table, markdown_table, percent
from .visibility import LEVELS, Visibility, evaluate_visibility, has_visibility

__all__ = [
    'CocoData',
    'LEVELS',
    'MultitaskCocoMetric',
    'PredictionsFileError',
    'TASKS',
    'Visibility',
    'add_run',
    'check_submission',
    'evaluate',
    'evaluate_visibility',
    'figures',
    'file_sha256',
    'format_table',
    'has_visibility',
    'load_ground_truth',
    'markdown_table',
    'percent',
    'read_predictions',
    'to_coco',
    'write_submission',
]
