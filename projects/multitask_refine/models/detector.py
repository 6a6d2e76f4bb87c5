"""The network: backbone, FPN, RPN and the multitask RoI head."""
from mmdet.models.detectors import TwoStageDetector
from mmdet.registry import MODELS


@MODELS.register_module()
class MultitaskRCNN(TwoStageDetector):
    """Find people; give each a box, a mask and K joints (report, Figure 1).

    A two-stage detector in the style of Mask R-CNN whose RoI head is a
    :class:`~projects.multitask_refine.models.MultitaskRoIHead`. Refinement
    is a matter of the parts' configs: ``RefinedConv2d`` in the backbone (RB)
    and in the keypoint head (H), ``refine`` in the keypoint head.

    ``predict`` returns data samples whose ``pred_instances`` hold what
    ``MultitaskRoIHead.predict`` describes, in pixels of the original image.
    """
