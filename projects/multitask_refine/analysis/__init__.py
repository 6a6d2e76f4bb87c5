from .breakdown import Group, by_occlusion, by_people, by_size, by_visibility, precision_curves
from .image_scores import ImageScore, image_scores
from .keypoint_errors import KINDS, JointErrors, classify_joints, joint_errors

__all__ = [
    'Group',
    'ImageScore',
    'JointErrors',
    'KINDS',
    'by_occlusion',
    'by_people',
    'by_size',
    'by_visibility',
    'classify_joints',
    'image_scores',
    'joint_errors',
    'precision_curves',
]
