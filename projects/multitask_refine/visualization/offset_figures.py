"""The pictures of tools/analysis_tools/show_offsets.py.

Axes count in continuous image pixels: pixel i covers i to i + 1.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from . import Arrows, KernelPoints, OffsetAnalysis

_READ, _REGULAR, _START = '#ff2a2a', '#b8b8b8', '#2dff2d'
_BEFORE, _AFTER, _ARROW = '#ffb000', '#2dff2d', '#00e5ff'
_COLUMNS = 4
_DRAWN = dict(mec='black', mew=1.2, ls='none', zorder=5)


@dataclass(frozen=True)
class Panel:
    """One picture.

    Args:
        name (str): Of its file, without '.png'.
        title (str): What it shows.
        caption (str): How to read it.
        draw (Callable): Draws it into axes.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Axes], None]


def make_panels(image: np.ndarray, study: OffsetAnalysis, joint_name: str) -> List[Panel]:
    """Make a picture of each part of the network that has offsets.

    Args:
        image (np.ndarray): RGB, (H, W, 3).
        study (OffsetAnalysis): What was found in it.
        joint_name (str): Of the study's joint.

    Returns:
        list[Panel]: The first one shows what was asked about.
    """
    panels = [_question(image, study, joint_name)]
    for name, kernel in study.kernels.items():
        if kernel:
            panels.append(_kernel(image, study.box, name, kernel))
    if study.pooling:
        panels.append(_pooling(image, study.box, study.pooling))
    if study.heatmap:
        panels += [_heatmap(image, study, joint_name, refined) for refined in (False, True)]
        panels.append(_field(image, study, joint_name))
    return panels


