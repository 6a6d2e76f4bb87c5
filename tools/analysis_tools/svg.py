"""Charts as inline SVG: curves, stacked bars, bars in columns.

Every chart has a text that says the same (``alt``), and its colours come
with dashes or labels, so that none is needed to read it.
"""
import math
from html import escape
from typing import List, NamedTuple, Sequence, Tuple

_INK, _SOFT, _GRID = '#1f2933', '#5b6773', '#e3e8ec'


class Line(NamedTuple):
    """A curve over equal steps from 0 to 1.

    Attributes:
        label: What a pointer over it shows.
        values: From 0 to 1.
        color: Any CSS colour.
        dash: SVG's pattern of dashes; '' for none.
        width: In pixels.
    """

    label: str
    values: Sequence[float]
    color: str
    dash: str = ''
    width: float = 1.5


class Stack(NamedTuple):
    """A bar of parts that fill 100 percent.

    Attributes:
        label: Left of the bar.
        parts: Percent; NaN if there is nothing to show.
        gap: Pixels above the bar.
    """

    label: str
    parts: Sequence[float]
    gap: int = 4


class Bar(NamedTuple):
    """A value from 0 to 100 before the light bar of a higher one.

    Attributes:
        value: The bar; NaN shows as a dash.
        reach: The light bar's end.
        color: Any CSS colour.
        name: Before the number.
    """

    value: float
    reach: float
    color: str
    name: str = ''


def line_chart(lines: Sequence[Line], axes: Tuple[str, str], alt: str) -> str:
    """Curves in a unit square with their axes' names."""
    left, top, width, height = 52, 10, 272, 196
    parts = []
    for step in range(5):
        value = step / 4
        x, y = left + width * value, top + height * (1 - value)
        parts += [
            _rule(left, y, left + width, y),
            _rule(x, top, x, top + height),
            _text(left - 6, y + 4, f'{value:.2f}', 'end', _SOFT),
            _text(x, top + height + 16, f'{value:.2f}', 'middle', _SOFT)
        ]
    parts += [
        _text(left + width / 2, top + height + 34, axes[0], 'middle'),
        f'<g transform="translate(12 {top + height / 2}) rotate(-90)">'
        f'{_text(0, 0, axes[1], "middle")}</g>'
    ]
    for line in lines:
        last = len(line.values) - 1
        points = ' '.join(
            f'{left + width * i / last:.1f},{top + height * (1 - v):.1f}'
            for i, v in enumerate(line.values))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{line.color}" '
            f'stroke-width="{line.width}" stroke-dasharray="{line.dash}" '
            f'stroke-linejoin="round">{_title(line.label)}</polyline>')
    return _svg(left + width + 16, top + height + 42, parts, alt)


def line_sample(line: Line) -> str:
    """A short piece of a curve, for a legend."""
    return (f'<svg class="sample" viewBox="0 0 30 10" width="30" height="10" '
            f'aria-hidden="true"><line x1="1" y1="5" x2="29" y2="5" '
            f'stroke="{line.color}" stroke-width="{line.width}" '
            f'stroke-dasharray="{line.dash}"/></svg>')


def stacked_bars(stacks: Sequence[Stack], names: Sequence[str],
                 colors: Sequence[Tuple[str, str]], alt: str) -> str:
    """Bars of parts, with their percent where it fits.

    Args:
        stacks (Sequence[Stack]): From top to bottom.
        names (Sequence[str]): Of the parts.
        colors (Sequence[tuple[str, str]]): Of the parts and the text in them.
        alt (str): The chart in words.
    """
    left, width, height = 170, 760, 16
    parts, y = [], 0
    for stack in stacks:
        y += stack.gap
        parts.append(_text(left - 8, y + 12.5, stack.label, 'end'))
        if any(map(math.isnan, stack.parts)):
            parts.append(_text(left + 6, y + 12.5, 'no labelled joints',
                               'start', _SOFT))
        else:
            parts += _parts(stack, y, left, width, height, names, colors)
        y += height
    return _svg(left + width + 2, y + 4, parts, alt, 'wide')


def _parts(stack: Stack, y: float, left: float, width: float, height: float,
           names: Sequence[str],
           colors: Sequence[Tuple[str, str]]) -> List[str]:
    drawn, x = [], left
    for value, name, (color, ink) in zip(stack.parts, names, colors):
        size = width * value / 100
        drawn.append(
            f'<rect x="{x:.1f}" y="{y}" width="{size:.1f}" '
            f'height="{height}" fill="{color}" stroke="#fff" '
            f'stroke-width="0.7">'
            f'{_title(f"{stack.label}: {name} {value:.1f} %")}</rect>')
        if size >= 26:
            drawn.append(_text(x + size / 2, y + 12.5, f'{value:.0f}',
                               'middle', ink, 11))
        x += size
    return drawn


def bar_columns(rows: Sequence[Tuple[str, str]], columns: Sequence[str],
                bars: Sequence[Sequence[Sequence[Bar]]], alt: str) -> str:
    """Horizontal bars: a row for each group, a column for each task.

    Args:
        rows (Sequence[tuple[str, str]]): Name of each row, and what stands
            under it.
        columns (Sequence[str]): Headings.
        bars (Sequence[Sequence[Sequence[Bar]]]): By row and column, those
            that stand under each other.
        alt (str): The chart in words.
    """
    left, wide, bar_height = 170, 250, 15
    parts = [
        _text(left + wide * i, 14, name, 'start', _INK, 13, True)
        for i, name in enumerate(columns)
    ]
    y = 26
    for (name, note), cells in zip(rows, bars):
        parts += [_text(left - 12, y + 12, name, 'end'),
                  _text(left - 12, y + 26, note, 'end', _SOFT, 11)]
        for column, cell in enumerate(cells):
            for index, bar in enumerate(cell):
                parts += _bar(bar, left + wide * column,
                              y + index * (bar_height + 1), bar_height,
                              wide - 75)
        y += max(32, 16 * max(map(len, cells))) + 10
    return _svg(left + wide * len(columns), y, parts, alt, 'wide')


def _bar(bar: Bar, x: float, y: float, height: float,
         width: float) -> List[str]:
    name = f'{bar.name} ' if bar.name else ''
    if math.isnan(bar.value):
        return [_text(x + 4, y + 12, f'{name}–', 'start', _SOFT)]
    reach = max(bar.value, bar.reach)
    return [
        f'<rect x="{x}" y="{y}" width="{width * size / 100:.1f}" '
        f'height="{height}" fill="{bar.color}" fill-opacity="{opacity}"/>'
        for size, opacity in ((reach, 0.22), (bar.value, 1))
    ] + [_text(x + width * reach / 100 + 5, y + 12, f'{name}{bar.value:.1f}')]


def _svg(width: float, height: float, parts: Sequence[str], alt: str,
         kind: str = '') -> str:
    return (f'<svg class="chart {kind}" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" '
            f'aria-label="{escape(alt)}">{"".join(parts)}</svg>')


def _text(x: float, y: float, text: str, anchor: str = 'start',
          color: str = _INK, size: int = 12, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ''
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
            f'fill="{color}" font-size="{size}"{weight}>{escape(text)}</text>')


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{_GRID}"/>')


def _title(text: str) -> str:
    return f'<title>{escape(text)}</title>'
