"""Figures of learned offsets.

Axes count in continuous image pixels: pixel i covers i to i + 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from .offset_analysis import HeatmapRefinement, KernelPoints, OffsetAnalysis
from .sampling_points import Arrows

_SAMPLED, _REGULAR, _START = '#ff2a2a', '#b8b8b8', '#2dff2d'
_BEFORE, _AFTER, _ARROW = '#ffb000', '#2dff2d', '#00e5ff'
_COLUMNS = 4


@dataclass(frozen=True)
class Panel:
    """One plot.

    Args:
        name (str): Name of its file, without '.png'.
        title (str): Title above the plot.
        caption (str): Caption below the plot.
        draw (Callable): Draws the plot into axes.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Axes], None]


def make_panels(image: np.ndarray, analysis: OffsetAnalysis, keypoint_name: str) -> list[Panel]:
    """Make a panel for each part of the model that has offsets.

    Args:
        image (np.ndarray): RGB, shape (H, W, 3).
        analysis (OffsetAnalysis): Analysis of this image.
        keypoint_name (str): Name of the analyzed keypoint.

    Returns:
        list[Panel]: The first one shows instance, point and keypoint.
    """
    box = analysis.box

    def draw_instance(ax: Axes) -> None:
        _show(ax, image)
        corner, size = box[:2].tolist(), (box[2:] - box[:2]).tolist()
        label = f'person, score {analysis.score:.2f}'
        ax.add_patch(Rectangle(corner, *size, fill=False, ec=_ARROW, lw=2, label=label))
        _mark(ax, analysis.point, _START, 'point for conv3 to conv5', 'o')
        if analysis.location is not None:
            _mark(ax, analysis.location, _AFTER, f'keypoint: {keypoint_name}', 'P')

    def draw_pooling(ax: Axes) -> None:
        _show(ax, image, dim=True)
        _draw_arrows(ax, analysis.pooling, 'from a bin to where it is sampled')
        _zoom(ax, [box[:2], box[2:]])

    panels = [
        Panel(
            'person',
            'Analyzed instance',
            'The instance, and the point and keypoint whose offsets follow.',
            draw_instance,
        )
    ]
    for name, kernel in analysis.kernels.items():
        if kernel:
            panels.append(_kernel_panel(image, box, name, kernel))
    if analysis.pooling:
        caption = 'Arrows are true to length. ' + _describe_lengths(analysis.pooling)
        panels.append(Panel('pooling', 'RoI pooling', caption, draw_pooling))
    if analysis.heatmap:
        panels += _heatmap_panels(image, box, analysis.heatmap, keypoint_name)
    return panels


def _kernel_panel(image: np.ndarray, box: Tensor, name: str, kernel: KernelPoints) -> Panel:
    def draw(ax: Axes) -> None:
        _show(ax, image)
        size = 18 if len(kernel.points) < 200 else 7
        ax.scatter(
            *kernel.regular.T.numpy(), s=size, c=_REGULAR, ec='black', lw=0.4, label='regular grid'
        )
        # The mean modulation on the way to the point.
        alpha = (kernel.weights / kernel.weights.max()) ** (1 / kernel.depth)
        ax.scatter(
            *kernel.points.T.numpy(), s=size, c=_SAMPLED, lw=0, zorder=4, alpha=alpha.tolist()
        )
        # A legend marker has one opacity.
        ax.scatter([], [], s=size, c=_SAMPLED, label='with the learned offsets')
        _mark(ax, kernel.start, _START, 'center of the output cell', 'o')
        _zoom(ax, [box[:2], box[2:], *kernel.points, *kernel.regular])

    is_whole = kernel.depth == kernel.total
    layers = f'{kernel.total}' if is_whole else f'the last {kernel.depth} of {kernel.total}'
    caption = f'One output cell and the {len(kernel.points)} points that its value is read from.\n'
    limit = kernel.points.new_tensor(image.shape[1::-1])
    if ((kernel.points < 0) | (kernel.points > limit)).any():
        caption += 'Beyond the image is padding.'
    if (kernel.weights != 1).any():
        caption += ' Paler points count less.'
    return Panel(name.replace(' ', '_'), f'{name}: {layers} convolutions', caption, draw)


