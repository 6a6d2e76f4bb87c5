"""The three tasks' metrics as a table for people."""
import math
from typing import Dict

_COLUMNS = ('AP', 'AP50', 'AP75', 'APS', 'APM', 'APL')
_ROWS = dict(bbox='boxes', segm='masks', keypoints='keypoints')


def format_table(metrics: Dict[str, float]) -> str:
    """Write the metrics as a Markdown table.

    Args:
        metrics (dict[str, float]): ``<task>_<name>`` in percent. Names that
            a task lacks (keypoints have no APS) and NaN show as '-'.

    Returns:
        str: A table with one row for each task that occurs.
    """
    rows = [('', *_COLUMNS)]
    for task, title in _ROWS.items():
        if f'{task}_AP' in metrics:
            values = (metrics.get(f'{task}_{name}') for name in _COLUMNS)
            rows.append((title, *map(_cell, values)))
    lines = ['| ' + ' | '.join(f'{cell:>9}' for cell in r) + ' |' for r in rows]
    lines.insert(1, '|' + '|'.join(['----------:'] * len(rows[0])) + '|')
    return '\n'.join(lines)


def _cell(value) -> str:
    return '-' if value is None or math.isnan(value) else f'{value:.2f}'
