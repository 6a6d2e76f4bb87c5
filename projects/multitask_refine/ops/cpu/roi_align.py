"""RoIAlign as weighted sums of pixels, for the CPU.

The mean of bilinear samples over a bin is a weighted sum of the map's pixels,
and a pixel's weight is the product of what the bin takes from its row and
from its column: the samples are merged before a pixel is read.

Shape letters: B images, R RoIs, C channels, H x W map, P side of the pooled
feature, s samples a bin and axis, L pixels along the axis of the longest bin.
"""

from typing import NamedTuple, Optional, Tuple

import mmcv.ops
import torch
from mmengine.registry import MODELS
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .csr_matrix import CSRMatrix, csr_matmul, csr_transpose

_GROUP = 256  # RoIs at a time: what is computed of them stays in the caches


@MODELS.register_module()
class SeparableRoIAlign(mmcv.ops.RoIAlign):
    """RoIAlign that is fast on the CPU, too.

    On CUDA this is mmcv's operator. On the CPU, where that walks through
    every value on its own, :func:`separable_roi_align` gives the same values.
    Arguments as in ``mmcv.ops.RoIAlign``; its average pooling only.
    """

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        """Pool features (B, C, H, W) of RoIs (R, 5), the image's index and
        the box xyxy in image pixels, to (R, C, P, P)."""
        if x.is_cuda:
            return super().forward(x, rois)
        return separable_roi_align(
            x, rois, self.output_size[0], self.spatial_scale, self.sampling_ratio, self.aligned
        )


def separable_roi_align(
    x: Tensor, rois: Tensor, size: int, scale: float = 1.0, ratio: int = 0, aligned: bool = True
) -> Tensor:
    """RoIAlign (He et al. 2017, section 3) by weighted sums of pixels.

    Args:
        x (Tensor): Features, shape (B, C, H, W).
        rois (Tensor): The image's index and the box xyxy in image pixels,
            shape (R, 5). No gradient flows to them.
        size (int): P.
        scale (float): Feature pixels per image pixel. Defaults to 1.0.
        ratio (int): s; 0 takes as many samples as the bin has pixels along
            the axis, rounded up. Defaults to 0.
        aligned (bool): Whether pixel ``i`` of the map covers [i, i + 1); if
            not, RoIs lie half a pixel further down and right and are at
            least one pixel large, as in Detectron1. Defaults to True.

    Returns:
        Tensor: Shape (R, C, P, P), in the type of ``x``.
    """
    boxes = rois[:, 1:].detach().to(torch.promote_types(x.dtype, torch.float32))
    corners = boxes * scale - (0.5 if aligned else 0.0)
    start, extent = corners[:, :2], corners[:, 2:] - corners[:, :2]
    if not aligned:
        extent = extent.clamp(min=1)
    groups = (
        _fill_bags(
            image,
            _share_axis(begin[:, 1], length[:, 1], size, ratio, x.shape[2]),
            _share_axis(begin[:, 0], length[:, 0], size, ratio, x.shape[3]),
            x,
        )
        for image, begin, length in zip(
            rois[:, 0].long().split(_GROUP), start.split(_GROUP), extent.split(_GROUP)
        )
    )
    bags = CSRMatrix(*map(torch.cat, zip(*groups)))
    pooled = _Sums.apply(x, *bags)
    return pooled.view(-1, size, size, x.shape[1]).permute(0, 3, 1, 2)


class _Axis(NamedTuple):
    """What the bins of each RoI take from the map along one axis.

    Attributes:
        shares: Weight of each pixel of the bin, shape (R, P, L); zero beyond
            the bin's own pixels.
        first: Index of the bin's first pixel, int64 (R, P).
    """

    shares: Tensor
    first: Tensor


def _share_axis(start: Tensor, extent: Tensor, size: int, ratio: int, length: int) -> _Axis:
    """Bilinear weights along one axis, averaged over each bin's samples.

    Args:
        start, extent (Tensor): Of each RoI, in pixel indices of the map,
            shape (R).
        size (int): P.
        ratio (int): s, or 0.
        length (int): Pixels of the map.
    """
    bins = (extent / size)[:, None, None]
    number = bins.ceil().clamp(min=0) if ratio <= 0 else torch.full_like(bins, ratio)
    step = torch.arange(max(1, int(number.max())) if len(bins) else 1)
    order = torch.arange(size)[:, None]
    position = start[:, None, None] + bins * (order + (step + 0.5) / number.clamp(min=1))
    # Samples up to a pixel outside read the border, those beyond count 0.
    near = (position >= -1) & (position <= length) & (step < number)
    position = position.clamp(0, length - 1)
    low = position.floor()
    return _merge(low.long(), position - low, near / number.clamp(min=1), length)


def _merge(low: Tensor, fraction: Tensor, share: Tensor, length: int) -> _Axis:
    """Sum the samples' weights over the pixels of each bin.

    Args:
        low (Tensor): Pixel before each sample, int64 (R, P, s).
        fraction (Tensor): How far the sample is beyond it, (R, P, s).
        share (Tensor): Weight of the sample in its bin, (R, P, s).
        length (int): Pixels of the map.
    """
    high = (low + 1).clamp(max=length - 1)
    used = share > 0
    first = torch.where(used, low, length).amin(2)
    last = torch.where(used, high, -1).amax(2)
    longest = max(1, int((last - first).max()) + 1) if len(low) else 1
    shares = fraction.new_zeros(*first.shape, longest)
    for pixel, weight in ((low, 1 - fraction), (high, fraction)):
        place = (pixel - first[..., None]).clamp(0, longest - 1)
        shares.scatter_add_(2, place, share * weight)
    return _Axis(shares, first)


def _fill_bags(image: Tensor, down: _Axis, across: _Axis, x: Tensor) -> CSRMatrix:
    """The pixels of each bin; a bag is a bin, a row of the table a pixel.

    Args:
        image (Tensor): The image's index of each RoI, int64 (R).
        down, across (_Axis): Weights of the map's lines and columns.
        x (Tensor): The map, (B, C, H, W).
    """
    lines, columns = (
        axis.first[..., None] + torch.arange(axis.shares.shape[2]) for axis in (down, across)
    )
    lines = (lines + image[:, None, None] * x.shape[2]) * x.shape[3]
    pixels = lines[:, :, None, :, None] + columns[:, None, :, None]
    weights = down.shares[:, :, None, :, None] * across.shares[:, None, :, None]
    used = weights != 0  # (R, P, P, L, L)
    return CSRMatrix(pixels[used], weights[used].to(x), used.flatten(3).sum(3).flatten())


class _Sums(Function):
    """The sum of each bag, (bags, C), of the pixels of a map
    (B, C, H, W), and the map's gradient."""

    @staticmethod
    def forward(ctx, x: Tensor, *bags: Tensor) -> Tensor:
        ctx.bags, ctx.shape = CSRMatrix(*bags), x.shape
        return csr_matmul(x.permute(0, 2, 3, 1).flatten(0, 2), ctx.bags)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        batch, channels, height, width = ctx.shape
        total = csr_matmul(grad, csr_transpose(ctx.bags, batch * height * width))
        total = total.view(batch, height, width, channels)
        return (total.permute(0, 3, 1, 2), *[None] * len(ctx.bags))
