"""Markdown tables of metrics."""

import math
from collections.abc import Sequence

_COLUMNS = ('AP', 'AP50', 'AP75', 'APS', 'APM', 'APL')
ROWS = dict(bbox='boxes', segm='masks', keypoints='keypoints')


def format_table(metrics: dict[str, float]) -> str:
    """Write the metrics as a Markdown table.

    Args:
        metrics (dict[str, float]): ``<task>_<name>`` in percent. Names that
            a task lacks (keypoints have no APS) and NaN show as '-'.

    Returns:
        str: A table with one row for each task that occurs.
    """
    rows = []
    for task, title in ROWS.items():
        if f'{task}_AP' in metrics:
            values = (metrics.get(f'{task}_{name}') for name in _COLUMNS)
            rows.append([title, *map(percent, values)])
    return markdown_table(['', *_COLUMNS], rows)


def format_rows(title: str, rows: dict[str, dict[str, float]]) -> str:
    """Write a metric of several things as a Markdown table.

    Args:
        title (str): What the rows are, as 'class'.
        rows (dict[str, dict[str, float]]): By name the same metrics of each,
            in percent.

    Returns:
        str: One row for each name, one column for each metric.
    """
    columns = list(next(iter(rows.values()), {}))
    return markdown_table(
        [title, *columns], [[name, *map(percent, row.values())] for name, row in rows.items()]
    )


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table with aligned columns.

    Args:
        head (Sequence[str]): The headings.
        rows (Sequence[Sequence[str]]): As many cells each.

    Returns:
        str: The first column is aligned to the left, the others to the right.
    """
    widths = [max(3, *map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [_line(row, widths) for row in [head, *rows]]
    rule = ['-' * widths[0], *('-' * (width - 1) + ':' for width in widths[1:])]
    lines.insert(1, _line(rule, widths))
    return '\n'.join(lines)


def percent(value: float | None, sign: bool = False, digits: int = 2) -> str:
    """Format a number of a table.

    Args:
        value (float, optional): None and NaN show as '-'.
        sign (bool): Whether '+' is shown, as for differences.
        digits (int): Decimals.
    """
    if value is None or math.isnan(value):
        return '-'
    return f'{value:{"+" if sign else ""}.{digits}f}'


def _line(cells: Sequence[str], widths: list[int]) -> str:
    padded = [cells[0].ljust(widths[0])]
    padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return '| ' + ' | '.join(padded) + ' |'
