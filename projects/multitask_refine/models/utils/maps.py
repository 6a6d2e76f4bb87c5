"""Maps on the cells of RoIs."""

import torch.nn.functional as F
from torch import Tensor


def pool_maps(maps: Tensor, feats: Tensor) -> Tensor:
    """Average maps to the resolution of a feature.

    Args:
        maps (Tensor): Shape (R, M, S, S).
        feats (Tensor): Feature of the same RoIs, shape (R, C, P, P), with P up to S.

    Returns:
        Tensor: Shape (R, M, P, P).
    """
    side = int(feats.shape[-1])  # a number, also when it is traced
    stride, rest = divmod(int(maps.shape[-1]), side)
    if rest:
        return F.adaptive_avg_pool2d(maps, side)
    # A mean, where it can: OpenVINO's poolings fail without RoIs. (R, M, P, stride, P, stride)
    return maps.unflatten(3, (side, stride)).unflatten(2, (side, stride)).mean((3, 5))
