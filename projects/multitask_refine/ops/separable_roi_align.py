"""RoIAlign as two matrix products for each RoI, for the CPU.

The mean of bilinear samples over a bin is separable: what a bin takes from
the map is the product of what its rows take and what its columns take. With
the channels last, the window of a RoI is a matrix without copying it, and its
pooled feature is two small products.

Shape letters: B images, R RoIs, C channels, H x W map, P side of the pooled
feature, s samples a bin and axis, L longest window.
"""
from typing import Iterator, NamedTuple, Optional, Tuple

import mmcv.ops
import torch
from mmengine.registry import MODELS
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


@MODELS.register_module()
class SeparableRoIAlign(mmcv.ops.RoIAlign):
    """RoIAlign that is fast on the CPU, too.

    On CUDA this is mmcv's operator. On the CPU, where that walks through
    every value on its own, :func:`roi_align_by_products` gives the same
    values. Arguments as in ``mmcv.ops.RoIAlign``; its average pooling only.
    """

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        """Pool features (B, C, H, W) of RoIs (R, 5), the image's index and
        the box xyxy in image pixels, to (R, C, P, P)."""
        if x.is_cuda:
            return super().forward(x, rois)
        return roi_align_by_products(x, rois, self.output_size[0],
                                     self.spatial_scale, self.sampling_ratio,
                                     self.aligned)


def roi_align_by_products(x: Tensor,
                          rois: Tensor,
                          size: int,
                          scale: float = 1.0,
                          ratio: int = 0,
                          aligned: bool = True) -> Tensor:
    """RoIAlign (He et al. 2017, section 3) by matrix products.

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
    boxes = rois[:, 1:].detach().to(torch.promote_types(x.dtype,
                                                        torch.float32))
    corners = boxes * scale - (0.5 if aligned else 0.0)
    start, extent = corners[:, :2], corners[:, 2:] - corners[:, :2]
    if not aligned:
        extent = extent.clamp(min=1)
    across = _share_axis(start[:, 0], extent[:, 0], size, ratio, x.shape[3])
    down = _share_axis(start[:, 1], extent[:, 1], size, ratio, x.shape[2])
    return _Products.apply(x, rois[:, 0].long(), *across, *down)


class _Axis(NamedTuple):
    """What the bins of each RoI take from the map along one axis.

    Attributes:
        shares: Weight of each pixel of the window in each bin,
            shape (R, P, L); zero beyond the RoI's own window.
        first: Index of the window's first pixel, int64 (R).
        last: Index after the window's last pixel, int64 (R).
    """

    shares: Tensor
    first: Tensor
    last: Tensor


def _share_axis(start: Tensor, extent: Tensor, size: int, ratio: int,
                length: int) -> _Axis:
    """Bilinear weights along one axis, averaged over each bin's samples.

    Args:
        start, extent (Tensor): Of each RoI, in pixel indices of the map,
            shape (R).
        size (int): P.
        ratio (int): s, or 0.
        length (int): Pixels of the map.
    """
    bins = (extent / size)[:, None, None]
    number = bins.ceil().clamp(min=0) if ratio <= 0 else torch.full_like(
        bins, ratio)
    step = torch.arange(max(1, int(number.max())) if len(bins) else 1)
    order = torch.arange(size)[:, None]
    position = start[:, None, None] + bins * (
        order + (step + 0.5) / number.clamp(min=1))
    # Samples up to a pixel outside read the border, those beyond count 0.
    near = (position >= -1) & (position <= length) & (step < number)
    position = position.clamp(0, length - 1)
    low = position.floor()
    return _to_windows(low.long(), position - low,
                       near / number.clamp(min=1), length)


def _to_windows(low: Tensor, fraction: Tensor, share: Tensor,
                length: int) -> _Axis:
    """Sum the samples' weights over the pixels of each RoI's window.

    Args:
        low (Tensor): Pixel before each sample, int64 (R, P, s).
        fraction (Tensor): How far the sample is beyond it, (R, P, s).
        share (Tensor): Weight of the sample in its bin, (R, P, s).
        length (int): Pixels of the map.
    """
    high = (low + 1).clamp(max=length - 1)
    used = share > 0
    first = torch.where(used, low, length).flatten(1).amin(1)
    last = torch.where(used, high, -1).flatten(1).amax(1) + 1
    first = torch.minimum(first, last)  # a RoI outside has an empty window
    longest = max(1, int((last - first).max())) if len(low) else 1
    shares = fraction.new_zeros(*low.shape[:2], longest)
    for pixel, weight in ((low, 1 - fraction), (high, fraction)):
        place = (pixel - first[:, None, None]).clamp(0, longest - 1)
        shares.scatter_add_(2, place, share * weight)
    return _Axis(shares, first, last)


class _Products(Function):
    """The two products of each RoI, and their gradient for the map."""

    @staticmethod
    def forward(ctx, x: Tensor, images: Tensor, *axes: Tensor) -> Tensor:
        ctx.plan = images, _Axis(*axes[:3]), _Axis(*axes[3:])
        ctx.shape = x.shape
        features = x.permute(0, 2, 3, 1).contiguous()
        size = axes[0].shape[1]
        pooled = features.new_empty(len(images), size, size, x.shape[1])
        for out, (window, rows, columns) in zip(
                pooled, _plan(features, *ctx.plan)):
            height, width, channels = window.shape
            lines = rows @ window.view(height, width * channels)
            out.copy_(columns @ lines.view(size, width, channels))
        return pooled.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        batch, channels, height, width = ctx.shape
        total = grad.new_zeros(batch, height, width, channels)
        parts = grad.permute(0, 2, 3, 1).contiguous()
        for part, (window, rows, columns) in zip(parts,
                                                 _plan(total, *ctx.plan)):
            tall, wide, _ = window.shape
            lines = (columns.T @ part).view(len(part), wide * channels)
            window.view(tall, wide * channels).addmm_(rows.T, lines)
        return (total.permute(0, 3, 1, 2), *[None] * 7)


def _plan(features: Tensor, images: Tensor, across: _Axis,
          down: _Axis) -> Iterator[Tuple[Tensor, Tensor, Tensor]]:
    """For each RoI its window of a map (B, H, W, C), which is not copied, and
    its weights of rows and columns, (P, height) and (P, width)."""
    places = torch.stack(
        [images, down.first, down.last, across.first, across.last], 1)
    for (image, top, bottom, left, right), rows, columns in zip(
            places.tolist(), down.shares.to(features),
            across.shares.to(features)):
        yield (features[image, top:bottom, left:right], rows[:, :bottom - top],
               columns[:, :right - left])
