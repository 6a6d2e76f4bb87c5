"""Eq. 5, computed in two ways that agree.

mmcv's kernels are the choice on CUDA. On the CPU they run on one thread and
scatter their gradients value by value; there, sampling by ``grid_sample`` and
one matrix product does the same many times faster.

Shape letters: B images, C channels, G deformable groups, N kernel points.
"""
import math
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from mmcv.ops import deform_conv2d, modulated_deform_conv2d
from torch import Tensor

Pair = Tuple[int, int]
_MAX_STEP = 32


def deform_conv(x: Tensor, offset: Tensor, factor: Optional[Tensor],
                weight: Tensor, bias: Optional[Tensor], stride: Pair,
                padding: Pair, dilation: Pair, groups: int,
                deform_groups: int) -> Tensor:
    """Deformable convolution by the faster way on the tensors' device.

    ``y(p0) = sum_n w(p_n) m_n x(p0 + p_n + dp_n)`` (report section 3.2.2,
    Eq. 5; the factors m_n are version 2's).

    Args:
        x (Tensor): Feature, shape (B, C_in, H, W).
        offset (Tensor): dp_n in pixels of ``x``, y before x,
            shape (B, 2GN, H_out, W_out).
        factor (Tensor, optional): m_n, shape (B, GN, H_out, W_out); 1 if
            None.
        weight (Tensor): Shape (C_out, C_in / groups, kernel height, width).
        bias (Tensor, optional): Shape (C_out).
        stride, padding, dilation, groups: As in ``torch.conv2d``.
        deform_groups (int): G.

    Returns:
        Tensor: y, shape (B, C_out, H_out, W_out).
    """
    way = deform_conv_by_mmcv if x.is_cuda else deform_conv_by_grid_sample
    return way(x, offset, factor, weight, bias, stride, padding, dilation,
               groups, deform_groups)


def deform_conv_by_mmcv(x: Tensor, offset: Tensor, factor: Optional[Tensor],
                        weight: Tensor, bias: Optional[Tensor], stride: Pair,
                        padding: Pair, dilation: Pair, groups: int,
                        deform_groups: int) -> Tensor:
    """:func:`deform_conv` by mmcv's operators; bfloat16, which they lack,
    is computed in float32."""
    if x.dtype == torch.bfloat16:
        parts = [part if part is None else part.float()
                 for part in (x, offset, factor, weight, bias)]
        with torch.autocast(x.device.type, enabled=False):
            return deform_conv_by_mmcv(*parts, stride, padding, dilation,
                                       groups, deform_groups).to(x.dtype)
    if factor is not None:
        return modulated_deform_conv2d(x, offset, factor, weight, bias, stride,
                                       padding, dilation, groups,
                                       deform_groups)
    # The operator works in steps that must divide the batch: fill it up.
    batch = x.shape[0]
    num_steps = math.ceil(batch / _MAX_STEP)
    step = math.ceil(batch / num_steps)
    fill = num_steps * step - batch
    if fill:
        x = torch.cat([x, x.new_zeros(fill, *x.shape[1:])])
        offset = torch.cat([offset, offset.new_zeros(fill, *offset.shape[1:])])
    y = deform_conv2d(x, offset, weight, stride, padding, dilation, groups,
                      deform_groups, False, step)[:batch]
    return y if bias is None else y + bias[:, None, None]


def deform_conv_by_grid_sample(x: Tensor, offset: Tensor,
                               factor: Optional[Tensor], weight: Tensor,
                               bias: Optional[Tensor], stride: Pair,
                               padding: Pair, dilation: Pair, groups: int,
                               deform_groups: int) -> Tensor:
    """:func:`deform_conv` by bilinear sampling and a matrix product."""
    batch, channels, height, width = x.shape
    out_size = offset.shape[-2:]
    # Half precision cannot hold a position.
    exact = torch.promote_types(x.dtype, torch.float32)
    grid = _sampling_grid(
        offset.to(exact), weight.shape[-2:], stride, padding, dilation,
        deform_groups)
    # Pixel i lies at (2 i + 1) / size - 1 on the grid.
    scale = grid.new_tensor([2 / height, 2 / width])
    grid = (grid + 0.5) * scale - 1
    columns = F.grid_sample(
        x.reshape(batch * deform_groups, -1, height, width).to(exact),
        grid.flip(-1).flatten(1, 2),
        mode='bilinear',
        padding_mode='zeros',
        align_corners=False)
    columns = columns.to(x.dtype).reshape(batch, deform_groups, -1,
                                          weight[0, 0].numel(), *out_size)
    if factor is not None:
        columns = columns * factor.reshape(batch, deform_groups, 1, -1,
                                           *out_size)
    columns = columns.reshape(batch, groups, -1, math.prod(out_size))
    y = weight.reshape(groups, weight.shape[0] // groups, -1) @ columns
    y = y.reshape(batch, -1, *out_size)
    return y if bias is None else y + bias[:, None, None]


def _sampling_grid(offset: Tensor, kernel: Pair, stride: Pair, padding: Pair,
                   dilation: Pair, deform_groups: int) -> Tensor:
    """Positions p0 + p_n + dp_n as (y, x) in pixels, counted by index.

    Returns:
        Tensor: Shape (BG, N, H_out, W_out, 2).
    """
    out_size = offset.shape[-2:]
    axes = [
        torch.arange(kernel[i], device=offset.device)[:, None] * dilation[i] +
        torch.arange(out_size[i], device=offset.device) * stride[i] -
        padding[i] for i in (0, 1)
    ]
    y = axes[0][:, None, :, None].expand(*kernel, *out_size)
    x = axes[1][None, :, None, :].expand(*kernel, *out_size)
    regular = torch.stack([y, x], -1).reshape(-1, *out_size, 2)
    dp = offset.reshape(-1, len(regular), 2, *out_size).permute(0, 1, 3, 4, 2)
    return regular.to(offset) + dp
