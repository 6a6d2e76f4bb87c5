"""Eq. 5, computed in two ways that agree.

mmcv's kernels are the choice on CUDA. On the CPU they run on one thread and
scatter their gradients value by value; there, weighted sums of pixels and one
matrix product do the same many times faster.

Shape letters: B images, C channels, G deformable groups, N kernel points, P
pixels of the result.
"""

import math
from typing import Callable, Iterator, Optional, Tuple

import torch
import torch.nn.functional as F
from mmcv.ops import deform_conv2d, modulated_deform_conv2d
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .cpu.csr_matrix import CSRMatrix, csr_matmul, csr_transpose
from .cpu.mkldnn_linear import prepack_linear

Pair = Tuple[int, int]
_MAX_STEP = 32
# Samples at a time on the CPU: of larger tensors the C library returns the
# memory each time, and getting it anew takes as long as the sums.
_MAX_SAMPLES = 1 << 23


def deform_conv(
    x: Tensor,
    offset: Tensor,
    factor: Optional[Tensor],
    weight: Tensor,
    bias: Optional[Tensor],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    deform_groups: int,
) -> Tensor:
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
    return way(x, offset, factor, weight, bias, stride, padding, dilation, groups, deform_groups)


def deform_conv_by_mmcv(
    x: Tensor,
    offset: Tensor,
    factor: Optional[Tensor],
    weight: Tensor,
    bias: Optional[Tensor],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    deform_groups: int,
) -> Tensor:
    """:func:`deform_conv` by mmcv's operators; bfloat16, which they lack,
    is computed in float32."""
    if x.dtype == torch.bfloat16:
        parts = [
            part if part is None else part.float() for part in (x, offset, factor, weight, bias)
        ]
        with torch.autocast(x.device.type, enabled=False):
            return deform_conv_by_mmcv(
                *parts, stride, padding, dilation, groups, deform_groups
            ).to(x.dtype)
    if factor is not None:
        return modulated_deform_conv2d(
            x, offset, factor, weight, bias, stride, padding, dilation, groups, deform_groups
        )
    # The operator works in steps that must divide the batch: fill it up.
    batch = x.shape[0]
    num_steps = math.ceil(batch / _MAX_STEP)
    step = math.ceil(batch / num_steps)
    fill = num_steps * step - batch
    if fill:
        x = torch.cat([x, x.new_zeros(fill, *x.shape[1:])])
        offset = torch.cat([offset, offset.new_zeros(fill, *offset.shape[1:])])
    y = deform_conv2d(
        x, offset, weight, stride, padding, dilation, groups, deform_groups, False, step
    )[:batch]
    return y if bias is None else y + bias[:, None, None]


def deform_conv_by_rows(
    x: Tensor,
    offset: Tensor,
    factor: Optional[Tensor],
    weight: Tensor,
    bias: Optional[Tensor],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    deform_groups: int,
) -> Tensor:
    """:func:`deform_conv` by weighted sums of pixels and a matrix product.

    With the channels last a pixel is a row of a matrix. A sample is the sum
    of four rows by bilinear weights, and the convolution is one product of
    all samples with the weights.
    """
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
        weight, bias = weight.to(kind), bias if bias is None else bias.to(kind)
    # Half precision cannot hold a position.
    exact = torch.promote_types(x.dtype, torch.float32)
    grid = _sampling_grid(
        offset.to(exact), weight.shape[-2:], stride, padding, dilation, deform_groups
    )
    pixels, shares = _bilinear(grid, x.shape[-2:])
    if factor is not None:
        shares = shares * factor.reshape(*grid.shape[:-1], 1).to(exact)
    # In the order of the product: pixel of the result, kernel point, group.
    pixels, shares = (
        part.unflatten(0, (-1, deform_groups)).permute(0, 3, 4, 2, 1, 5).flatten(1, 4)
        for part in (pixels, shares)
    )
    group = torch.arange(pixels.shape[1]) % deform_groups
    rows = x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1] // deform_groups).to(exact)
    # A graph that is recorded holds the operators themselves.
    way = _sampled_product if torch.jit.is_tracing() else _SampledProduct.apply
    return way(
        rows,
        pixels * deform_groups + group[:, None],
        shares,
        weight,
        bias,
        groups,
        offset.shape[-2:],
    )


