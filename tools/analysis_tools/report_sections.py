"""What the sections of the error analysis page show: texts, rows, charts.

The words and the markup around them are in ``templates/report.html``, which
escapes all texts.
"""
import math
from typing import Dict, List, NamedTuple, Optional, Sequence

from markupsafe import Markup

from projects.multitask_refine.evaluation import KINDS, TASKS, Group, percent
from projects.multitask_refine.evaluation.diagnosis import shares

from .report_charts import Bar, Line, bar_columns, line_chart, stacked_bars
from .report_runs import Analysis

TITLES = dict(bbox='Boxes', segm='Masks', keypoints='Keypoints')
# Blue and vermilion of Okabe and Ito, which the color-blind tell apart.
RUN_COLORS = {'': '#0072b2', 'A': '#0072b2', 'B': '#d55e00'}
# Colors of Okabe and Ito or darker, each with the color of the numbers on it.
KIND_COLORS = dict(
    good=('#cfd8dd', '#1f2933'),
    jitter=('#f0c43c', '#1f2933'),
    inversion=('#0072b2', '#ffffff'),
    swap=('#cc79a7', '#1f2933'),
    miss=('#a63d00', '#ffffff'))
_DASHES = {'0.50': ('-', 1.2), '0.75': ('--', 1.5), 'mean': ('-', 2.8)}
_COLUMNS = ('AP', 'AP50', 'AP75', 'APS', 'APM', 'APL', 'AR')


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        cells: The first one is its heading.
        is_difference: Whether it compares the runs above it.
    """

    cells: List[str]
    is_difference: bool = False


class Table(NamedTuple):
    """A table of numbers.

    Attributes:
        head: The headings.
        rows: With as many cells each.
    """

    head: List[str]
    rows: List[Row]


def tasks_of(analyses: Sequence[Analysis]) -> List[str]:
    """Return the tasks that any run has, in their usual order."""
    return [
        t for t in TASKS if any(t in a.run.data.entries for a in analyses)
    ]


def run_facts(content: dict, path: str) -> Dict[str, str]:
    """Return what a predictions file says of its run.

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
    get = {name: short(run.get(name)) for name in (
        'config', 'checkpoint', 'checkpoint_sha256', 'trained_with', 'seed',
        'iteration', 'commit', 'date', 'seconds', 'processes', 'command')}
    versions = [f'{name} {short(machine[name])}' for name in
                ('torch', 'mmcv', 'mmdet', 'pycocotools') if name in machine]
    return {
        'config': get['config'],
        'checkpoint': f'{get["checkpoint"]}, '
                      f'SHA-256 {get["checkpoint_sha256"][:16]}',
        'trained with': f'{get["trained_with"]}, seed {get["seed"]}, '
                        f'iteration {get["iteration"]}',
        'commit': get['commit'],
        'date': f'{get["date"]}, {get["seconds"]} s, '
                f'processes: {get["processes"]}',
        'machine': ', '.join([short(machine.get('device')),
                              short(machine.get('platform')), *versions]),
        'data': f'{short(content["annotations"]["file"])}, '
                f'{len(content["images"])} images',
        'command': get['command'],
        'predictions': short(path)
    }


def metric_table(analyses: Sequence[Analysis]) -> Table:
    """Return the metrics of the results file, by task."""
    rows = []
    for task in tasks_of(analyses):
        last = 'AR' if task == 'keypoints' else 'AR100'
        rows += _rows(analyses, TITLES[task], [[
            a.run.content['metrics'].get(f'{task}_{name}')
            for name in (*_COLUMNS[:-1], last)
        ] for a in analyses])
    return Table(['', *_COLUMNS], rows)


def curve_chart(analyses: Sequence[Analysis], task: str) -> Markup:
    """Draw precision over recall of a task."""
    measure = 'OKS' if task == 'keypoints' else 'IoU'
    lines = []
    for analysis in analyses:
        curves = analysis.curves.get(task)
        for name, style in _DASHES.items():
            values = curves[name] if curves else []
            area = 100 * sum(values) / len(values) if values else math.nan
            label = f'{analysis.run.name} {measure} {name}'.strip()
            lines.append(Line(f'{label}: AP {percent(area)}', values,
                              RUN_COLORS[analysis.run.name], *style))
    alt = f'{TITLES[task]}, precision over recall. ' + '; '.join(
        line.label for line in lines)
    return line_chart(lines, 'recall', 'precision', len(analyses), alt)