def save_panels(panels: List[Panel], folder: Path) -> List[Path]:
    """Write each picture, and all together as overview.png."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, chosen in [('overview', panels)] + [(panel.name, [panel]) for panel in panels]:
        paths.append(folder / f'{name}.png')
        _save(chosen, paths[-1])
    return paths


def _save(panels: List[Panel], path: Path) -> None:
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5 * columns, 6.6 * rows))
    # Under each picture there is room for caption and legend.
    axes = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw=dict(
            left=0.02, right=0.98, top=1 - 0.05 / rows, bottom=0.2 / rows, wspace=0.04, hspace=0.36
        ),
    ).flatten()
    for ax, panel in zip(axes, panels):
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
    figure.savefig(path, dpi=150 if columns == 1 else 100)


# ---- the panels


def _question(image: np.ndarray, study: OffsetAnalysis, joint_name: str) -> Panel:

    def draw(ax: Axes) -> None:
        _show(ax, image)
        x1, y1, x2, y2 = study.box.tolist()
        ax.add_patch(
            Rectangle(
                (x1, y1),
                x2 - x1,
                y2 - y1,
                fill=False,
                ec=_ARROW,
                lw=2,
                label=f'person, score {study.score:.2f}',
            )
        )
        _dot(ax, study.point, _START, 'point for conv3 to conv5', 'o')
        if study.place is not None:
            _dot(ax, study.place, _AFTER, f'joint: {joint_name}', 'P')

    return Panel(
        'person', 'What is looked at', 'The person, and the places whose offsets follow.', draw
    )


def _kernel(image: np.ndarray, box: Tensor, name: str, kernel: KernelPoints) -> Panel:

    def draw(ax: Axes) -> None:
        _show(ax, image)
        size = 18 if len(kernel.points) < 200 else 7
        # The mean factor on the way.
        shares = (kernel.factors / kernel.factors.max()) ** (1 / kernel.depth)
        ax.scatter(
            *_xy(kernel.regular), s=size, c=_REGULAR, ec='black', lw=0.4, label='regular grid'
        )
        ax.scatter(*_xy(kernel.points), s=size, c=_READ, lw=0, zorder=4, alpha=shares.tolist())
        # A legend's sign has one opacity.
        ax.scatter([], [], s=size, c=_READ, label='with the learned offsets')
        _dot(ax, kernel.start, _START, 'centre of the output cell', 'o')
        _zoom(ax, [box[:2], box[2:], *kernel.points, *kernel.regular])

    layers = (
        f'{kernel.total} convolutions'
        if kernel.depth == kernel.total
        else f'the last {kernel.depth} of {kernel.total} convolutions'
    )
    caption = f'One output cell and the {len(kernel.points)} points that its value is read from.\n'
    limit = kernel.points.new_tensor(image.shape[1::-1])
    if ((kernel.points < 0) | (kernel.points > limit)).any():
        caption += 'Beyond the picture is padding.'
    if (kernel.factors != 1).any():
        caption += ' Paler points count less.'
    return Panel(name.replace(' ', '_'), f'{name}: {layers}', caption, draw)


def _pooling(image: np.ndarray, box: Tensor, arrows: Arrows) -> Panel:

    def draw(ax: Axes) -> None:
        _show(ax, image, dim=True)
        _quiver(ax, arrows, 'from a bin to where it is read')
        _zoom(ax, [box[:2], box[2:]])

    return Panel('pooling', 'RoI pooling', 'Arrows are true to length. ' + _lengths(arrows), draw)


def _heatmap(image: np.ndarray, study: OffsetAnalysis, joint_name: str, refined: bool) -> Panel:
    found, word = study.heatmap, 'after' if refined else 'before'
    heatmap = found.after if refined else found.before
    highest = max(found.before.max().item(), found.after.max().item())

    def draw(ax: Axes) -> None:
        _show(ax, image, dim=True)
        x1, y1, x2, y2 = study.box.tolist()
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
        if refined:
            _dot(ax, found.joint_after, _AFTER, 'joint after', 'P')
        _dot(ax, found.joint_before, _BEFORE, 'joint before', 'X')
        _zoom(ax, [study.box[:2], study.box[2:]])

    return Panel(
        f'heatmap_{word}',
        f'{joint_name}: heatmap {word} refinement',
        f'Highest cell {float(heatmap.max()):.2f}; the colours of both\nheatmaps mean the same.',
        draw,
    )


def _field(image: np.ndarray, study: OffsetAnalysis, joint_name: str) -> Panel:
    found = study.heatmap

    def draw(ax: Axes) -> None:
        _show(ax, image, dim=True)
        _quiver(ax, found.arrows, 'from a cell to where it is read')
        _dot(ax, found.joint_before, _BEFORE, 'joint before', 'X')
        _dot(ax, found.joint_after, _AFTER, 'joint after', 'P')
        _zoom(
            ax,
            [
                found.joint_before,
                found.joint_after,
                *found.arrows.starts,
                *(found.arrows.starts + found.arrows.moves),
            ],
        )

    moved = float((found.joint_after - found.joint_before).norm())
    return Panel(
        'heatmap_offsets',
        f'{joint_name}: offsets of the heatmap',
        f'Arrows are true to length. {_lengths(found.arrows)}\nThe map moves '
        f'against them; the joint by {moved:.1f} pixels.',
        draw,
    )


def _lengths(arrows: Arrows) -> str:
    lengths = arrows.moves.norm(dim=-1)
    return f'On average {float(lengths.mean()):.1f} pixels, at most {float(lengths.max()):.1f}.'


# ---- what they are made of


def _show(ax: Axes, image: np.ndarray, dim: bool = False) -> None:
    height, width = image.shape[:2]
    if dim:
        image = (0.5 * image).astype(np.uint8)
    ax.set_facecolor('#404040')
    ax.imshow(image, extent=(0, width, height, 0), interpolation='nearest')


def _dot(ax: Axes, point: Tensor, color: str, label: str, marker: str) -> None:
    ax.plot(*point.tolist(), marker, ms=9, color=color, label=label, **_DRAWN)


def _xy(points: Tensor) -> np.ndarray:
    return points.T.numpy()


def _quiver(ax: Axes, arrows: Arrows, label: str) -> None:
    ax.quiver(
        *_xy(arrows.starts),
        *_xy(arrows.moves),
        angles='xy',
        scale_units='xy',
        scale=1,
        width=0.004,
        color=_ARROW,
        zorder=3,
    )
    ax.plot([], [], marker=r'$\rightarrow$', ms=14, ls='none', color=_ARROW, label=label)


def _zoom(ax: Axes, points: list, margin: float = 0.08) -> None:
    """Show a square around points (2), where it can be inside the image."""
    points = torch.stack(points).numpy()
    low, high = points.min(0), points.max(0)
    middle, half = (low + high) / 2, (0.5 + margin) * (high - low).max()
    size = np.array([ax.get_xlim()[1], ax.get_ylim()[0]])
    inside = np.clip(middle, np.minimum(half, size / 2), np.maximum(size - half, size / 2))
    # But no point may be lost.
    middle = np.clip(inside, high - half, low + half)
    ax.set_xlim(middle[0] - half, middle[0] + half)
    ax.set_ylim(middle[1] + half, middle[1] - half)
