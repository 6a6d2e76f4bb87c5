"""Where learned offsets make a network look, in pixels of the image.

Everything follows the half-pixel rule: cell i of a feature map of stride s
covers s pixels and has its centre at (i + 0.5) s; on a RoI, s is the RoI's
width divided by the number of cells. Points are (x, y).

Shape letters: N points of a kernel, P points, S heatmap side.
"""

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Dict, Iterable, Iterator, List, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multitask_refine.ops import RefinedConv2d


@dataclass(frozen=True)
class CellGrid:
    """The cells of a feature map, laid on the image.

    Args:
        origin (Tensor): Where the first cell begins, in image pixels, (2).
        cell (Tensor): Width and height of a cell in image pixels, (2).
    """

    origin: Tensor
    cell: Tensor

    @classmethod
    def over(cls, area: Tensor, size: Tuple[int, int]) -> 'CellGrid':
        """Divide an area xyxy in image pixels, (4), into a map's cells.

        Args:
            area (Tensor): The padded image, or a RoI.
            size (tuple[int]): Height and width of the map.
        """
        return cls(area[:2], (area[2:] - area[:2]) / area.new_tensor([size[1], size[0]]))

    def to_image(self, index: Tensor) -> Tensor:
        """From cell indices, (P, 2), to image pixels, (P, 2)."""
        return self.origin + (index + 0.5) * self.cell

    def cell_at(self, point: Tensor, size: Tuple[int, int]) -> Tensor:
        """The cell of a map of this height and width that is nearest to a
        point in image pixels; point and cell have shape (2)."""
        cell = ((point - self.origin) / self.cell).floor()
        limit = cell.new_tensor([size[1] - 1, size[0] - 1])
        return cell.clamp(min=0).minimum(limit)


@dataclass(frozen=True)
class Sampling:
    """What a refined convolution reads of one image or RoI, on the CPU.

    Args:
        offset (Tensor): dp_n in cells, x before y, (N, 2, H_out, W_out).
        factor (Tensor): The samples' factors, (N, H_out, W_out).
        taps (Tensor): The regular kernel, p_n without stride, (N, 2).
        stride (Tensor): Input cells per output cell, (2).
        size (tuple[int]): Height and width of the input.
    """

    offset: Tensor
    factor: Tensor
    taps: Tensor
    stride: Tensor
    size: Tuple[int, int]

    @classmethod
    def of(cls, conv: RefinedConv2d, feature: Tensor) -> 'Sampling':
        """Predict it.

        Args:
            conv (RefinedConv2d): With or without factors, any number of
                deformable groups (each counts as N points of its own).
            feature (Tensor): Its input, (1, C, H, W).
        """
        offset, factor = conv.predict_sampling(feature)
        out_size = offset.shape[-2:]
        offset = offset.cpu().reshape(-1, 2, *out_size).flip(1)
        factor = offset.new_ones(len(offset), *out_size) if factor is None else factor[0].cpu()
        return cls(
            offset,
            factor,
            _taps(conv).to(offset),
            offset.new_tensor(conv.stride[::-1]),
            feature.shape[-2:],
        )

    @property
    def out_size(self) -> Tuple[int, int]:
        """tuple[int]: Height and width of the output."""
        return tuple(self.factor.shape[-2:])

    def regular(self) -> 'Sampling':
        """The same without offsets and factors."""
        return replace(
            self, offset=torch.zeros_like(self.offset), factor=torch.ones_like(self.factor)
        )

    def read(self, points: Tensor, factors: Tensor) -> Tuple[Tensor, Tensor]:
        """Go from output positions to the input positions they are made of.

        Between cells the offsets are interpolated, as what is read there is
        the weighted sum of the cells around. Points that read nothing but
        the zeros outside the map are left out.

        Args:
            points (Tensor): Positions in output cells, (P, 2).
            factors (Tensor): How much each one counts, (P).

        Returns:
            tuple: Positions in input cells, (at most P N, 2), and how much
            they count.
        """
        moves = _interpolate(self.offset.flatten(0, 1), points)
        moves = moves.reshape(len(points), -1, 2)
        found = (points * self.stride)[:, None] + self.taps + moves
        shares = factors[:, None] * _interpolate(self.factor, points)
        found, shares = found.reshape(-1, 2), shares.flatten()
        limit = found.new_tensor(self.size[::-1])
        inside = ((found > -1) & (found < limit)).all(-1)
        return found[inside], shares[inside]


