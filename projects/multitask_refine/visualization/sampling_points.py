"""Sampling points of deformable convolutions, in image pixels.

Everything follows the half-pixel rule: cell i of a feature map of stride s covers s
pixels and has its center at (i + 0.5) s; on a RoI, s is the width of the RoI divided
by the number of cells. Points are (x, y).

Shape letters: N points of a kernel, P points, S heatmap side.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multitask_refine.ops import RefinedConv2d


@dataclass(frozen=True)
class CellGrid:
    """Grid of the cells of a feature map on the image.

    Args:
        origin (Tensor): Corner of the first cell in image pixels, shape (2).
        cell (Tensor): Width and height of a cell in image pixels, shape (2).
    """

    origin: Tensor
    cell: Tensor

    @classmethod
    def over(cls, area: Tensor, size: tuple[int, int]) -> 'CellGrid':
        """Divide an area into cells.

        Args:
            area (Tensor): The padded image or a RoI: xyxy in image pixels, shape (4).
            size (tuple[int, int]): Height and width of the feature map.
        """
        return cls(area[:2], (area[2:] - area[:2]) / area.new_tensor([size[1], size[0]]))

    def to_image(self, index: Tensor) -> Tensor:
        """Convert cell indices (P, 2) to image pixels (P, 2)."""
        return self.origin + (index + 0.5) * self.cell

    def cell_at(self, point: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the cell (2) of a map (height, width) nearest to an image point (2)."""
        cell = ((point - self.origin) / self.cell).floor()
        limit = cell.new_tensor([size[1] - 1, size[0] - 1])
        return cell.clamp(min=0).minimum(limit)


