"""The network: backbone, FPN, RPN and the multitask RoI head."""

from difflib import get_close_matches
from typing import Dict, Sequence, Tuple

from mmdet.models.detectors import TwoStageDetector
from mmdet.registry import MODELS
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from multitask_refine.models.losses.finite import check_finite
from multitask_refine.ops import convert_to_winograd
from multitask_refine.utils.errors import ExplainedError


class FrozenModulesError(ExplainedError, ValueError):
    """A ``frozen_modules`` that names no part, or leaves none to train."""


@MODELS.register_module()
class MultitaskRCNN(TwoStageDetector):
    """Find people; give each a box, a mask and K joints (report, Figure 1).

    A two-stage detector in the style of Mask R-CNN whose RoI head is a
    :class:`~multitask_refine.models.MultitaskRoIHead`. Refinement
    is a matter of the parts' configs: ``RefinedConv2d`` in the backbone (RB)
    and in the keypoint head (H), ``refine`` in the keypoint head.

    Args:
        fast_convs (bool): Whether large 3x3 convolutions compute by
            Winograd's method on the CPU; the results differ by their
            rounding. Defaults to True.
        frozen_modules (Sequence[str]): Parts that are not trained, as
            'backbone', 'neck' or 'roi_head.bbox_head': their parameters get
            no gradients, and in training their batch norm and dropout behave
            as in a test. Defaults to none.
        norm_eval (bool): Whether batch norm is in eval mode in training,
            too, in every part of the network: it normalizes by the running
            statistics and leaves them as they are, while its weight and bias
            are trained. For small batches from a pretrained start. Defaults
            to False.
        kwargs: As in ``mmdet.models.TwoStageDetector``.

    ``predict`` returns data samples whose ``pred_instances`` hold what
    ``MultitaskRoIHead.predict`` describes, in pixels of the original image.

    Raises:
        FrozenModulesError: If ``frozen_modules`` has a name that no part of
            the network has, or if it leaves nothing to train.
    """

    def __init__(
        self,
        *,
        fast_convs: bool = True,
        frozen_modules: Sequence[str] = (),
        norm_eval: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if fast_convs:
            convert_to_winograd(self)
        self.norm_eval = norm_eval
        self.frozen_modules = tuple(frozen_modules)
        self._freeze()

    def _freeze(self) -> None:
        modules = dict(self.named_modules())
        for name in self.frozen_modules:
            if not name or name not in modules:
                nearest = get_close_matches(name, modules, cutoff=0)
                raise FrozenModulesError(
                    'model.frozen_modules: expected names of parts of the '
                    f'network, found {name!r}. The nearest are '
                    f'{", ".join(map(repr, nearest))}.'
                )
            modules[name].requires_grad_(False)
        if self.frozen_modules and not any(each.requires_grad for each in self.parameters()):
            raise FrozenModulesError(
                f'model.frozen_modules: {list(self.frozen_modules)} leaves '
                'nothing to train. Take out the part that is to be trained.'
            )

    def train(self, mode: bool = True) -> 'MultitaskRCNN':
        """Switch to training, except for ``frozen_modules`` and, with
        ``norm_eval``, batch norm."""
        super().train(mode)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        for name in self.frozen_modules:
            self.get_submodule(name).eval()
        return self

    def parse_losses(self, losses: Dict[str, Tensor]) -> Tuple[Tensor, Dict[str, Tensor]]:
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
