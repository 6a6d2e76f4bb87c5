"""Charts of the error analysis page: matplotlib figures as inline SVG.

Each chart has a text alternative, and its colors come with dashes or labels,
so that none is needed to read it.
"""

import io
import itertools
import math
import warnings
from collections.abc import Sequence
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from multitask_refine.analysis import Group
from multitask_refine.evaluation import percent
from multitask_refine.evaluation.calibration import CalibrationBin, calibration_error

from .runs import Analysis

TITLES = dict(bbox='Boxes', segm='Masks', keypoints='Keypoints')
# Blue and vermilion of Okabe and Ito, which the color-blind tell apart.
RUN_COLORS = {'': '#0072b2', 'A': '#0072b2', 'B': '#d55e00'}
# Colors of Okabe and Ito or darker, each with the color of the numbers on it.
KIND_COLORS = dict(
    good=('#cfd8dd', '#1f2933'),
    jitter=('#f0c43c', '#1f2933'),
    inversion=('#0072b2', '#ffffff'),
    swap=('#cc79a7', '#1f2933'),
    miss=('#a63d00', '#ffffff'),
)
_CURVES = {'0.50': ('-', 1.2), '0.75': ('--', 1.5), 'mean': ('-', 2.8)}
_INK, _SOFT, _GRID = '#1f2933', '#5b6773', '#e3e8ec'
_STYLE = matplotlib.rc_context(
    {
        'svg.fonttype': 'none',  # text stays text
        'svg.hashsalt': 'report',
        'text.parse_math': False,  # a keypoint may be called '$'
        'text.color': _INK,
        'font.size': 12,
        'font.sans-serif': ['DejaVu Sans'],
        'xtick.labelcolor': _SOFT,
        'ytick.labelcolor': _SOFT,
        'axes.labelcolor': _INK,
        'grid.color': _GRID,
        'lines.solid_capstyle': 'butt',
    }
)
_TOOLTIP = 'tooltip:'  # ids that become titles


@_STYLE
def curve_chart(analyses: Sequence[Analysis], task: str) -> Markup:
    """Draw precision over recall of a task above the legend.

    Args:
        analyses (Sequence[Analysis]): One or two runs.
        task (str): 'bbox', 'segm' or 'keypoints'.
    """
    width, height = 340, 304
    figure = Figure((width / 72, height / 72), dpi=72)
    axes = figure.add_axes((52 / width, 1 - 206 / height, 272 / width, 196 / height))
    ticks = [0, 0.25, 0.5, 0.75, 1]
    axes.set(
        xlim=(0, 1), ylim=(0, 1), xlabel='recall', ylabel='precision', xticks=ticks, yticks=ticks
    )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=6)
    axes.grid(linewidth=1)
    measure = 'OKS' if task == 'keypoints' else 'IoU'
    for analysis in analyses:
        curves = analysis.curves.get(task)
        for name, (dashes, line_width) in _CURVES.items():
            values = curves[name] if curves else []
            area = 100 * sum(values) / len(values) if values else None
            label = f'{analysis.run.name} {measure} {name}'.strip()
            label += f': AP {percent(area)}'
            # The values are at equal steps from 0 to 1.
            axes.plot(
                [i / (len(values) - 1) for i in range(len(values))],
                values,
                dashes,
                color=RUN_COLORS[analysis.run.name],
                linewidth=line_width,
                label=label,
                gid=_tooltip(label),
            )
    figure.legend(
        loc='lower left',
        ncols=len(analyses),
        frameon=False,
        fontsize=11,
        borderaxespad=0,
        handlelength=2.2,
        columnspacing=1,
    )
    alt = f'{TITLES[task]}, precision over recall. ' + '; '.join(
        line.get_label() for line in axes.lines
    )
    return _to_svg(figure, alt)


@_STYLE
def keypoint_chart(
    labels: Sequence[str], values: Sequence[Sequence[float]], gaps: Sequence[int]
) -> Markup:
    """Draw bars of the kinds of keypoints, with the numbers that fit.

    Args:
        labels (Sequence[str]): Left of each bar, from top to bottom.
        values (Sequence[Sequence[float]]): Percent by bar and kind; NaN if
            there is nothing to show.
        gaps (Sequence[int]): Pixels above each bar.
    """
    left, width, thick = 170, 760, 16
    axes = _pixel_axes(left + width + 2, sum(gaps) + thick * len(labels) + 4)
    y = -thick / 2  # the middle of the bar
    for label, parts, gap in zip(labels, values, gaps, strict=True):
        y += gap + thick
        _text(axes, left - 8, y, label, ha='right')
        if any(map(math.isnan, parts)):
            _text(axes, left + 6, y, 'no labeled keypoints', color=_SOFT)
            continue
        x = left
        for part, (kind, (color, ink)) in zip(parts, KIND_COLORS.items(), strict=True):
            size = width * part / 100
            if size:
                axes.barh(
                    y,
                    size,
                    thick,
                    x,
                    color=color,
                    edgecolor='white',
                    linewidth=0.7,
                    gid=_tooltip(f'{label}: {kind} {part:.1f} %'),
                )
            if size >= 26:
                _text(axes, x + size / 2, y, f'{part:.0f}', ha='center', color=ink, size=11)
            x += size
    return _to_svg(
        axes.figure, 'Kinds of keypoints in percent; the numbers are in the table below.', 'wide'
    )


