"""Eq. 5, computed in two ways that agree.

mmcv's kernels are the choice on CUDA. On the CPU they run on one thread and
scatter their gradients value by value; there, weighted sums of pixels and one
matrix product do the same many times faster.

Shape letters: B images, C channels, G deformable groups, N kernel points, P
pixels of the result.
"""
import math
from itertools import repeat
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from mmcv.ops import deform_conv2d, modulated_deform_conv2d
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .products import multiply

Pair = Tuple[int, int]
_MAX_STEP = 32
# Samples at a time on the CPU: of larger tensors the C library returns the
# memory each time, and getting it anew takes as long as the sums.
_MAX_SAMPLES = 1 << 23


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
    way = deform_conv_by_mmcv if x.is_cuda else deform_conv_by_rows
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


def deform_conv_by_rows(x: Tensor, offset: Tensor, factor: Optional[Tensor],
                        weight: Tensor, bias: Optional[Tensor], stride: Pair,
                        padding: Pair, dilation: Pair, groups: int,
                        deform_groups: int) -> Tensor:
    """:func:`deform_conv` by weighted sums of pixels and a matrix product.

    With the channels last a pixel is a row of a matrix. A sample is the sum
    of four rows by bilinear weights, and the convolution is one product of
    all samples with the weights.
    """
    samples = weight[0, 0].numel() * x.shape[1] * math.prod(
        offset.shape[-2:])
    step = max(1, _MAX_SAMPLES // max(1, samples))
    parts = [
        _convolve_rows(*part, weight, stride, padding, dilation, groups,
                       deform_groups)
        for part in zip(x.split(step), offset.split(step),
                        repeat(None) if factor is None else factor.split(step))
    ]
    y = torch.cat(parts)
    y = y if bias is None else y + bias
    return y.permute(0, 3, 1, 2)


def _convolve_rows(x: Tensor, offset: Tensor, factor: Optional[Tensor],
                   weight: Tensor, stride: Pair, padding: Pair,
                   dilation: Pair, groups: int, deform_groups: int) -> Tensor:
    """Some images to y without bias, (B, H_out, W_out, C_out)."""
    batch, channels = x.shape[:2]
    out_size = offset.shape[-2:]
    # Half precision cannot hold a position.
    exact = torch.promote_types(x.dtype, torch.float32)
    grid = _sampling_grid(
        offset.to(exact), weight.shape[-2:], stride, padding, dilation,
        deform_groups)
    pixels, shares = _bilinear(grid, x.shape[-2:])
    if factor is not None:
        shares = shares * factor.reshape(*grid.shape[:-1], 1).to(exact)
    rows = x.reshape(batch * deform_groups, -1, *x.shape[-2:])
    rows = rows.permute(0, 2, 3, 1).flatten(0, 2).to(exact).contiguous()
    # Row by row of the product: pixel of the result, kernel point, channel.
    pixels, shares = (part.permute(0, 2, 3, 1, 4).reshape(-1, 4)
                      for part in (pixels, shares))
    matrices = weight.permute(0, 2, 3, 1).reshape(
        groups, len(weight) // groups, -1)
    shape = (batch, deform_groups, math.prod(out_size),
             weight[0, 0].numel(), channels // deform_groups)
    inputs = rows, pixels, shares, matrices, shape
    # A graph that is recorded holds the operators themselves.
    way = (_sampled_product if torch.jit.is_tracing() else
           _SampledProduct.apply)
    y = way(*inputs)
    return y.transpose(0, 1).reshape(batch, *out_size, -1)


class _SampledProduct(Function):
    """Samples times weights. The samples, nine times as many as there are
    pixels, are not kept for the gradients but taken again."""

    @staticmethod
    def forward(ctx, rows: Tensor, pixels: Tensor, shares: Tensor,
                matrices: Tensor, shape: Tuple[int, ...]) -> Tensor:
        """The pixels that are summed up and their shares, each (BPN, 4), of
        rows (BGHW, C / G), and weights (groups, C_out / groups, N C_in /
        groups), to (groups, BP, C_out / groups)."""
        ctx.save_for_backward(rows, pixels, shares, matrices)
        ctx.shape = shape
        return _sampled_product(rows, pixels, shares, matrices, shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        rows, pixels, shares, matrices = ctx.saved_tensors
        with torch.enable_grad():
            inputs = [part.detach().requires_grad_()
                      for part in (rows, shares)]
            samples = _sample(inputs[0], pixels, inputs[1], matrices,
                              ctx.shape)
        of_matrices = _multiply(grad.transpose(1, 2), samples.detach())
        of_rows, of_shares = torch.autograd.grad(
            samples, inputs, _multiply(grad, matrices))
        return of_rows, None, of_shares, of_matrices, None


def _sampled_product(rows: Tensor, pixels: Tensor, shares: Tensor,
                     matrices: Tensor, shape: Tuple[int, ...]) -> Tensor:
    """See :class:`_SampledProduct`."""
    samples = _sample(rows, pixels, shares, matrices, shape)
    return _multiply(samples, matrices.transpose(1, 2))


def _multiply(one: Tensor, other: Tensor) -> Tensor:
    """Products of (groups, a, b) and (groups, b, c); that of one group by all
    threads."""
    if len(one) > 1:
        return one @ other
    return multiply(one[0], other[0])[None]


def _sample(rows: Tensor, pixels: Tensor, shares: Tensor, matrices: Tensor,
            shape: Tuple[int, ...]) -> Tensor:
    """Weighted sums of rows, arranged for the product: (groups, BP, N C_in /
    groups) in the type of the weights.

    Args:
        shape (tuple[int]): B, G, P, N and C / G.
    """
    samples = F.embedding_bag(
        pixels, rows, per_sample_weights=shares, mode='sum')
    batch, _, pixels_out, points, _ = shape
    samples = samples.to(matrices.dtype).reshape(shape).permute(0, 2, 3, 1, 4)
    samples = samples.reshape(batch * pixels_out, points, len(matrices), -1)
    return samples.permute(2, 0, 1, 3).flatten(2)


def _bilinear(grid: Tensor, size: Pair) -> Tuple[Tensor, Tensor]:
    """The four pixels around each position and their weights.

    Args:
        grid (Tensor): Positions as (y, x) in pixels, counted by index,
            shape (BG, N, H_out, W_out, 2).
        size (tuple[int]): Height and width of the map.

    Returns:
        tuple: Indices of pixels, row by row of all BG maps, and weights, 0
        for pixels outside, each (BG, N, H_out, W_out, 4).
    """
    height, width = size
    first = grid.detach().floor()
    far_y, far_x = (grid - first).unbind(-1)
    y, x = first.unbind(-1)
    y, x = torch.stack([y, y, y + 1, y + 1], -1), torch.stack(
        [x, x + 1, x, x + 1], -1)
    down = torch.stack([1 - far_y, 1 - far_y, far_y, far_y], -1)
    across = torch.stack([1 - far_x, far_x, 1 - far_x, far_x], -1)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    # What is not finite is outside, too.
    y, x = (torch.where(inside, part, 0).long() for part in (y, x))
    index = y * width + x
    maps = torch.arange(len(grid), device=grid.device) * (height * width)
    return index + maps.view(-1, 1, 1, 1, 1), down * across * inside


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
