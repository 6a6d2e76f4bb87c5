"""The network: backbone, FPN, RPN and the multitask RoI head."""
from typing import Dict, Tuple

from mmdet.models.detectors import TwoStageDetector
from mmdet.registry import MODELS
from torch import Tensor

from ..ops import use_fast_convs
from .finite import check_finite


@MODELS.register_module()
class MultitaskRCNN(TwoStageDetector):
    """Find people; give each a box, a mask and K joints (report, Figure 1).

    A two-stage detector in the style of Mask R-CNN whose RoI head is a
    :class:`~projects.multitask_refine.models.MultitaskRoIHead`. Refinement
    is a matter of the parts' configs: ``RefinedConv2d`` in the backbone (RB)
    and in the keypoint head (H), ``refine`` in the keypoint head.

    Args:
        fast_convs (bool): Whether large 3x3 convolutions compute by
            Winograd's method on the CPU; the results differ by their
            rounding. Defaults to True.
        kwargs: As in ``mmdet.models.TwoStageDetector``.

    ``predict`` returns data samples whose ``pred_instances`` hold what
    ``MultitaskRoIHead.predict`` describes, in pixels of the original image.
    """

    def __init__(self, *, fast_convs: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        if fast_convs:
            use_fast_convs(self)

    def parse_losses(
            self, losses: Dict[str,
                               Tensor]) -> Tuple[Tensor, Dict[str, Tensor]]:
        """Add up the losses.

        Returns:
            tuple[Tensor, dict]: The sum, and each term for the log.

        Raises:
            NonFiniteLossError: If the sum is NaN or infinite. AMP's scaling
                comes later and is not looked at.
        """
        total, terms = super().parse_losses(losses)
        check_finite(total, terms)
        return total, terms