def _heatmap_panels(
    image: np.ndarray, box: Tensor, found: HeatmapRefinement, keypoint_name: str
) -> list[Panel]:
    """Make a panel of the heatmap before refinement, one after it, one of its offsets."""
    highest = max(found.before.max().item(), found.after.max().item())

    def draw_heatmap(ax: Axes, heatmap: Tensor) -> None:
        _show(ax, image, dim=True)
        x1, y1, x2, y2 = box.tolist()
        ax.imshow(
            heatmap.numpy(),
            cmap='inferno',
            vmin=0,
            vmax=highest,
            alpha=(heatmap / highest).sqrt().clamp(0, 0.85).numpy(),
            extent=(x1, x2, y2, y1),
            interpolation='nearest',
            zorder=2,
        )
        if heatmap is found.after:
            _mark(ax, found.keypoint_after, _AFTER, 'keypoint after', 'P')
        _mark(ax, found.keypoint_before, _BEFORE, 'keypoint before', 'X')
        _zoom(ax, [box[:2], box[2:]])

    def draw_offsets(ax: Axes) -> None:
        _show(ax, image, dim=True)
        _draw_arrows(ax, found.arrows, 'from a cell to where it is sampled')
        _mark(ax, found.keypoint_before, _BEFORE, 'keypoint before', 'X')
        _mark(ax, found.keypoint_after, _AFTER, 'keypoint after', 'P')
        starts = found.arrows.starts
        ends = starts + found.arrows.moves
        _zoom(ax, [found.keypoint_before, found.keypoint_after, *starts, *ends])

    moved = float((found.keypoint_after - found.keypoint_before).norm())
    return [
        *(
            Panel(
                f'heatmap_{when}',
                f'{keypoint_name}: heatmap {when} refinement',
                f'Highest cell {float(heatmap.max()):.2f}; the colors of both\n'
                'heatmaps mean the same.',
                lambda ax, heatmap=heatmap: draw_heatmap(ax, heatmap),
            )
            for when, heatmap in (('before', found.before), ('after', found.after))
        ),
        Panel(
            'heatmap_offsets',
            f'{keypoint_name}: offsets of the heatmap',
            f'Arrows are true to length. {_describe_lengths(found.arrows)}\nThe heatmap moves '
            f'against them; the keypoint by {moved:.1f} pixels.',
            draw_offsets,
        ),
    ]


def draw_panels(panels: list[Panel]) -> Figure:
    """Draw panels beside each other.

    Args:
        panels (list[Panel]): From :func:`make_panels`.

    Returns:
        Figure: Rows of at most four panels.
    """
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5 * columns, 6.6 * rows))
    # Caption and legend need room below each plot.
    margins = dict(left=0.02, right=0.98, top=1 - 0.05 / rows, bottom=0.2 / rows)
    axes = figure.subplots(
        rows, columns, squeeze=False, gridspec_kw=dict(margins, wspace=0.04, hspace=0.36)
    ).flatten()
    for ax, panel in zip(axes, panels, strict=False):
        panel.draw(ax)
        ax.set_anchor('N')
        ax.set_title(panel.title, fontsize=12, weight='bold')
        ax.set_xlabel(panel.caption, fontsize=10)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.legend(
            loc='upper center',
            bbox_to_anchor=(0.5, -0.1),
            fontsize=9,
            facecolor='#8a8a8a',
            labelcolor='white',
        )
    for ax in axes[len(panels) :]:
        ax.remove()
    return figure


def save_panels(panels: list[Panel], folder: Path) -> list[Path]:
    """Save each panel, and all together as overview.png.

    Args:
        panels (list[Panel]): From :func:`make_panels`.
        folder (Path): The folder; is made if need be.

    Returns:
        list[Path]: The files, the overview first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, chosen in [('overview', panels)] + [(panel.name, [panel]) for panel in panels]:
        paths.append(folder / f'{name}.png')
        draw_panels(chosen).savefig(paths[-1], dpi=150 if len(chosen) == 1 else 100)
    return paths


def _show(ax: Axes, image: np.ndarray, dim: bool = False) -> None:
    height, width = image.shape[:2]
    if dim:
        image = (0.5 * image).astype(np.uint8)
    ax.set_facecolor('#404040')
    ax.imshow(image, extent=(0, width, height, 0), interpolation='nearest')


def _mark(ax: Axes, point: Tensor, color: str, label: str, marker: str) -> None:
    style = dict(ms=9, mec='black', mew=1.2, ls='none', zorder=5)
    ax.plot(*point.tolist(), marker, color=color, label=label, **style)


def _draw_arrows(ax: Axes, arrows: Arrows, label: str) -> None:
    ax.quiver(
        *arrows.starts.T.numpy(),
        *arrows.moves.T.numpy(),
        angles='xy',
        scale_units='xy',
        scale=1,
        width=0.004,
        color=_ARROW,
        zorder=3,
    )
    ax.plot([], [], marker=r'$\rightarrow$', ms=14, ls='none', color=_ARROW, label=label)


def _describe_lengths(arrows: Arrows) -> str:
    lengths = arrows.moves.norm(dim=-1)
    return f'On average {float(lengths.mean()):.1f} pixels, at most {float(lengths.max()):.1f}.'


def _zoom(ax: Axes, points: list[Tensor], margin: float = 0.08) -> None:
    """Show a square around points (2), moved into the image as far as possible."""
    points = torch.stack(points).numpy()
    low, high = points.min(0), points.max(0)
    center, half = (low + high) / 2, (0.5 + margin) * (high - low).max()
    size = np.array([ax.get_xlim()[1], ax.get_ylim()[0]])
    inside = np.clip(center, np.minimum(half, size / 2), np.maximum(size - half, size / 2))
    # No point may be lost.
    center = np.clip(inside, high - half, low + half)
    ax.set_xlim(center[0] - half, center[0] + half)
    ax.set_ylim(center[1] + half, center[1] - half)
