"""The network: backbone, FPN, RPN and the multitask RoI head."""

from collections.abc import Sequence
from difflib import get_close_matches

import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.registry import MODELS
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from multitask_refine.models.losses.finite import check_finite
from multitask_refine.ops import set_fast_cpu_ops
from multitask_refine.utils.errors import ExplainedError


class FrozenModulesError(ExplainedError, ValueError):
    """``frozen_modules`` names an unknown module, or leaves nothing to train."""


@MODELS.register_module()
class MultitaskRCNN(TwoStageDetector):
    """Detect people with a box, a mask and K keypoints each (report, Figure 1).

    A two-stage detector in the style of Mask R-CNN whose RoI head is a
    :class:`~multitask_refine.models.MultitaskRoIHead`. Refinement is a matter of the configs of
    its modules: ``RefinedConv2d`` in the backbone (RB) and in the keypoint head (H), ``refine`` in
    the keypoint head.

    ``predict`` returns data samples whose ``pred_instances`` are those of
    ``MultitaskRoIHead.predict``, in pixels of the original image.

    Args:
        fast_cpu_ops (bool): Whether layers on the CPU use the implementations of
            :mod:`multitask_refine.ops.cpu`, whose results differ from PyTorch's and mmcv's by
            rounding. Defaults to True.
        frozen_modules (Sequence[str]): Modules that are not trained, such as 'backbone', 'neck' or
            'roi_head.bbox_head': their parameters get no gradients, and their batch normalization
            and dropout stay in evaluation mode. Defaults to none.
        norm_eval (bool): Whether batch normalization stays in evaluation mode in the whole
            network: it uses and keeps its running statistics, while its weight and bias are
            trained. For small batches from pretrained weights. Defaults to False.
        kwargs: As in ``mmdet.models.TwoStageDetector``.

    Raises:
        FrozenModulesError: If ``frozen_modules`` names a module that the network does not have, or
            leaves nothing to train.
    """

    def __init__(
        self,
        *,
        fast_cpu_ops: bool = True,
        frozen_modules: Sequence[str] = (),
        norm_eval: bool = False,
        **kwargs,
    ) -> None:
        """Build the network and freeze its modules."""
        super().__init__(**kwargs)
        self.fast_cpu_ops = fast_cpu_ops
        set_fast_cpu_ops(self, fast_cpu_ops)
        self.norm_eval = norm_eval
        self.frozen_modules = tuple(frozen_modules)
        modules = dict(self.named_modules())
        for name in self.frozen_modules:
            if not name or name not in modules:
                nearest = get_close_matches(name, modules, cutoff=0)
                raise FrozenModulesError(
                    'model.frozen_modules: expected names of modules of the network, '
                    f'found {name!r}. The nearest are {", ".join(map(repr, nearest))}.'
                )
            modules[name].requires_grad_(False)
        if self.frozen_modules and not any(each.requires_grad for each in self.parameters()):
            raise FrozenModulesError(
                f'model.frozen_modules: {list(self.frozen_modules)} leaves nothing to train. '
                'Remove the module that is to be trained.'
            )

    def train(self, mode: bool = True) -> 'MultitaskRCNN':
        """Set training mode, except for frozen modules and, if ``norm_eval``, batch norm."""
        super().train(mode)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        for name in self.frozen_modules:
            self.get_submodule(name).eval()
        return self

    def extract_mask_feat(self, batch_inputs: Tensor, x: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the feature maps that the mask head pools from: those of the other heads.

        Args:
            batch_inputs (Tensor): Images, (B, 3, H, W).
            x (tuple[Tensor]): Feature maps of all levels, (B, C, H, W) each.
        """
        return x

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum up the losses.

        Args:
            losses (dict[str, Tensor]): The losses of all heads.

        Returns:
            tuple[Tensor, dict[str, Tensor]]: The sum, and each term on the CPU, for the log.

        Raises:
            NonFiniteLossError: If the sum is NaN or infinite, before AMP's scaling.
        """
        total, terms = super().parse_losses(losses)
        # One copy for the check and the log, in place of one for each term.
        values = torch.stack([each.detach() for each in terms.values()]).cpu()
        terms = dict(zip(terms, values, strict=True))
        check_finite(terms['loss'], terms)
        return total, terms
