from .breakdown import Group, by_occlusion, by_people, by_size, by_visibility, precision_curves
from .coco_metric import MultitaskCocoMetric
from .coco_scores import TASKS, CocoData, evaluate, figures, load_ground_truth
from .diagnosis import KINDS, JointErrors, classify_joints, joint_errors
from .image_scores import ImageScore, image_scores
from .predictions import add_run, file_sha256
from .predictions_check import PredictionsFileError, read_predictions, to_coco
from .submission import check_submission, write_submission
from .table import format_table, markdown_table, percent

__all__ = [
    'CocoData',
    'Group',
    'ImageScore',
    'JointErrors',
    'KINDS',
    'MultitaskCocoMetric',
    'PredictionsFileError',
    'TASKS',
    'add_run',
    'by_occlusion',
    'by_people',
    'by_size',
    'by_visibility',
    'check_submission',
    'classify_joints',
    'evaluate',
    'figures',
    'file_sha256',
    'format_table',
    'image_scores',
    'joint_errors',
    'load_ground_truth',
    'markdown_table',
    'percent',
    'precision_curves',
    'read_predictions',
    'to_coco',
    'write_submission',
]
