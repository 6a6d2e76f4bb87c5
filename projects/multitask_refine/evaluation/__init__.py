from .coco_metric import (TASKS, MultitaskCocoMetric, evaluate,
                          load_ground_truth)
from .submission import check_submission, write_submission
from .table import format_table, markdown_table, percent

__all__ = [
    'MultitaskCocoMetric', 'TASKS', 'check_submission', 'evaluate',
    'format_table', 'load_ground_truth', 'markdown_table', 'percent',
    'write_submission'
]
