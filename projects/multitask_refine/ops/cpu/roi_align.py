"""RoIAlign by separable bilinear weights, for the CPU.

The mean of bilinear samples over a bin is a weighted sum of the map's pixels, and a pixel's weight
is the product of a weight of its row and one of its column: the samples are merged before a pixel
is read.

Shape letters: B images, R RoIs, C channels, H x W map, P side of the pooled feature, S samples per
bin and axis, L pixels along one axis of the largest bin.
"""

from typing import Any

import mmcv.ops
import torch
from mmengine.registry import MODELS
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .base import FastCPUModule
from .csr_matrix import CSRMatrix, csr_matmul, csr_transpose

_CHUNK_SIZE = 256  # RoIs at a time, so that their weights stay in the caches


@MODELS.register_module()
class SeparableRoIAlign(FastCPUModule, mmcv.ops.RoIAlign):
    """RoIAlign that is fast on the CPU, too.

    On CUDA this is mmcv's operator. On the CPU :func:`separable_roi_align` gives the same values;
    mmcv's kernel computes one value after the other. Arguments as in ``mmcv.ops.RoIAlign``, with
    average pooling and a square output only.
    """

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        """Pool the features of RoIs.

        Args:
            x (Tensor): Features, shape (B, C, H, W).
            rois (Tensor): Image index and box xyxy in image pixels, shape (R, 5).

        Returns:
            Tensor: Shape (R, C, P, P).
        """
        if not (x.is_cpu and self.fast_cpu_ops):
            pooled: Tensor = super().forward(x, rois)
            return pooled
        return separable_roi_align(
            x, rois, self.output_size[0], self.spatial_scale, self.sampling_ratio, self.aligned
        )


