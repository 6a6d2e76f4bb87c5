"""Charts of the error analysis page: matplotlib figures as inline SVG.

Each chart has a text alternative (``alt``), and its colors come with dashes
or labels, so that none is needed to read it.
"""
import io
import math
import warnings
from typing import NamedTuple, Sequence, Tuple
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_INK, _SOFT, _GRID = '#1f2933', '#5b6773', '#e3e8ec'
_STYLE = matplotlib.rc_context({
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
    'lines.solid_capstyle': 'butt'
})
_TOOLTIP = 'tooltip:'  # ids that become titles


class Line(NamedTuple):
    """A curve over equal steps from 0 to 1.

    Attributes:
        label: Its text in the legend.
        values: From 0 to 1; empty if there is only the label.
        color: Any color of matplotlib.
        dashes: A line style of matplotlib.
        width: In pixels.
    """

    label: str
    values: Sequence[float]
    color: str
    dashes: str
    width: float


class Bar(NamedTuple):
    """A value from 0 to 100 in front of the light bar of a higher one.

    Attributes:
        label: Before the number.
        value: The bar; NaN shows as a dash.
        reach: The end of the light bar.
        color: Any color of matplotlib.
    """

    label: str
    value: float
    reach: float
    color: str


@_STYLE
def line_chart(lines: Sequence[Line], xlabel: str, ylabel: str,
               columns: int, alt: str) -> Markup:
    """Draw curves in the unit square above their legend.

    Args:
        lines (Sequence[Line]): The curves.
        xlabel (str): Name of the horizontal axis.
        ylabel (str): Name of the vertical axis.
        columns (int): Of the legend.
        alt (str): The chart in words.
    """
    width, height = 340, 250 + 18 * math.ceil(len(lines) / columns)
    figure = Figure((width / 72, height / 72), dpi=72)
    axes = figure.add_axes(
        (52 / width, 1 - 206 / height, 272 / width, 196 / height))
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=xlabel, ylabel=ylabel,
             xticks=[0, .25, .5, .75, 1], yticks=[0, .25, .5, .75, 1])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=6)
    axes.grid(linewidth=1)
    for line in lines:
        steps = max(len(line.values) - 1, 1)
        axes.plot([i / steps for i in range(len(line.values))], line.values,
                  line.dashes, color=line.color, linewidth=line.width,
                  label=line.label, gid=_tooltip(line.label))
    figure.legend(loc='lower left', ncols=columns, frameon=False, fontsize=11,
                  borderaxespad=0, handlelength=2.2, columnspacing=1)
    return _to_svg(figure, alt)


@_STYLE
def stacked_bars(labels: Sequence[str], values: Sequence[Sequence[float]],
                 gaps: Sequence[int], kinds: Sequence[str],
                 colors: Sequence[Tuple[str, str]], alt: str) -> Markup:
    """Draw bars whose parts fill 100 percent, with the numbers that fit.

    Args:
        labels (Sequence[str]): Left of each bar, from top to bottom.
        values (Sequence[Sequence[float]]): Percent by bar and kind; NaN if
            there is nothing to show.
        gaps (Sequence[int]): Pixels above each bar.
        kinds (Sequence[str]): Names of the parts.
        colors (Sequence[tuple[str, str]]): Of each part and the text in it.
        alt (str): The chart in words.
    """
    left, width, thick = 170, 760, 16
    axes = _pixel_axes(left + width + 2, sum(gaps) + thick * len(labels) + 4)
    y = -thick / 2  # the middle of the bar
    for label, parts, gap in zip(labels, values, gaps):
        y += gap + thick
        _text(axes, left - 8, y, label, ha='right')
        if any(map(math.isnan, parts)):
            _text(axes, left + 6, y, 'no labeled keypoints', color=_SOFT)
            continue
        x = left
        for part, kind, (color, ink) in zip(parts, kinds, colors):
            size = width * part / 100
            if size:
                axes.barh(y, size, thick, x, color=color, edgecolor='white',
                          linewidth=0.7,
                          gid=_tooltip(f'{label}: {kind} {part:.1f} %'))
            if size >= 26:
                _text(axes, x + size / 2, y, f'{part:.0f}', ha='center',
                      color=ink, size=11)
            x += size
    return _to_svg(axes.figure, alt, 'wide')


@_STYLE
def bar_columns(rows: Sequence[Tuple[str, str]], columns: Sequence[str],
                bars: Sequence[Sequence[Sequence[Bar]]], alt: str) -> Markup:
    """Draw horizontal bars: a row for each group, a column for each task.

    Args:
        rows (Sequence[tuple[str, str]]): Name of each row and a note on it.
        columns (Sequence[str]): Headings.
        bars (Sequence[Sequence[Sequence[Bar]]]): By row and column, from top
            to bottom.
        alt (str): The chart in words.
    """
    left, step, width, thick = 170, 250, 175, 15
    heights = [max(32, 16 * max(map(len, row))) + 10 for row in bars]
    axes = _pixel_axes(left + step * len(columns), 26 + sum(heights))
    for index, name in enumerate(columns):
        _text(axes, left + step * index, 10, name, size=13, weight='bold')
    top = 26
    for (name, note), row, height in zip(rows, bars, heights):
        _text(axes, left - 12, top + 8, name, ha='right')
        _text(axes, left - 12, top + 22, note, ha='right', color=_SOFT,
              size=11)
        for column, cell in enumerate(row):
            x = left + step * column
            for index, bar in enumerate(cell):
                y = top + index * (thick + 1) + thick / 2
                if math.isnan(bar.value):
                    _text(axes, x + 4, y, f'{bar.label} –'.strip(),
                          color=_SOFT)
                    continue
                reach = max(bar.value, bar.reach)
                tooltip = _tooltip(f'{name} {bar.label}'.strip() +
                                   f': AP {bar.value:.1f}, AR {bar.reach:.1f}')
                for value, alpha in ((reach, 0.22), (bar.value, None)):
                    if value:
                        axes.barh(y, width * value / 100, thick, x,
                                  alpha=alpha, color=bar.color, gid=tooltip)
                _text(axes, x + width * reach / 100 + 5, y,
                      f'{bar.label} {bar.value:.1f}'.strip())
        top += height
    return _to_svg(axes.figure, alt, 'wide')


def _pixel_axes(width: float, height: float) -> Axes:
    """Axes in pixels from the top left corner, which fill a new figure."""
    figure = Figure((width / 72, height / 72), dpi=72)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0),
                           autoscale_on=False)
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
    ids, styles for the whole page and links to clip paths.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    text = io.StringIO()
    with warnings.catch_warnings():
        # The fonts of the browser count, not matplotlib's.
        warnings.filterwarnings('ignore', 'Glyph .* missing from font')
        figure.savefig(text, format='svg', metadata=dict.fromkeys(
            ('Creator', 'Date', 'Format', 'Type')))
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
            title.text = name[len(_TOOLTIP):]
            element.insert(0, title)
    width, height = (f'{72 * size:.0f}' for size in figure.get_size_inches())
    root.attrib = {
        'class': f'chart {kind}'.strip(), 'viewBox': root.get('viewBox'),
        'width': width, 'height': height, 'role': 'img', 'aria-label': alt
    }
    return Markup(ElementTree.tostring(root, encoding='unicode'))