def _sampled_product(
    rows: Tensor,
    pixels: Tensor,
    shares: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],
    groups: int,
    size: Pair,
) -> Tensor:
    """Samples times weights.

    Args:
        rows (Tensor): Of each image, (B, HWG, C_in / G).
        pixels (Tensor): The rows that each sample sums up, int64
            (B, PNG, 4).
        shares (Tensor): Their weights, (B, PNG, 4).
        weight, bias, groups: As in :func:`deform_conv`.
        size (tuple[int]): Height and width of the result.

    Returns:
        Tensor: Shape (B, C_out, H_out, W_out), the channels last in memory.
    """
    parts = _multiply_parts(rows, pixels, shares, weight, groups)
    y = torch.cat([results for _, results in parts])
    y = y if bias is None else y + bias
    return y.view(-1, *size, len(weight)).permute(0, 3, 1, 2)


class _SampledProduct(Function):
    """:func:`_sampled_product`, and its gradients. The samples, nine times as
    many as there are pixels, are not kept for them but taken again."""

    @staticmethod
    def forward(
        ctx,
        rows: Tensor,
        pixels: Tensor,
        shares: Tensor,
        weight: Tensor,
        bias: Optional[Tensor],
        groups: int,
        size: Pair,
    ) -> Tensor:
        ctx.save_for_backward(rows, pixels, shares, weight)
        ctx.groups = groups
        # No view of another tensor, which layers in place would copy.
        y = torch.empty(
            len(rows),
            len(weight),
            *size,
            dtype=weight.dtype,
            device=weight.device,
            memory_format=torch.channels_last,
        )
        for part, results in _multiply_parts(rows, pixels, shares, weight, groups):
            target = y[part].permute(0, 2, 3, 1)
            results = results.view(target.shape)
            if bias is None:
                target.copy_(results)
            else:
                torch.add(results, bias, out=target)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        rows, pixels, shares, weight = ctx.saved_tensors
        groups = ctx.groups
        matrices = _to_matrices(weight, groups)
        product = _prepare_product(matrices)
        of_rows, of_shares = torch.empty_like(rows), torch.empty_like(shares)
        # In the samples' precision: the CPU's batched product has no fast way
        # in bfloat16 and would take some thousand times as long.
        of_turned = torch.zeros_like(matrices.transpose(1, 2), dtype=rows.dtype)
        for part in _parts(rows, pixels):
            learned = shares[part].detach().requires_grad_()
            with torch.enable_grad():
                samples = _sum_rows(rows[part], pixels[part], learned)
            results = (
                grad[part]
                .permute(0, 2, 3, 1)
                .reshape(-1, groups, len(weight) // groups)
                .transpose(0, 1)
            )
            # Not by oneDNN, which would lay out the samples anew.
            of_turned.baddbmm_(
                _arrange(samples.detach(), weight.to(rows.dtype), groups).transpose(1, 2),
                results.to(rows.dtype),
            )
            of_samples = _arrange_back(product(results), weight).to(samples).view(samples.shape)
            (of_shares[part],) = torch.autograd.grad(samples, learned, of_samples)
            of_rows[part] = _sum_back(of_samples, rows[part], pixels[part], shares[part])
        of_weight = (
            of_turned.transpose(1, 2)
            .reshape(len(weight), *weight.shape[2:], -1)
            .permute(0, 3, 1, 2)
            .to(weight.dtype)
        )
        of_bias = grad.sum((0, 2, 3)) if ctx.needs_input_grad[4] else None
        return of_rows, None, of_shares, of_weight, of_bias, None, None


def _multiply_parts(
    rows: Tensor, pixels: Tensor, shares: Tensor, weight: Tensor, groups: int
) -> Iterator[Tuple[slice, Tensor]]:
    """For some images at a time which they are and their results,
    (B, P, C_out)."""
    product = _prepare_product(_to_matrices(weight, groups).transpose(1, 2))
    for part in _parts(rows, pixels):
        samples = _sum_rows(rows[part], pixels[part], shares[part])
        results = product(_arrange(samples, weight, groups))
        yield part, results.transpose(0, 1).reshape(len(rows[part]), -1, len(weight))


def _parts(rows: Tensor, pixels: Tensor) -> Iterator[slice]:
    """As many images at a time as are fast."""
    samples = pixels.shape[1] * rows.shape[2]
    step = max(1, _MAX_SAMPLES // max(1, samples))
    return (slice(first, first + step) for first in range(0, len(rows), step))


def _sum_rows(rows: Tensor, pixels: Tensor, shares: Tensor) -> Tensor:
    """The samples of some images, (B PNG, C_in / G)."""
    return F.embedding_bag(
        _across_images(rows, pixels),
        rows.flatten(0, 1),
        per_sample_weights=shares.flatten(0, 1),
        mode='sum',
    )


def _sum_back(of_samples: Tensor, rows: Tensor, pixels: Tensor, shares: Tensor) -> Tensor:
    """The rows' gradient, (B, HWG, C_in / G), from that of the samples."""
    places = _across_images(rows, pixels)
    bags = CSRMatrix(
        places.flatten(), shares.flatten(), torch.full(places.shape[:1], places.shape[1])
    )
    count = rows.shape[0] * rows.shape[1]
    return csr_matmul(of_samples, csr_transpose(bags, count)).view(rows.shape)


def _across_images(rows: Tensor, pixels: Tensor) -> Tensor:
    """Indices of rows within each image, (B, n, 4), to those of a table of
    all of them, (B n, 4)."""
    first = torch.arange(len(rows)) * rows.shape[1]
    return (pixels + first[:, None, None]).flatten(0, 1)


def _to_matrices(weight: Tensor, groups: int) -> Tensor:
    """(groups, C_out / groups, N C_in / groups)."""
    return weight.permute(0, 2, 3, 1).reshape(groups, len(weight) // groups, -1)


def _arrange(samples: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Samples (B PNG, C_in / G) for the product: (groups, BP,
    N C_in / groups), in the type of the weights."""
    samples = samples.to(weight.dtype).view(-1, weight[0, 0].numel(), groups, weight.shape[1])
    return samples.permute(2, 0, 1, 3).flatten(2)


def _arrange_back(samples: Tensor, weight: Tensor) -> Tensor:
    """(groups, BP, N C_in / groups) to (BP, N, groups, C_in / groups)."""
    return samples.unflatten(2, (-1, weight.shape[1])).permute(1, 2, 0, 3).contiguous()


def _prepare_product(other: Tensor) -> Callable[[Tensor], Tensor]:
    """Products of (groups, a, b) and (groups, b, c), which is the same each
    time."""
    if len(other) > 1:
        return lambda one: one @ other
    product = prepack_linear(other[0], _MAX_SAMPLES // max(other.shape))
    return lambda one: product(one[0])[None]


def _bilinear(grid: Tensor, size: Pair) -> Tuple[Tensor, Tensor]:
    """The four pixels around each position and their weights.

    Args:
        grid (Tensor): Positions as (y, x) in pixels, counted by index,
            shape (BG, N, H_out, W_out, 2).
        size (tuple[int]): Height and width of the map.

    Returns:
        tuple: Indices of pixels, row by row of the map, and weights, 0 for
        pixels outside, each (BG, N, H_out, W_out, 4).
    """
    height, width = size
    first = grid.detach().floor()
    far_y, far_x = (grid - first).unbind(-1)
    y, x = first.unbind(-1)
    y, x = torch.stack([y, y, y + 1, y + 1], -1), torch.stack([x, x + 1, x, x + 1], -1)
    down = torch.stack([1 - far_y, 1 - far_y, far_y, far_y], -1)
    across = torch.stack([1 - far_x, far_x, 1 - far_x, far_x], -1)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    # What is not finite is outside, too.
    y, x = (torch.where(inside, part, 0).long() for part in (y, x))
    return y * width + x, down * across * inside


def _sampling_grid(
    offset: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, deform_groups: int
) -> Tensor:
    """Positions p0 + p_n + dp_n as (y, x) in pixels, counted by index.

    Returns:
        Tensor: Shape (BG, N, H_out, W_out, 2).
    """
    out_size = offset.shape[-2:]
    axes = [
        torch.arange(kernel[i], device=offset.device)[:, None] * dilation[i]
        + torch.arange(out_size[i], device=offset.device) * stride[i]
        - padding[i]
        for i in (0, 1)
    ]
    y = axes[0][:, None, :, None].expand(*kernel, *out_size)
    x = axes[1][None, :, None, :].expand(*kernel, *out_size)
    regular = torch.stack([y, x], -1).reshape(-1, *out_size, 2)
    dp = offset.reshape(-1, len(regular), 2, *out_size).permute(0, 1, 3, 4, 2)
    return regular.to(offset) + dp
