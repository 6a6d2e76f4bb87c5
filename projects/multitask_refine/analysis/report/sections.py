"""Texts and tables of the error analysis page.

The words and the markup around them are in ``templates/report.html``, which
escapes all texts.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from multitask_refine.analysis import KINDS
from multitask_refine.analysis.keypoint_errors import shares
from multitask_refine.evaluation import LEVELS, TASKS, percent
from multitask_refine.evaluation.calibration import calibration_error

from .charts import RUN_COLORS, TITLES, breakdown_chart, calibration_chart, keypoint_chart
from .runs import Analysis

_COLUMNS = ('AP', 'AP50', 'AP75', 'APS', 'APM', 'APL', 'AR')

# What the scores are that ``compare_rankings`` ranks by.
_RANKINGS = dict(
    bbox='box score',
    bbox_iou='times predicted IoU',
    bbox_keypoint='times keypoint scores',
    bbox_oks='times predicted OKS',
)


class Row(NamedTuple):
    """A row of a table; the first cell is its heading."""

    cells: list[str]
    is_difference: bool = False


class Table(NamedTuple):
    """A table of numbers: headings, and rows with as many cells each."""

    head: list[str]
    rows: list[Row]


def tasks_of(analyses: Sequence[Analysis]) -> list[str]:
    """Return the tasks that any run has, in their usual order."""
    return [t for t in TASKS if any(t in a.run.data.entries for a in analyses)]


def run_facts(content: dict, path: str) -> dict[str, str]:
    """Return the facts of the run of a predictions file.

    Args:
        content (dict): Of the file.
        path (str): Of the file.
    """

    def short(value: object) -> str:
        text = 'not recorded' if value is None else str(value)
        return text if len(text) <= 400 else text[:397] + '...'

    run = content['run'] or {}
    machine = run.get('machine')
    machine = machine if isinstance(machine, dict) else {}
    get = {
        name: short(run.get(name))
        for name in (
            'config',
            'checkpoint',
            'checkpoint_sha256',
            'trained_with',
            'seed',
            'iteration',
            'commit',
            'date',
            'seconds',
            'processes',
            'command',
        )
    }
    versions = [
        f'{name} {short(machine[name])}'
        for name in ('torch', 'mmcv', 'mmdet', 'pycocotools')
        if name in machine
    ]
    return {
        'config': get['config'],
        'checkpoint': f'{get["checkpoint"]}, SHA-256 {get["checkpoint_sha256"][:16]}',
        'trained with': f'{get["trained_with"]}, seed {get["seed"]}, iteration {get["iteration"]}',
        'commit': get['commit'],
        'date': f'{get["date"]}, {get["seconds"]} s, processes: {get["processes"]}',
        'machine': ', '.join(
            [short(machine.get('device')), short(machine.get('platform')), *versions]
        ),
        'data': f'{short(content["annotations"]["file"])}, {len(content["images"])} images',
        'command': get['command'],
        'predictions': short(path),
    }


def metric_table(analyses: Sequence[Analysis]) -> Table:
    """Return the metrics of the results file, by task."""
    rows = []
    for task in tasks_of(analyses):
        last = 'AR' if task == 'keypoints' else 'AR100'
        rows += _rows(
            analyses,
            TITLES[task],
            [
                [a.run.content['metrics'].get(f'{task}_{name}') for name in (*_COLUMNS[:-1], last)]
                for a in analyses
            ],
        )
    return Table(['', *_COLUMNS], rows)


def keypoint_section(analyses: Sequence[Analysis]) -> dict:
    """Return the kinds of keypoint errors of the runs that have keypoints.

    Args:
        analyses (Sequence[Analysis]): Each with ``errors`` and ``crowded_errors``.

    Returns:
        dict: ``leads``, of each run its analysis, the percent of each kind
        and the most frequent error; ``chart``; ``table``, and ``total``, its
        rows of all keypoints.
    """
    names = analyses[0].run.content['keypoints']['names']
    parts = {
        'all keypoints': ('errors', ...),
        'of crowded people': ('crowded_errors', ...),
        'visible': ('errors', (slice(None), 1)),
        'occluded': ('errors', (slice(None), 0)),
        **{name.replace('_', ' '): ('errors', i) for i, name in enumerate(names)},
    }
    labels, values, gaps, rows = [], [], [], []
    for index, (name, (field, part)) in enumerate(parts.items()):
        gap = 20 if index == 4 else 8 if len(analyses) > 1 else 4
        numbers = [[*shares(getattr(a, field).counts[part]).values()] for a in analyses]
        rows += _rows(analyses, name, numbers, digits=1)
        labels += [f'{name} {a.run.name}'.strip() for a in analyses]
        values += numbers
        gaps += [gap, 1][: len(analyses)]
    head = ['', *KINDS]
    totals = [dict(zip(KINDS, v, strict=True)) for v in values[: len(analyses)]]
    return dict(
        leads=[
            (a, total, max(KINDS[1:], key=total.get))
            for a, total in zip(analyses, totals, strict=True)
        ],
        chart=keypoint_chart(labels, values, gaps),
        total=Table(head, rows[: len(rows) // len(parts)]),
        table=Table(head, rows),
    )


def visibility_section(analyses: Sequence[Analysis]) -> dict:
    """Return the quality of the predicted visibility of the runs that have it.

    Args:
        analyses (Sequence[Analysis]): Each with ``visibility``.

    Returns:
        dict: ``chart``, the calibration, and ``table``.
    """
    rows = []
    for level in LEVELS:
        numbers = [
            [a.visibility.metrics[f'AP_{level}'], a.visibility.shares[level]] for a in analyses
        ]
        rows += _rows(analyses, level, numbers)
    for name, key in (('correct', 'accuracy'), ('calibration error', 'ECE')):
        numbers = [[a.visibility.metrics[key], None] for a in analyses]
        rows += _rows(analyses, name, numbers)
    curves = [
        (f'{a.run.name} likeliest level'.strip(), RUN_COLORS[a.run.name], a.visibility.curve)
        for a in analyses
    ]
    return dict(
        chart=calibration_chart(curves, 'share that is correct'),
        table=Table(['', 'percent', 'share of the keypoints'], rows),
    )


def ranking_section(analyses: Sequence[Analysis]) -> dict:
    """Return AP and calibration of poses and masks by each score that ranks them.

    Args:
        analyses (Sequence[Analysis]): Each with ``rankings``.

    Returns:
        dict: ``charts``, pairs of a title and the calibration, and ``table``.
    """
    rows, charts = [], []
    for task in TASKS:
        names = dict.fromkeys(name for a in analyses for name in a.rankings.get(task, ()))
        curves = []
        for name in names:
            found = [a.rankings.get(task, {}).get(name) for a in analyses]
            numbers = [
                [ranking.figures['AP'], 100 * calibration_error(ranking.curve)]
                if ranking
                else [None, None]
                for ranking in found
            ]
            rows += _rows(analyses, f'{TITLES[task]}, {_RANKINGS[name]}', numbers)
            curves += [
                (f'{a.run.name} {_RANKINGS[name]}'.strip(), RUN_COLORS[a.run.name], ranking.curve)
                for a, ranking in zip(analyses, found, strict=True)
                if ranking
            ]
        if curves:
            quality = 'mean OKS' if task == 'keypoints' else 'mean IoU'
            charts.append((TITLES[task], calibration_chart(curves, quality)))
    return dict(charts=charts, table=Table(['', 'AP', 'calibration error'], rows))


def breakdown(analyses: Sequence[Analysis], key: str, title: str) -> dict:
    """Return AP and AR by groups of instances or images.

    Args:
        analyses (Sequence[Analysis]): Each with ``groups[key]``.
        key (str): The kind of breakdown.
        title (str): Its title.

    Returns:
        dict: ``chart`` and ``table``.
    """
    groups = list(zip(*(a.groups[key] for a in analyses), strict=True))
    tasks = [t for t in TASKS if any(t in g.scores for g in groups[0])]
    missing, rows = (math.nan, math.nan), []
    for same in groups:
        rows += _rows(
            analyses,
            same[0].name,
            [sum((group.scores.get(task, missing) for task in tasks), ()) for group in same],
            (str(same[0].people), str(same[0].images)),
        )
    head = ['', 'people', 'images', *(f'{TITLES[t]} {n}' for t in tasks for n in ('AP', 'AR'))]
    return dict(chart=breakdown_chart(analyses, groups, tasks, title), table=Table(head, rows))


def _rows(
    analyses: Sequence[Analysis],
    name: str,
    values: Sequence[Sequence[float | None]],
    counts: Sequence[str] = (),
    digits: int = 2,
) -> list[Row]:
    """Return a row of each run and, for two, their difference."""
    rows = [
        Row(
            [
                f'{name} {a.run.name}'.strip(),
                *counts,
                *(percent(v, digits=digits) for v in numbers),
            ]
        )
        for a, numbers in zip(analyses, values, strict=True)
    ]
    if len(values) > 1:
        differences = [
            percent(None if a is None or b is None else b - a, True, digits)
            for a, b in zip(*values, strict=True)
        ]
        rows.append(Row([f'{name} B − A', *counts, *differences], True))
    return rows


def summary(analysis: Analysis) -> dict:
    """Return config, data and main metrics of a run."""
    content = analysis.run.content
    return dict(
        analysis=analysis,
        config=str((content['run'] or {}).get('config') or analysis.run.path),
        images=len(content['images']),
        data=Path(content['annotations']['file']).name,
        numbers=', '.join(
            f'{TITLES[task].lower()} {percent(content["metrics"].get(f"{task}_AP"))}'
            for task in tasks_of([analysis])
        ),
    )
