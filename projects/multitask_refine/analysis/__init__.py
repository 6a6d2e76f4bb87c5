"""Error analysis: breakdowns, kinds of keypoint errors, scores of images."""

from .breakdown import Group, by_occlusion, by_people, by_size, by_visibility, precision_curves
from .image_scores import ImageScore, image_scores
from .keypoint_errors import (
    KINDS,
    KeypointErrors,
    classify_keypoints,
    find_keypoint_errors,
    find_uncrowded,
)
from .rankings import Ranking, compare_rankings

__all__ = [
    'Group',
    'ImageScore',
    'KeypointErrors',
    'KINDS',
    'Ranking',
    'by_occlusion',
    'by_people',
    'by_size',
    'by_visibility',
    'compare_rankings',
    'classify_keypoints',
    'image_scores',
    'find_keypoint_errors',
    'find_uncrowded',
    'precision_curves',
]