@dataclass(frozen=True)
class Sampling:
    """Sampling points of a deformable convolution on one image or RoI, on the CPU.

    Args:
        offset (Tensor): Offsets dp_n in cells, x before y, shape (N, 2, H_out, W_out).
        mask (Tensor): Modulation of the samples, shape (N, H_out, W_out).
        taps (Tensor): Regular kernel positions p_n, without stride, shape (N, 2).
        stride (Tensor): Input cells per output cell, shape (2).
        size (tuple[int, int]): Height and width of the input.
    """

    offset: Tensor
    mask: Tensor
    taps: Tensor
    stride: Tensor
    size: tuple[int, int]

    @classmethod
    def of(cls, conv: RefinedConv2d, feature: Tensor) -> 'Sampling':
        """Predict the sampling points of a convolution.

        Args:
            conv (RefinedConv2d): With or without modulation, with any number of deformable
                groups (each counts as N points of its own).
            feature (Tensor): Its input, shape (1, C, H, W).
        """
        offset, mask = conv.predict_sampling(feature)
        out_size = offset.shape[-2:]
        offset = offset.cpu().reshape(-1, 2, *out_size).flip(1)  # mmcv has y before x
        mask = offset.new_ones(len(offset), *out_size) if mask is None else mask[0].cpu()
        y, x = (
            torch.arange(size) * dilation - padding
            for size, dilation, padding in zip(
                conv.kernel_size, conv.dilation, conv.padding, strict=True
            )
        )
        taps = torch.stack(torch.meshgrid(x, y, indexing='xy'), -1).reshape(-1, 2)
        return cls(
            offset,
            mask,
            taps.repeat(conv.deform_groups, 1).to(offset),
            offset.new_tensor(conv.stride[::-1]),
            feature.shape[-2:],
        )

    @property
    def out_size(self) -> tuple[int, int]:
        """tuple[int, int]: Height and width of the output."""
        return tuple(self.mask.shape[-2:])

    def regular(self) -> 'Sampling':
        """Return the same without offsets and modulation."""
        offset, mask = torch.zeros_like(self.offset), torch.ones_like(self.mask)
        return replace(self, offset=offset, mask=mask)

    def sample(self, points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Map output positions to the input positions that they are computed from.

        Between cells the offsets are interpolated, because the value there is the weighted
        sum of the cells around. Points that read only the zeros outside the map are left
        out.

        Args:
            points (Tensor): Positions in output cells, shape (P, 2).
            weights (Tensor): Weights of the positions, shape (P).

        Returns:
            tuple[Tensor, Tensor]: Positions in input cells, shape (at most P N, 2), and
            their weights.
        """
        offsets = _interpolate(self.offset.flatten(0, 1), points)
        offsets = offsets.reshape(len(points), -1, 2)  # (P, 2N) -> (P, N, 2)
        # p_0 + p_n + dp_n (Dai et al. 2017, Equation 2), (P, N, 2)
        samples = (points * self.stride)[:, None] + self.taps + offsets
        weights = weights[:, None] * _interpolate(self.mask, points)
        samples, weights = samples.reshape(-1, 2), weights.flatten()
        limit = samples.new_tensor(self.size[::-1])
        # Bilinear interpolation reads up to one cell away.
        inside = ((samples > -1) & (samples < limit)).all(-1)
        return samples[inside], weights[inside]


def trace(stack: Sequence[Sampling], cell: Tensor) -> tuple[Tensor, Tensor]:
    """Trace an output cell of stacked convolutions back to their input.

    All sampling points of all convolutions are followed, as in Dai et al. 2017, Figure 6.

    Args:
        stack (Sequence[Sampling]): The convolutions, the first one first.
        cell (Tensor): Output cell of the last one, shape (2).

    Returns:
        tuple[Tensor, Tensor]: Positions in input cells of the first one, shape (P, 2), P at
        most 9 to the power of their number for 3x3 kernels, and the products of the
        modulation on the way, shape (P).
    """
    points, weights = cell[None], cell.new_ones(1)
    for sampling in reversed(stack):
        points, weights = sampling.sample(points, weights)
    return points, weights


@dataclass(frozen=True)
class Arrows:
    """Offsets as arrows in image pixels.

    Args:
        starts (Tensor): Shape (P, 2).
        moves (Tensor): Shape (P, 2).
    """

    starts: Tensor
    moves: Tensor


def offset_arrows(
    offsets: Tensor, heatmap: Tensor, grid: CellGrid, min_share: float = 0.1, max_arrows: int = 150
) -> Arrows:
    """Convert an offset field to arrows, few enough to be read.

    Args:
        offsets (Tensor): In cells, x before y, shape (2, S, S).
        heatmap (Tensor): Importance of the cells, shape (S, S).
        grid (CellGrid): Grid of the cells.
        min_share (float): Cells below this share of the maximum get no arrow.
            Defaults to 0.1.
        max_arrows (int): With more cells than this, only every second (third, ...) row and
            column gets arrows. Defaults to 150.

    Returns:
        Arrows: From the centers of the cells.
    """
    chosen = heatmap >= min_share * heatmap.max()
    step = 1
    while chosen[::step, ::step].sum() > max_arrows:
        step += 1
    rows, columns = (chosen[::step, ::step].nonzero() * step).unbind(-1)
    starts = grid.to_image(torch.stack([columns, rows], -1).to(offsets))
    return Arrows(starts, offsets[:, rows, columns].T * grid.cell)


@contextmanager
def record_inputs(modules: Iterable[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """Record the last input of each module that runs within the context."""
    inputs: dict[nn.Module, Tensor] = {}

    def hook(module: nn.Module, args: tuple, _: Tensor) -> None:
        inputs[module] = args[0]

    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


def refined_convs(module: nn.Module) -> list[RefinedConv2d]:
    """List the deformable convolutions inside a module in the order of running."""
    return [each for each in module.modules() if isinstance(each, RefinedConv2d)]


def _interpolate(maps: Tensor, points: Tensor) -> Tensor:
    """Interpolate maps (C, H, W) bilinearly at cell positions (P, 2): (P, C)."""
    size = points.new_tensor([maps.shape[2], maps.shape[1]])
    grid = (2 * points + 1) / size - 1  # cell centers to [-1, 1]
    values = F.grid_sample(
        maps[None], grid[None, None], padding_mode='border', align_corners=False
    )
    return values[0, :, 0].T  # (1, C, 1, P) -> (P, C)
