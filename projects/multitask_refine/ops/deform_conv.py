"""Deformable convolution: the report's Eq. 5.

Shape letters: B images, C channels, G deformable groups, N kernel points.
"""

import math
import operator

import torch
from mmcv.ops import deform_conv2d, modulated_deform_conv2d
from torch import Tensor

from .cpu.deform_conv import deform_conv_by_gather

# Images that mmcv's operator computes at a time.
_MAX_STEP = 32


def deform_conv(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    deform_groups: int,
) -> Tensor:
    """Compute a deformable convolution by the faster implementation on the tensors' device.

    ``y(p0) = sum_n w(p_n) m_n x(p0 + p_n + dp_n)`` (report section 3.2.2, Eq. 5; the modulation
    mask m_n is that of version 2).

    Args:
        x (Tensor): Feature, shape (B, C_in, H, W).
        offset (Tensor): dp_n in pixels of ``x``, y before x, shape (B, 2GN, H_out, W_out).
        mask (Tensor, optional): m_n, shape (B, GN, H_out, W_out); 1 if None.
        weight (Tensor): Shape (C_out, C_in / groups, kernel height, kernel width).
        bias (Tensor, optional): Shape (C_out).
        stride (tuple[int]): As in ``torch.conv2d``.
        padding (tuple[int]): As in ``torch.conv2d``, with zeros.
        dilation (tuple[int]): As in ``torch.conv2d``.
        groups (int): As in ``torch.conv2d``.
        deform_groups (int): G.

    Returns:
        Tensor: y, shape (B, C_out, H_out, W_out).
    """
    implementation = deform_conv_by_gather if x.is_cpu else deform_conv_by_mmcv
    return implementation(
        x, offset, mask, weight, bias, stride, padding, dilation, groups, deform_groups
    )


def deform_conv_by_mmcv(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    deform_groups: int,
) -> Tensor:
    """Compute :func:`deform_conv` by mmcv's operators.

    They do not support bfloat16, which is computed in float32.
    """
    if x.dtype == torch.bfloat16:
        with torch.autocast(x.device.type, enabled=False):
            return deform_conv_by_mmcv(
                x.float(),
                offset.float(),
                None if mask is None else mask.float(),
                weight.float(),
                None if bias is None else bias.float(),
                stride,
                padding,
                dilation,
                groups,
                deform_groups,
            ).to(x.dtype)
    y: Tensor
    if mask is None and any(map(operator.lt, x.shape[2:], weight.shape[2:])):
        # Version 1 refuses maps that are smaller than the kernel.
        mask = offset.new_ones(len(offset), offset.shape[1] // 2, *offset.shape[2:])
    if mask is not None:
        y = modulated_deform_conv2d(
            x, offset, mask, weight, bias, stride, padding, dilation, groups, deform_groups
        )
        return y
    # The operator's step must divide the batch: pad it.
    batch = x.shape[0]
    num_steps = math.ceil(batch / _MAX_STEP)
    step = math.ceil(batch / num_steps)
    pad = num_steps * step - batch
    if pad:
        x = torch.cat([x, x.new_zeros(pad, *x.shape[1:])])
        offset = torch.cat([offset, offset.new_zeros(pad, *offset.shape[1:])])
    y = deform_conv2d(
        x, offset, weight, stride, padding, dilation, groups, deform_groups, False, step
    )[:batch]
    return y if bias is None else y + bias[:, None, None]