def trace(stack: Sequence[Sampling], cell: Tensor) -> Tuple[Tensor, Tensor]:
    """Follow an output cell of stacked convolutions down to their input.

    All points that are reached through all of them, as in Dai et al. 2017,
    Figure 6.

    Args:
        stack (Sequence[Sampling]): The convolutions, the first one first.
        cell (Tensor): Index of a cell of the last one's output, (2).

    Returns:
        tuple: Positions in cells of the first one's input, (P, 2) with P at
        most 9 to the power of their number for 3x3 kernels, and the products
        of the factors on the way, (P).
    """
    points, factors = cell[None], cell.new_ones(1)
    for sampling in reversed(stack):
        points, factors = sampling.read(points, factors)
    return points, factors


@dataclass(frozen=True)
class Arrows:
    """Offsets as arrows from ``starts`` (P, 2) by ``moves`` (P, 2), in image
    pixels."""

    starts: Tensor
    moves: Tensor


def moved_cells(
    offsets: Tensor, importance: Tensor, grid: CellGrid, share: float = 0.1, most: int = 150
) -> Arrows:
    """Thin an offset field out until it can be read by eye.

    Args:
        offsets (Tensor): In cells, x before y, (2, S, S).
        importance (Tensor): The heatmap, (S, S).
        grid (CellGrid): Where the cells are.
        share (float): Cells below this share of the highest one get no
            arrow. Defaults to 0.1.
        most (int): With more cells than this, only every second (third, ...)
            row and column gets arrows. Defaults to 150.

    Returns:
        Arrows: From the cells' centres.
    """
    chosen = importance >= share * importance.max()
    step = 1
    while chosen[::step, ::step].sum() > most:
        step += 1
    rows, columns = (chosen[::step, ::step].nonzero() * step).unbind(-1)
    starts = grid.to_image(torch.stack([columns, rows], -1).to(offsets))
    return Arrows(starts, offsets[:, rows, columns].T * grid.cell)


@contextmanager
def recorded_inputs(modules: Iterable[nn.Module]) -> Iterator[Dict[nn.Module, Tensor]]:
    """While it is open, remember the last input of each module that runs."""
    inputs: Dict[nn.Module, Tensor] = {}

    def remember(module: nn.Module, args: tuple, _: Tensor) -> None:
        inputs[module] = args[0]

    handles = [module.register_forward_hook(remember) for module in modules]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


def refined_convs(module: nn.Module) -> List[RefinedConv2d]:
    """The refined convolutions inside a module, in the order of running."""
    return [each for each in module.modules() if isinstance(each, RefinedConv2d)]


def _taps(conv: RefinedConv2d) -> Tensor:
    y, x = (
        torch.arange(size) * dilation - padding
        for size, dilation, padding in zip(conv.kernel_size, conv.dilation, conv.padding)
    )
    grid = torch.stack(torch.meshgrid(x, y, indexing='xy'), -1).reshape(-1, 2)
    return grid.repeat(conv.deform_groups, 1)


def _interpolate(maps: Tensor, points: Tensor) -> Tensor:
    """Read maps (C, H, W) at cell positions (P, 2): (P, C)."""
    size = points.new_tensor([maps.shape[2], maps.shape[1]])
    grid = (2 * points + 1) / size - 1
    values = F.grid_sample(
        maps[None], grid[None, None], padding_mode='border', align_corners=False
    )
    return values[0, :, 0].T
