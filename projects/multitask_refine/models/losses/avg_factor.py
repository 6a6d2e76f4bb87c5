"""Losses that do not depend on how the images are spread over the ranks.

Distributed training averages the ranks' gradients. A loss that each rank
divides by its own number of anchors or RoIs would then weigh a rank with few
of them as much as one with many. Divided by the ranks' mean number, N ranks
give the gradients of one rank that has all the images.
"""

from typing import Dict, Tuple

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.registry import MODELS
from mmdet.utils import reduce_mean
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from multitask_refine.ops import nms as nms_cpu


def reduce_avg_factor(count: int, device: torch.device) -> Tensor:
    """What to divide a sum over this rank's items by.

    Every rank must call this, also one without items: it waits for all.

    Args:
        count (int): Number of this rank's items.
        device (torch.device): Where the loss is.

    Returns:
        Tensor: The ranks' mean number, a float32 scalar above zero. On one
        process the number itself, if it is not 0.
    """
    # Half precision cannot hold the count of a large batch.
    mean = reduce_mean(torch.tensor(float(count), device=device))
    return mean.clamp(min=1e-6)


def share_losses(losses: Dict[str, Tensor], count: int) -> Dict[str, Tensor]:
    """Turn means over this rank's items into shares of all ranks' mean.

    Every rank must call this. On one process nothing changes.

    Args:
        losses (dict[str, Tensor]): Losses that were divided by ``count``;
            zeros where it is 0. What is no loss, such as an accuracy, is
            left as it is.
        count (int): Number of this rank's items.

    Returns:
        dict[str, Tensor]: The same keys; averaged over the ranks, the values
        are the mean over all ranks' items.
    """
    device = next(iter(losses.values())).device
    share = count / reduce_avg_factor(count, device)
    return {
        key: value * share.to(value) if 'loss' in key else value for key, value in losses.items()
    }


def zero_loss(head: nn.Module, feats: Tensor) -> Tensor:
    """Return a loss of 0 with a gradient of 0 for every parameter.

    For a rank without labels: the other ranks wait for the gradients of all
    parameters. The head does not run, so that the statistics of its batch
    normalisation stay.

    Args:
        head (nn.Module): Whose parameters take part.
        feats (Tensor): Its input, of any shape; takes part too.
    """
    return 0 * (sum(each.sum() for each in head.parameters()) + feats.sum())


@MODELS.register_module()
class SyncAvgFactorRPNHead(RPNHead):
    """mmdet's ``RPNHead``, normalised by the ranks' mean number of anchors.

    Arguments, weights and, on one process, losses as there. In mixed
    precision its results are float32, which ranking and suppression need.
    On the CPU suppression goes level by level, as no two boxes of different
    levels are compared anyway, and plain suppression is
    :func:`~multitask_refine.ops.nms`.
    """

    def forward_single(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """Objectness logits and box deltas of one level, as in mmdet."""
        scores, deltas = super().forward_single(x)
        return scores.float(), deltas.float()

    def get_targets(self, *args, **kwargs) -> tuple:
        """Targets as in mmdet; the fifth, what the losses are divided by, is
        that of all ranks."""
        *targets, num_anchors = super().get_targets(*args, **kwargs)
        device = targets[0][0].device
        return (*targets, reduce_avg_factor(num_anchors, device))

    def _bbox_post_process(self, results: InstanceData, cfg: ConfigDict, **kwargs) -> InstanceData:
        """Suppress an image's proposals and keep the best, as in mmdet."""
        if not results.scores.is_cuda:
            cfg = ConfigDict(cfg, nms=_for_cpu(cfg.nms))
        return super()._bbox_post_process(results, cfg, **kwargs)


def _for_cpu(nms: dict) -> dict:
    """Settings of a suppression with the same results by a faster way."""
    if nms.keys() == {'type', 'iou_threshold'} and nms['type'] == 'nms':
        nms = dict(nms, type=nms_cpu)
    return dict(nms, split_thr=0)
