"""Anchors and the ranking of proposals as other frameworks have them."""

from typing import List, Tuple

import torch
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.structures import InstanceData
from torch import Tensor

from multitask_refine.models.losses.avg_factor import SyncAvgFactorRPNHead


@MODELS.register_module()
class LogitRankedRPNHead(SyncAvgFactorRPNHead):
    """An RPN head that ranks anchors by their logits.

    mmdet ranks by the sigmoid in float32, where all logits above 17 are one
    and the same. In float64, as here, their order is that of the logits, by
    which Detectron2 and torchvision rank. Arguments as in mmdet's
    ``RPNHead``.
    """

    def _predict_by_feat_single(
        self, cls_score_list: List[Tensor], *args, **kwargs
    ) -> InstanceData:
        """An image's proposals from the logits (A, H, W) of each level; their
        ``scores`` are float64."""
        return super()._predict_by_feat_single(
            [logits.double() for logits in cls_score_list], *args, **kwargs
        )


@TASK_UTILS.register_module()
class TorchvisionAnchorGenerator(AnchorGenerator):
    """Anchors as torchvision's ``AnchorGenerator`` lays them.

    Their corners are rounded to whole pixels. The step between them is the
    image's size divided by that of the feature map, rounded down: a map of
    odd size halved to the next level is rounded up, and so the step there is
    less than the level's stride.

    Arguments as in mmdet's ``AnchorGenerator``; ``strides`` begins with the
    finest level, whose maps must divide the (padded) image exactly.
    """

    def gen_single_level_base_anchors(self, *args, **kwargs) -> Tensor:
        """Anchors at the origin in image pixels, shape (A, 4)."""
        return super().gen_single_level_base_anchors(*args, **kwargs).round()

    def grid_priors(
        self,
        featmap_sizes: List[Tuple[int, int]],
        dtype: torch.dtype = torch.float32,
        device='cuda',
    ) -> List[Tensor]:
        """Anchors of all levels in image pixels, shape (H W A, 4) each.

        Args:
            featmap_sizes (list[tuple[int]]): Height and width of each level.
            dtype (torch.dtype): Defaults to float32.
            device: Defaults to 'cuda'.
        """
        width, height = (
            stride * size for stride, size in zip(self.strides[0], featmap_sizes[0][::-1])
        )
        return [
            self._lay(base.to(device, dtype), size, (height // size[0], width // size[1]))
            for base, size in zip(self.base_anchors, featmap_sizes)
        ]

    @staticmethod
    def _lay(base: Tensor, size: Tuple[int, int], step: Tuple[int, int]) -> Tensor:
        y, x = (
            torch.arange(count, device=base.device) * pixels for count, pixels in zip(size, step)
        )
        y, x = torch.meshgrid(y, x, indexing='ij')
        shifts = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
        return (shifts + base).reshape(-1, 4)
