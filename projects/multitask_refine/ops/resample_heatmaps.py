"""Bilinear resampling of heatmaps by learned offsets: the report's Eq. 6.

Shape letters: R RoIs, K keypoints, S heatmap side. Offsets are in heatmap cells; positions count
cells by their index, so the value of cell ``i`` lies at position ``i``.
"""

import torch
import torch.nn.functional as F
from mmcv.ops import deform_conv2d
from torch import Tensor


def bound_offsets(offsets: Tensor, max_offset: float | None) -> Tensor:
    """Bound every component of the offsets to [-M, M].

    ``M tanh(offset / M)`` is the identity near zero, including its gradient. EDVR and BasicVSR++
    bound their offsets by ``10 tanh(offset)``, which also multiplies small offsets and their
    gradients by ten.

    Args:
        offsets (Tensor): Predicted offsets, of any shape.
        max_offset (float, optional): M, in the unit of the offsets; None for no bound.

    Returns:
        Tensor: The bounded offsets, of the same shape.
    """
    if max_offset is None:
        return offsets
    return max_offset * torch.tanh(offsets / max_offset)


def resample_heatmaps(heatmaps: Tensor, offsets: Tensor) -> Tensor:
    """Sample each heatmap at the positions that its offset map points to.

    ``y(p0) = x(p0 + dp(p0))`` with bilinear interpolation; cells outside the map count as 0
    (report section 3.2.3, Eq. 6 with Eq. 2 and 3).

    Args:
        heatmaps (Tensor): Probabilities x, shape (R, K, S, S).
        offsets (Tensor): dp in heatmap cells, shape (R, 2K, S, S); channels 2k and 2k + 1 are the
            x and the y offset of keypoint k.

    Returns:
        Tensor: The refined heatmaps y, shape (R, K, S, S); float32 for heatmaps of half precision,
        which cannot hold a position.

    Raises:
        ValueError: If the two shapes do not match.
    """
    _check_shapes(heatmaps, offsets)
    num_rois, num_keypoints, height, width = heatmaps.shape
    exact = torch.promote_types(heatmaps.dtype, torch.float32)
    # Each keypoint's map is an image of one channel: (R K, 1, S, S) and (R K, 2, S, S).
    maps = heatmaps.reshape(num_rois * num_keypoints, 1, height, width).to(exact)
    dp = offsets.reshape(num_rois * num_keypoints, 2, height, width).to(exact)
    x = torch.arange(width, dtype=dp.dtype, device=dp.device) + dp[:, 0]  # (R K, S, S)
    y = torch.arange(height, dtype=dp.dtype, device=dp.device)[:, None] + dp[:, 1]
    # Far outside the map reads 0 as near outside does, but the grid could overflow.
    x, y = x.clamp(-2, width + 1), y.clamp(-2, height + 1)
    # grid_sample normalizes positions so that the map's borders are at -1 and 1.
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    refined = F.grid_sample(maps, grid, mode='bilinear', padding_mode='zeros', align_corners=False)
    return refined.reshape(heatmaps.shape)


def resample_heatmaps_by_deform_conv(heatmaps: Tensor, offsets: Tensor) -> Tensor:
    """Compute :func:`resample_heatmaps` by mmcv's deformable convolution.

    Eq. 6 is a deformable convolution with a 1x1 kernel of weight 1, K groups and K deformable
    groups. Arguments, result and errors as there.
    """
    _check_shapes(heatmaps, offsets)
    num_rois, num_keypoints, height, width = heatmaps.shape
    # mmcv's kernel expects y before x.
    dy_dx = offsets.reshape(num_rois, num_keypoints, 2, height, width).flip(2)  # (R, K, 2, S, S)
    weight = heatmaps.new_ones(num_keypoints, 1, 1, 1)
    refined: Tensor = deform_conv2d(
        heatmaps,
        dy_dx.reshape(offsets.shape).contiguous(),
        weight,
        1,  # stride
        0,  # padding
        1,  # dilation
        num_keypoints,  # groups
        num_keypoints,  # deformable groups
        False,  # bias
        1,  # RoIs at a time, which must divide their number
    )
    return refined


def _check_shapes(heatmaps: Tensor, offsets: Tensor) -> None:
    num_rois, num_keypoints, height, width = heatmaps.shape
    expected = (num_rois, 2 * num_keypoints, height, width)
    if tuple(offsets.shape) != expected:
        raise ValueError(
            f'offsets: expected shape {expected}, two channels for each of the {num_keypoints} '
            f'heatmaps, found {tuple(offsets.shape)}'
        )
