"""Deformable convolution by sparse gathering and one matrix product, for the CPU.

With the channels last in memory a pixel is a row of a matrix. A bilinear sample is the weighted
sum of four rows, and the convolution one product of all samples with the weight. mmcv's CPU
kernels run on one thread and scatter their gradients value by value.

Shape letters: B images, C channels, G deformable groups, N kernel points, P pixels of the output.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .base import is_tracing
from .csr_matrix import CSRMatrix, csr_matmul, csr_transpose
from .mkldnn_linear import prepack_linear

# Sampled values at a time. The C library returns the memory of larger tensors to the system each
# time, and allocating it again takes as long as the sums.
_MAX_SAMPLES = 1 << 23


def deform_conv_by_gather(
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
    """Compute :func:`~multitask_refine.ops.deform_conv`; arguments and result as there."""
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        weight, bias = weight.to(dtype), bias if bias is None else bias.to(dtype)
    # Half precision cannot hold a position.
    exact = torch.promote_types(x.dtype, torch.float32)
    height, width = offset.shape[-2:]
    # (N, 2, H_out, W_out): p0 + p_n, y before x, counted by pixel index
    y, x_axis = (
        torch.arange(weight.shape[2 + i], device=x.device)[:, None] * dilation[i]
        + torch.arange(offset.shape[-2 + i], device=x.device) * stride[i]
        - padding[i]
        for i in (0, 1)
    )
    kernel = weight.shape[-2:]
    regular = torch.stack(
        [
            y[:, None, :, None].expand(*kernel, height, width),
            x_axis[None, :, None, :].expand(*kernel, height, width),
        ],
        2,
    ).flatten(0, 1)
    # (B, G, N, 2, H_out, W_out)
    positions = offset.to(exact).unflatten(1, (deform_groups, -1, 2)) + regular.to(exact)
    index, corner_weight = _bilinear_corners(positions, x.shape[-2:])
    if mask is not None:
        modulation = mask.to(exact).unflatten(1, (deform_groups, -1))
        corner_weight = corner_weight * modulation[..., None]
    # (B, G, N, H_out, W_out, 4) to (B, P N G, 4), the order of the product
    index, corner_weight = (
        each.permute(0, 3, 4, 2, 1, 5).flatten(1, 4) for each in (index, corner_weight)
    )
    # Rows of the matrix of pixels and groups: (B, H W G, C_in / G)
    group = torch.arange(index.shape[1], device=x.device) % deform_groups
    index = index * deform_groups + group[:, None]
    pixels = x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1] // deform_groups).to(exact)
    # A recorded graph holds the operators themselves.
    product = _sample_and_multiply if is_tracing() else _SampleAndMultiply.apply
    result: Tensor = product(pixels, index, corner_weight, weight, bias, groups, (height, width))
    return result


def _bilinear_corners(positions: Tensor, size: torch.Size) -> tuple[Tensor, Tensor]:
    """Find the four pixels around each position and their bilinear weights.

    Args:
        positions (Tensor): y before x, counted by pixel index, shape (B, G, N, 2, H_out, W_out).
        size (torch.Size): Height and width of the map.

    Returns:
        tuple[Tensor, Tensor]: Indices of pixels, row by row of the map, int64, and weights, 0 for
        pixels outside, each (B, G, N, H_out, W_out, 4).
    """
    height, width = size
    # The gradient of an offset goes through the fractions alone.
    low = positions.detach().floor()  # the pixel up and left
    fraction_y, fraction_x = (positions - low).unbind(3)
    y, x = low.unbind(3)  # (B, G, N, H_out, W_out)
    # (B, G, N, H_out, W_out, 4): up left, up right, down left, down right
    y, x = torch.stack([y, y, y + 1, y + 1], -1), torch.stack([x, x + 1, x, x + 1], -1)
    weight_y = torch.stack([1 - fraction_y, 1 - fraction_y, fraction_y, fraction_y], -1)
    weight_x = torch.stack([1 - fraction_x, fraction_x, 1 - fraction_x, fraction_x], -1)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    # Positions that are not finite count as outside.
    y, x = (torch.where(inside, each, 0).long() for each in (y, x))
    return y * width + x, weight_y * weight_x * inside


def _sample_and_multiply(
    pixels: Tensor,
    index: Tensor,
    corner_weight: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    groups: int,
    size: tuple[int, int],
) -> Tensor:
    """Sample the pixels and multiply the samples by the weight.

    Args:
        pixels (Tensor): Values of each image, shape (B, HWG, C_in / G).
        index (Tensor): The four pixels of each sample, int64 (B, PNG, 4).
        corner_weight (Tensor): Their weights, shape (B, PNG, 4).
        weight (Tensor): Shape (C_out, C_in / groups, kernel height, kernel width).
        bias (Tensor, optional): Shape (C_out).
        groups (int): As in ``torch.conv2d``.
        size (tuple[int, int]): Height and width of the result.

    Returns:
        Tensor: Shape (B, C_out, H_out, W_out), with the channels last in memory.
    """
    chunks = _multiply_chunks(pixels, index, corner_weight, weight, groups)
    y = torch.cat([results for _, results in chunks])  # (B, P, C_out)
    y = y if bias is None else y + bias
    return y.view(-1, *size, len(weight)).permute(0, 3, 1, 2)


class _SampleAndMultiply(Function):
    """:func:`_sample_and_multiply` that keeps no samples for its gradients.

    They are nine times as many values as there are pixels; the backward pass samples again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        pixels: Tensor,
        index: Tensor,
        corner_weight: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        groups: int,
        size: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(pixels, index, corner_weight, weight)
        ctx.groups = groups
        # Not a view of another tensor, which a layer that works in place would copy.
        y = torch.empty(
            len(pixels),
            len(weight),
            *size,
            dtype=weight.dtype,
            device=weight.device,
            memory_format=torch.channels_last,
        )
        for chunk, results in _multiply_chunks(pixels, index, corner_weight, weight, groups):
            target = y[chunk].permute(0, 2, 3, 1)  # (B, H_out, W_out, C_out), contiguous
            results = results.view(target.shape)
            if bias is None:
                target.copy_(results)
            else:
                torch.add(results, bias, out=target)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pixels, index, corner_weight, weight = ctx.saved_tensors
        groups = ctx.groups
        matrices = _to_matrices(weight, groups)
        multiply = _prepare_product(matrices)
        grad_pixels, grad_corner_weight = map(torch.empty_like, (pixels, corner_weight))
        # In the samples' precision: the CPU's batched product has no fast implementation in
        # bfloat16 and would take some thousand times as long.
        grad_matrices = torch.zeros_like(matrices.transpose(1, 2), dtype=pixels.dtype)
        for chunk in _split_images(pixels, index):
            rows, corners = pixels[chunk].flatten(0, 1), _index_rows(pixels[chunk], index[chunk])
            shares = corner_weight[chunk].detach().requires_grad_()
            with torch.enable_grad():
                samples = _gather(rows, corners, shares)
            # (B, C_out, H_out, W_out) to (groups, B P, C_out / groups)
            grad_y = (
                grad[chunk]
                .permute(0, 2, 3, 1)
                .reshape(-1, groups, len(weight) // groups)
                .transpose(0, 1)
            )
            # Not by oneDNN, which would copy the samples to another layout.
            grad_matrices.baddbmm_(
                _to_columns(samples.detach(), weight.to(pixels.dtype), groups).transpose(1, 2),
                grad_y.to(pixels.dtype),
            )
            # (groups, B P, N C_in / groups) to (B P, N, groups, C_in / groups)
            grad_columns = multiply(grad_y).unflatten(2, (-1, weight.shape[1]))
            grad_samples = grad_columns.permute(1, 2, 0, 3).contiguous()
            grad_samples = grad_samples.to(samples).view(samples.shape)
            (grad_corner_weight[chunk],) = torch.autograd.grad(samples, shares, grad_samples)
            sampling = CSRMatrix(
                corners.flatten(),
                corner_weight[chunk].flatten(),
                torch.full((len(corners),), corners.shape[1]),
            )
            # (B HWG, C_in / G)
            grad_rows = csr_matmul(csr_transpose(sampling, len(rows)), grad_samples)
            grad_pixels[chunk] = grad_rows.view(pixels[chunk].shape)
        # (groups, N C_in / groups, C_out / groups) to (C_out, C_in / groups, kernel)
        grad_weight = (
            grad_matrices.transpose(1, 2)
            .reshape(len(weight), *weight.shape[2:], -1)
            .permute(0, 3, 1, 2)
            .to(weight.dtype)
        )
        grad_bias = grad.sum((0, 2, 3)) if ctx.needs_input_grad[4] else None
        return grad_pixels, None, grad_corner_weight, grad_weight, grad_bias, None, None


def _multiply_chunks(
    pixels: Tensor, index: Tensor, corner_weight: Tensor, weight: Tensor, groups: int
) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of the images and their results (B, P, C_out); arguments as above."""
    multiply = _prepare_product(_to_matrices(weight, groups).transpose(1, 2))
    for chunk in _split_images(pixels, index):
        corners = _index_rows(pixels[chunk], index[chunk])
        samples = _gather(pixels[chunk].flatten(0, 1), corners, corner_weight[chunk])
        results = multiply(_to_columns(samples, weight, groups))
        yield chunk, results.transpose(0, 1).reshape(len(pixels[chunk]), -1, len(weight))


def _split_images(pixels: Tensor, index: Tensor) -> Iterator[slice]:
    """Yield slices of the images with at most ``_MAX_SAMPLES`` sampled values, or of one image."""
    samples = index.shape[1] * pixels.shape[2]
    step = max(1, _MAX_SAMPLES // max(1, samples))
    return (slice(first, first + step) for first in range(0, len(pixels), step))


def _index_rows(pixels: Tensor, index: Tensor) -> Tensor:
    """Turn indices within each image, (B, PNG, 4), into those of all images' rows, (B PNG, 4)."""
    first = torch.arange(len(pixels)) * pixels.shape[1]  # the row where each image begins
    return (index + first[:, None, None]).flatten(0, 1)


def _gather(rows: Tensor, corners: Tensor, corner_weight: Tensor) -> Tensor:
    """Sum four weighted rows (., C_in / G) for each sample: (B PNG, C_in / G)."""
    return F.embedding_bag(
        corners, rows, per_sample_weights=corner_weight.flatten(0, 1), mode='sum'
    )


def _to_matrices(weight: Tensor, groups: int) -> Tensor:
    """Reshape a weight to (groups, C_out / groups, N C_in / groups)."""
    return weight.permute(0, 2, 3, 1).reshape(groups, len(weight) // groups, -1)


def _to_columns(samples: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Arrange samples (B PNG, C_in / G) as (groups, B P, N C_in / groups) in the weight's type."""
    num_points, channels = weight[0, 0].numel(), weight.shape[1]
    # (B P, N, groups, C)
    samples = samples.to(weight.dtype).view(-1, num_points, groups, channels)
    return samples.permute(2, 0, 1, 3).flatten(2)


def _prepare_product(other: Tensor) -> Callable[[Tensor], Tensor]:
    """Prepare products of (groups, a, b) with always the same (groups, b, c)."""
    if len(other) > 1:
        return lambda one: one @ other  # a batched product
    linear = prepack_linear(other[0].T, _MAX_SAMPLES // max(other.shape))
    return lambda one: linear(one[0])[None]
