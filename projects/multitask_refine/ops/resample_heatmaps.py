"""Bilinear resampling of heatmaps by learned offsets.

Shape letters: R RoIs, K keypoints, S heatmap side. Offsets are in heatmap
pixels; positions count heatmap cells by their index, so cell ``i`` is read
at position ``i`` exactly.
"""

from typing import Optional

import torch
import torch.nn.functional as F
from mmcv.ops import deform_conv2d
from torch import Tensor


def bound_offsets(offsets: Tensor, max_offset: Optional[float]) -> Tensor:
    """Keep every component of the offsets between -M and M.

    ``M tanh(offset / M)``: near zero it is the identity, gradient included.
    EDVR and BasicVSR++ bound theirs by ``10 tanh(offset)``, which also makes
    small offsets and their gradients ten times as large.

    Args:
        offsets (Tensor): Predicted offsets, of any shape.
        max_offset (float, optional): M, in the unit of the offsets; None
            leaves them free.

    Returns:
        Tensor: The bounded offsets, of the same shape.
    """
    if max_offset is None:
        return offsets
    return max_offset * torch.tanh(offsets / max_offset)


def resample_heatmaps(heatmaps: Tensor, offsets: Tensor) -> Tensor:
    """Resample every heatmap at the places its own offset map points to.

    ``y(p0) = x(p0 + dp(p0))`` with bilinear interpolation, cells outside the
    map counting as 0 (report section 3.2.3, Eq. 6 with Eq. 2 and 3).

    Args:
        heatmaps (Tensor): Probabilities x, shape (R, K, S, S).
        offsets (Tensor): dp in heatmap pixels, shape (R, 2K, S, S); channels
            2k and 2k+1 are the x and the y offset of keypoint k.

    Returns:
        Tensor: The refined heatmaps y, shape (R, K, S, S). Of half precision
        they are float32: half precision cannot hold a position.

    Raises:
        ValueError: If the two shapes do not belong together.
    """
    _check_shapes(heatmaps, offsets)
    num_rois, num_keypoints, height, width = heatmaps.shape
    exact = torch.promote_types(heatmaps.dtype, torch.float32)
    maps = heatmaps.reshape(num_rois * num_keypoints, 1, height, width)
    maps = maps.to(exact)
    dp = offsets.reshape(num_rois * num_keypoints, 2, height, width).to(exact)
    x = torch.arange(width, dtype=dp.dtype, device=dp.device) + dp[:, 0]
    y = torch.arange(height, dtype=dp.dtype, device=dp.device)[:, None] + dp[:, 1]
    # What is far outside reads 0 like what is near; it could overflow.
    x, y = x.clamp(-2, width + 1), y.clamp(-2, height + 1)
    # grid_sample counts in half map sizes from the middle of the map.
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    refined = F.grid_sample(maps, grid, mode='bilinear', padding_mode='zeros', align_corners=False)
    return refined.reshape(heatmaps.shape)


def resample_heatmaps_by_deform_conv(heatmaps: Tensor, offsets: Tensor) -> Tensor:
    """The same resampling, computed by mmcv's deformable convolution.

    Eq. 6 is a deformable convolution with a 1x1 kernel of weight 1, K groups
    and K deformable groups. Arguments, result and errors are those of
    :func:`resample_heatmaps`.
    """
    _check_shapes(heatmaps, offsets)
    num_rois, num_keypoints, height, width = heatmaps.shape
    # mmcv's kernel wants y before x.
    dy_dx = offsets.reshape(num_rois, num_keypoints, 2, height, width).flip(2)
    weight = heatmaps.new_ones(num_keypoints, 1, 1, 1)
    # One RoI a step: the kernel asks that its step divide the batch.
    return deform_conv2d(
        heatmaps,
        dy_dx.reshape(offsets.shape).contiguous(),
        weight,
        1,
        0,
        1,
        num_keypoints,
        num_keypoints,
        False,
        1,
    )


def _check_shapes(heatmaps: Tensor, offsets: Tensor) -> None:
    num_rois, num_keypoints, height, width = heatmaps.shape
    expected = (num_rois, 2 * num_keypoints, height, width)
    if tuple(offsets.shape) != expected:
        raise ValueError(
            f'offsets must have shape {expected}, two channels for each of '
            f'the {num_keypoints} heatmaps, but have {tuple(offsets.shape)}'
        )