def keypoint_section(analyses: Sequence[Analysis]) -> dict:
    """Return the kinds of keypoint errors of the runs that have keypoints.

    Args:
        analyses (Sequence[Analysis]): Each with ``errors``.

    Returns:
        dict: ``leads``, of each run its analysis, the percent of each kind
        and the most frequent error; ``chart``; ``table``, and ``total``, its
        rows of all keypoints.
    """
    names = analyses[0].run.content['joints']['names']
    parts = {
        'all keypoints': ...,
        'visible': (slice(None), 1),
        'occluded': (slice(None), 0),
        **{name.replace('_', ' '): i for i, name in enumerate(names)}
    }
    labels, values, gaps, rows = [], [], [], []
    for index, (name, part) in enumerate(parts.items()):
        gap = 20 if index == 3 else 8 if len(analyses) > 1 else 4
        numbers = [[*shares(a.errors.counts[part]).values()] for a in analyses]
        rows += _rows(analyses, name, numbers, digits=1)
        labels += [f'{name} {a.run.name}'.strip() for a in analyses]
        values += numbers
        gaps += [gap, 1][:len(analyses)]
    alt = 'Kinds of keypoints in percent. ' + '; '.join(
        f'{label}: ' + ', '.join(f'{kind} {percent(part, digits=1)}'
                                 for kind, part in zip(KINDS, numbers))
        for label, numbers in zip(labels, values))
    head = ['', *KINDS]
    totals = [dict(zip(KINDS, v)) for v in values[:len(analyses)]]
    return dict(
        leads=[(a, total, max(KINDS[1:], key=total.get))
               for a, total in zip(analyses, totals)],
        chart=stacked_bars(labels, values, gaps, KINDS,
                           [KIND_COLORS[kind] for kind in KINDS], alt),
        total=Table(head, rows[:len(rows) // len(parts)]),
        table=Table(head, rows))


def breakdown(analyses: Sequence[Analysis], key: str, title: str) -> dict:
    """Return AP and AR by groups of instances or images.

    Args:
        analyses (Sequence[Analysis]): Each with ``groups[key]``.
        key (str): The kind of breakdown.
        title (str): Its title.

    Returns:
        dict: ``chart`` and ``table``.
    """
    groups: List[List[Group]] = [a.groups[key] for a in analyses]
    tasks = [t for t in TASKS if any(t in g[0].scores for g in groups)]
    missing = (math.nan, math.nan)
    notes, bars, rows, texts = [], [], [], []
    for same in zip(*groups):
        name, people, images = same[0].name, same[0].people, same[0].images
        notes.append((name, f'people: {people}, images: {images}'))
        bars.append([[
            Bar(a.run.name, *group.scores[task], RUN_COLORS[a.run.name])
            for a, group in zip(analyses, same) if task in group.scores
        ] for task in tasks])
        rows += _rows(analyses, name, [
            sum((group.scores.get(task, missing) for task in tasks), ())
            for group in same
        ], (str(people), str(images)))
        texts += [
            f'{name} {a.run.name}'.strip() + ': ' + ', '.join(
                f'{TITLES[task]} AP '
                f'{percent(group.scores.get(task, missing)[0])}'
                for task in tasks) for a, group in zip(analyses, same)
        ]
    head = ['', 'people', 'images',
            *(f'{TITLES[t]} {n}' for t in tasks for n in ('AP', 'AR'))]
    chart = bar_columns(notes, [TITLES[t] for t in tasks], bars,
                        f'{title}. ' + '; '.join(texts))
    return dict(chart=chart, table=Table(head, rows))


def _rows(analyses: Sequence[Analysis], name: str,
          values: Sequence[Sequence[Optional[float]]],
          counts: Sequence[str] = (), digits: int = 2) -> List[Row]:
    """Return a row of each run and, for two, their difference."""
    rows = [
        Row([f'{name} {a.run.name}'.strip(), *counts,
             *(percent(v, digits=digits) for v in numbers)])
        for a, numbers in zip(analyses, values)
    ]
    if len(values) > 1:
        differences = [
            percent(None if a is None or b is None else b - a, True, digits)
            for a, b in zip(*values)
        ]
        rows.append(Row([f'{name} B − A', *counts, *differences], True))
    return rows
