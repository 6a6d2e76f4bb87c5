from .pose_boxes import PoseBoxes

__all__ = ['PoseBoxes']
