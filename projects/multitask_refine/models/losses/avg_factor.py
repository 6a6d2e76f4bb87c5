"""Average factors (normalizers) of losses over all ranks.

Distributed training averages the gradients of the ranks. If each rank divided its loss by its own
number of anchors or RoIs, a rank with few of them would weigh as much as one with many. Divided by
the mean number over all ranks, N ranks give the gradients of one rank that has all images.
"""

import torch
from mmdet.utils import reduce_mean
from torch import Tensor, nn


def reduce_avg_factor(count: int | Tensor, device: torch.device) -> Tensor:
    """Return the average factor over all ranks (the loss normalizer).

    A collective operation: every rank must call it, including ranks without items.

    Args:
        count (int | Tensor): Number of this rank's items.
        device (torch.device): Device of the loss.

    Returns:
        Tensor: Mean number of items over all ranks, a positive float32 scalar. In a single process
        that is ``count`` unless it is 0.
    """
    # Half precision cannot hold the count of a large batch.
    if not isinstance(count, Tensor):
        count = torch.full((), count, device=device)  # unlike torch.tensor without a copy
    return reduce_mean(count.float()).clamp(min=1e-6)


def sync_avg_factor(losses: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """Replace this rank's average factor in losses by that of all ranks.

    A collective operation: every rank must call it. In a single process nothing changes.

    Args:
        losses (dict[str, Tensor]): Losses that were divided by ``count``; zeros where it is 0.
            Values without 'loss' in their key, such as an accuracy, are left as they are.
        count (int): Number of this rank's items.

    Returns:
        dict[str, Tensor]: The same keys. Averaged over the ranks, each loss is the mean over the
        items of all ranks.
    """
    device = next(iter(losses.values())).device
    scale = count / reduce_avg_factor(count, device)
    return {
        key: value * scale.to(value) if 'loss' in key else value for key, value in losses.items()
    }


def zero_loss(head: nn.Module, feats: Tensor) -> Tensor:
    """Return a loss of 0 with a gradient of 0 for every parameter of a head.

    For a rank without labels: the other ranks wait for the gradients of all parameters. The head
    does not run, so that the statistics of its batch normalization do not change.

    Args:
        head (nn.Module): The head.
        feats (Tensor): Its input, of any shape; gets a gradient of 0, too.

    Returns:
        Tensor: A scalar.
    """
    return 0 * (sum(parameter.sum() for parameter in head.parameters()) + feats.sum())