@_STYLE
def breakdown_chart(
    analyses: Sequence[Analysis],
    groups: Sequence[Sequence[Group]],
    tasks: Sequence[str],
    title: str,
) -> Markup:
    """Draw AP in front of AR: a row for each group, a column for each task.

    Args:
        analyses (Sequence[Analysis]): One or two runs.
        groups (Sequence[Sequence[Group]]): By group and run.
        tasks (Sequence[str]): From left to right.
        title (str): What the groups differ in.
    """
    left, step, width, thick = 170, 250, 175, 15
    axes = _pixel_axes(left + step * len(tasks), 26 + 42 * len(groups))
    for column, task in enumerate(tasks):
        _text(axes, left + step * column, 10, TITLES[task], size=13, weight='bold')
    for index, same in enumerate(groups):
        top, first = 26 + 42 * index, same[0]
        _text(axes, left - 12, top + 8, first.name, ha='right')
        _text(
            axes,
            left - 12,
            top + 22,
            f'people: {first.people}, images: {first.images}',
            ha='right',
            color=_SOFT,
            size=11,
        )
        for column, task in enumerate(tasks):
            x, y = left + step * column, top + thick / 2
            for analysis, group in zip(analyses, same, strict=True):
                if task not in group.scores:
                    continue
                ap, ar = group.scores[task]
                run = analysis.run.name
                if math.isnan(ap):
                    _text(axes, x + 4, y, f'{run} –'.strip(), color=_SOFT)
                else:
                    tooltip = _tooltip(
                        f'{first.name} {run}'.strip() + f': AP {ap:.1f}, AR {ar:.1f}'
                    )
                    for value, alpha in ((max(ap, ar), 0.22), (ap, None)):
                        if value:
                            axes.barh(
                                y,
                                width * value / 100,
                                thick,
                                x,
                                alpha=alpha,
                                color=RUN_COLORS[run],
                                linewidth=0,
                                gid=tooltip,
                            )
                    _text(axes, x + width * max(ap, ar) / 100 + 5, y, f'{run} {ap:.1f}'.strip())
                y += thick + 1
    return _to_svg(
        axes.figure, f'{title}: AP and AR in percent; the numbers are in the table below.', 'wide'
    )


@_STYLE
def calibration_chart(
    curves: Sequence[tuple[str, str, Sequence[CalibrationBin]]], observed: str
) -> Markup:
    """Draw what came over what was predicted, beside the diagonal.

    Args:
        curves (Sequence[tuple[str, str, Sequence[CalibrationBin]]]): Label, color and curve.
        observed (str): What came.
    """
    width, height = 340, 264 + 16 * len(curves)
    figure = Figure((width / 72, height / 72), dpi=72)
    axes = figure.add_axes((52 / width, 1 - 206 / height, 272 / width, 196 / height))
    ticks = [0, 0.25, 0.5, 0.75, 1]
    axes.set(
        xlim=(0, 1), ylim=(0, 1), xlabel='predicted', ylabel=observed, xticks=ticks, yticks=ticks
    )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=6)
    axes.grid(linewidth=1)
    axes.plot([0, 1], [0, 1], color=_SOFT, linewidth=1)
    labels = []
    for (label, color, curve), dashes in zip(curves, itertools.cycle(('-', '--', ':'))):
        filled = [each for each in curve if each.size]
        label = f'{label}: error {percent(100 * calibration_error(curve))}'
        labels.append(label)
        style = dict(color=color, gid=_tooltip(label))
        x, y = [each.predicted for each in filled], [each.observed for each in filled]
        axes.plot(x, y, dashes, linewidth=1.8, label=label, **style)
        # Dots are lines without length: matplotlib's markers are links to ids, see _to_svg.
        for point in zip(x, y, strict=True):
            axes.plot(
                *zip(point, point, strict=True), linewidth=6, solid_capstyle='round', **style
            )
    figure.legend(loc='lower left', frameon=False, fontsize=11, borderaxespad=0, handlelength=2.2)
    return _to_svg(figure, f'{observed} over the predicted score. {"; ".join(labels)}')


def _pixel_axes(width: float, height: float) -> Axes:
    """Axes in pixels from the top left corner, which fill a new figure."""
    figure = Figure((width / 72, height / 72), dpi=72)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    return axes


def _text(axes: Axes, x: float, y: float, text: str, **style) -> None:
    axes.text(x, y + 4.5, _printable(text), va='baseline', **style)


def _tooltip(text: str) -> str:
    return _TOOLTIP + _printable(text)


def _printable(text: str) -> str:
    """Replace what XML cannot hold: control characters, lone surrogates."""
    return ''.join(c if c.isprintable() else '\ufffd' for c in text)


def _to_svg(figure: Figure, alt: str, kind: str = '') -> Markup:
    """Write a figure as an element of an HTML page.

    What a page that holds several figures cannot have is left out: namespaces,
    ids, styles for the whole page and links to clip paths or markers.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    text = io.StringIO()
    with warnings.catch_warnings():
        # The fonts of the browser count, not matplotlib's.
        warnings.filterwarnings('ignore', 'Glyph .* missing from font')
        figure.savefig(
            text, format='svg', metadata=dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
        )
    root = ElementTree.fromstring(text.getvalue())
    for element in list(root.iter()):
        element.tag = element.tag.rpartition('}')[2]
        element.tail = None
        if element.tag != 'text':
            element.text = None
        for child in list(element):
            if child.tag.endswith(('}defs', '}metadata')):
                element.remove(child)
        element.attrib.pop('clip-path', None)
        name = element.attrib.pop('id', '')
        if name.startswith(_TOOLTIP):
            title = ElementTree.Element('title')
            title.text = name[len(_TOOLTIP) :]
            element.insert(0, title)
    width, height = (f'{72 * size:.0f}' for size in figure.get_size_inches())
    root.attrib = {
        'class': f'chart {kind}'.strip(),
        'viewBox': root.get('viewBox'),
        'width': width,
        'height': height,
        'role': 'img',
        'aria-label': alt,
    }
    return Markup(ElementTree.tostring(root, encoding='unicode'))