def separable_roi_align(
    x: Tensor,
    rois: Tensor,
    output_size: int,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """Compute RoIAlign (He et al. 2017, section 3) as a sparse matrix product.

    Args:
        x (Tensor): Features, shape (B, C, H, W).
        rois (Tensor): Image index and box xyxy in image pixels, shape (R, 5). They get no
            gradient.
        output_size (int): P.
        spatial_scale (float): Feature pixels per image pixel. Defaults to 1.0.
        sampling_ratio (int): S; 0 takes the bin's size in feature pixels along the axis, rounded
            up. Defaults to 0.
        aligned (bool): Whether pixel ``i`` of the map covers [i, i + 1). If not, RoIs lie half a
            pixel further down and right and are at least one pixel large, as in Detectron1.
            Defaults to True.

    Returns:
        Tensor: Shape (R, C, P, P), in the type of ``x``.
    """
    # Half precision cannot hold a position.
    boxes = rois[:, 1:].detach().to(torch.promote_types(x.dtype, torch.float32))
    corners = boxes * spatial_scale - (0.5 if aligned else 0.0)
    starts, extents = corners[:, :2], corners[:, 2:] - corners[:, :2]
    if not aligned:
        extents = extents.clamp(min=1)
    chunks = []
    for images, start, extent in zip(
        rois[:, 0].long().split(_CHUNK_SIZE),
        starts.split(_CHUNK_SIZE),
        extents.split(_CHUNK_SIZE),
        strict=True,
    ):
        horizontal, vertical = (
            _compute_axis_weights(start[:, i], extent[:, i], output_size, sampling_ratio, length)
            for i, length in enumerate((x.shape[3], x.shape[2]))
        )
        chunks.append(_make_pooling_matrix(images, vertical, horizontal, x))
    matrix = CSRMatrix(*map(torch.cat, zip(*chunks, strict=True)))
    pooled: Tensor = _Pool.apply(x, *matrix)  # type: ignore[no-untyped-call]
    return pooled.view(-1, output_size, output_size, x.shape[1]).permute(0, 3, 1, 2)


def _compute_axis_weights(
    start: Tensor, extent: Tensor, output_size: int, sampling_ratio: int, length: int
) -> tuple[Tensor, Tensor]:
    """Average the bilinear weights of each bin's samples along one axis.

    Args:
        start (Tensor): First border of each RoI in pixel indices, shape (R).
        extent (Tensor): Its size in pixels, shape (R).
        output_size (int): P.
        sampling_ratio (int): S, or 0.
        length (int): Pixels of the map along the axis.

    Returns:
        tuple[Tensor, Tensor]: Weight of each pixel of each bin, (R, P, L), 0 beyond the bin's own
        pixels; and the index of the bin's first pixel, int64 (R, P).
    """
    bin_size = (extent / output_size)[:, None, None]
    if sampling_ratio > 0:
        num_samples = torch.full_like(bin_size, sampling_ratio)
    else:
        num_samples = bin_size.ceil().clamp(min=0)
    sample = torch.arange(max(1, int(num_samples.max())) if len(start) else 1)
    within_bin = (sample + 0.5) / num_samples.clamp(min=1)
    position = start[:, None, None] + bin_size * (torch.arange(output_size)[:, None] + within_bin)
    # (R, P, S). Samples up to a pixel outside read the border pixel, those beyond count as 0.
    valid = (position >= -1) & (position <= length) & (sample < num_samples)
    sample_weight = valid / num_samples.clamp(min=1)
    position = position.clamp(0, length - 1)  # the border pixel's center
    low = position.floor().long()
    high = (low + 1).clamp(max=length - 1)
    fraction = position - low
    # Merge the samples: add their weights to the pixels of the bin.
    used = sample_weight > 0
    first = torch.where(used, low, length).amin(2)
    last = torch.where(used, high, -1).amax(2)
    num_pixels = max(1, int((last - first).max()) + 1) if len(low) else 1  # L
    weights = fraction.new_zeros(*first.shape, num_pixels)
    for pixel, share in ((low, 1 - fraction), (high, fraction)):
        index = (pixel - first[..., None]).clamp(0, num_pixels - 1)  # (R, P, S)
        weights.scatter_add_(2, index, sample_weight * share)
    return weights, first


def _make_pooling_matrix(
    images: Tensor, vertical: tuple[Tensor, Tensor], horizontal: tuple[Tensor, Tensor], x: Tensor
) -> CSRMatrix:
    """Make the matrix that pools a map's pixels (B H W) to bins (R P P).

    Args:
        images (Tensor): Image index of each RoI, int64 (R).
        vertical (tuple[Tensor, Tensor]): See :func:`_compute_axis_weights`.
        horizontal (tuple[Tensor, Tensor]): See :func:`_compute_axis_weights`.
        x (Tensor): The map, shape (B, C, H, W).
    """
    (row_weights, first_row), (column_weights, first_column) = vertical, horizontal
    rows = first_row[..., None] + torch.arange(row_weights.shape[2])  # (R, P, L)
    columns = first_column[..., None] + torch.arange(column_weights.shape[2])  # (R, P, L)
    # (R, P, L), of x as (B H W, C)
    row_starts = (images[:, None, None] * x.shape[2] + rows) * x.shape[3]
    # (R, P, P, L, L): bins, and the pixels of each
    pixels = row_starts[:, :, None, :, None] + columns[:, None, :, None]
    weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None]
    used = weights != 0  # bins smaller than L x L pixels
    return CSRMatrix(pixels[used], weights[used].to(x), used.flatten(3).sum(3).flatten())


class _Pool(Function):
    """The product of a pooling matrix and a map (B, C, H, W): (R P P, C)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *matrix: Tensor) -> Tensor:
        ctx.matrix, ctx.shape = CSRMatrix(*matrix), x.shape
        return csr_matmul(ctx.matrix, x.permute(0, 2, 3, 1).flatten(0, 2))  # (B H W, C)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        batch, channels, height, width = ctx.shape
        grad_x = csr_matmul(csr_transpose(ctx.matrix, batch * height * width), grad)
        grad_x = grad_x.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return (grad_x, *[None] * len(ctx.matrix))
