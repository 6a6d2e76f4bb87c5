from .coco_metric import MultitaskCocoMetric, evaluate, load_ground_truth
from .table import format_table

__all__ = [
    'MultitaskCocoMetric', 'evaluate', 'format_table', 'load_ground_truth'
]
