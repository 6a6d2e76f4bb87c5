from .keypoint_boxes import PoseBoxes

__all__ = ['PoseBoxes']
