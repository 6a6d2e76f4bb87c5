"""Sections of the analysis page: what was run, AP, curves, breakdowns."""
import math
from typing import Dict, List, Optional, Sequence

from projects.multitask_refine.evaluation import TASKS, Group, percent

from .report_html import (Section, differences, facts, folded, legend,
                          paragraph, table)
from .report_runs import Analysis
from .svg import Bar, Line, bar_columns, line_chart, line_sample

TITLES = dict(bbox='Boxes', segm='Masks', keypoints='Keypoints')
# Blue and vermilion of Okabe and Ito, which the colour-blind tell apart.
_RUN_COLORS = {'': '#0072b2', 'A': '#0072b2', 'B': '#d55e00'}
_DASHES = {'0.50': ('', 1.2), '0.75': ('5 3', 1.5), 'mean': ('', 2.8)}
_COLUMNS = ('AP', 'AP50', 'AP75', 'APS', 'APM', 'APL', 'AR')
_BREAKDOWNS = dict(
    size=('By size of the person',
          'Small is up to 32² pixels of the annotation\'s area, large is '
          'above 96². COCO labels no joints of small people.'),
    people=('By number of people in the image',
            'Each group is evaluated on its images alone.'),
    occlusion=('By occlusion of the person',
               'People of the other groups are ignored; detections of nobody '
               'count as false in each group. So compare AP between runs and '
               'AR between groups.'),
    visibility=('By visibility of the joints',
                'OKS over only the visible, or only the occluded, labelled '
                'joints of each person.'))


def tasks_of(analyses: Sequence[Analysis]) -> List[str]:
    """The tasks that any run has, in their usual order."""
    return [
        t for t in TASKS if any(t in a.run.data.entries for a in analyses)
    ]


def run_section(analyses: Sequence[Analysis]) -> Section:
    """What was run, on what."""
    columns = [_run_facts(a.run.content, a.run.path) for a in analyses]
    rows = [[name, *(column[name] for column in columns)]
            for name in columns[0]]
    head = ['', *(f'Run {a.run.name}' for a in analyses)]
    return Section('runs', 'What was run',
                   facts(head if len(analyses) > 1 else [''] * 2, rows))


def _run_facts(content: dict, path: str) -> Dict[str, str]:
    run = content['run'] or {}
    machine = run.get('machine')
    machine = machine if isinstance(machine, dict) else {}
    sha = _short(run.get('checkpoint_sha256'))[:16]
    versions = (f'{name} {_short(machine[name])}' for name in
                ('torch', 'mmcv', 'mmdet', 'pycocotools') if name in machine)
    return {
        'config': _short(run.get('config')),
        'checkpoint': f'{_short(run.get("checkpoint"))}, SHA-256 {sha}',
        'trained with': f'{_short(run.get("trained_with"))}, seed '
                        f'{_short(run.get("seed"))}, iteration '
                        f'{_short(run.get("iteration"))}',
        'commit': _short(run.get('commit')),
        'date': f'{_short(run.get("date"))}, {_short(run.get("seconds"))} s, '
                f'processes: {_short(run.get("processes"))}',
        'machine': ', '.join([
            _short(machine.get('device')),
            _short(machine.get('platform')), *versions
        ]),
        'data': f'{_short(content["annotations"]["file"])}, '
                f'{len(content["images"])} images',
        'command': _short(run.get('command')),
        'predictions': _short(path)
    }


def _short(value: object) -> str:
    text = 'not recorded' if value is None else str(value)
    return text if len(text) <= 400 else text[:397] + '...'


def table_section(analyses: Sequence[Analysis]) -> Section:
    """The project's numbers, as in the results file."""
    rows, totals = [], []
    for task in tasks_of(analyses):
        values = [_metrics(a, task) for a in analyses]
        for analysis, numbers in zip(analyses, values):
            rows.append([f'{TITLES[task]} {analysis.run.name}'.strip(),
                         *map(percent, numbers)])
        if len(values) > 1:
            totals.append(len(rows))
            rows.append([f'{TITLES[task]} B − A', *differences(*values)])
    return Section(
        'ap', 'Average precision',
        table(['', *_COLUMNS], rows, 'In percent, by pycocotools. A dash: '
              'COCO has no such figure, or there is no ground truth for it.',
              totals))


def _metrics(analysis: Analysis, task: str) -> List[Optional[float]]:
    metrics = analysis.run.content['metrics']
    last = 'AR' if task == 'keypoints' else 'AR100'
    return [metrics.get(f'{task}_{name}')
            for name in (*_COLUMNS[:-1], last)]


def curve_section(analyses: Sequence[Analysis]) -> Section:
    """Precision over recall, a chart for each task."""
    charts = ''.join(
        f'<div>{_curves(analyses, task)}</div>' for task in tasks_of(analyses))
    return Section(
        'curves', 'Precision and recall',
        paragraph('Over people of all sizes. The area under a curve is its '
                  'AP; "mean" averages the precision over the ten thresholds '
                  '0.50, 0.55, ..., 0.95.', 'note') +
        f'<div class="three">{charts}</div>')


def _curves(analyses: Sequence[Analysis], task: str) -> str:
    measure = 'OKS' if task == 'keypoints' else 'IoU'
    lines, rows = [], []
    for analysis in analyses:
        color = _RUN_COLORS[analysis.run.name]
        curves = analysis.curves.get(task)
        for name, (dash, width) in _DASHES.items():
            values = curves[name] if curves else []
            area = 100 * sum(values) / len(values) if values else math.nan
            label = ' '.join([analysis.run.name, measure, name]).strip()
            line = Line(f'{label}: AP {percent(area)}', values, color, dash,
                        width)
            rows.append((line_sample(line), line.label))
            lines += [line] if values else []
    alt = f'{TITLES[task]}, precision over recall. ' + '; '.join(
        text for _, text in rows)
    return (f'<h3>{TITLES[task]}</h3>' +
            line_chart(lines, ('recall', 'precision'), alt) + legend(rows))


def breakdown_section(analyses: Sequence[Analysis]) -> Section:
    """AP and AR by size, number of people and visibility."""
    samples = [(_RUN_COLORS[a.run.name],
                f'Run {a.run.name}: AP' if a.run.name else 'AP')
               for a in analyses]
    samples.append(('#c7d3da', 'light end of a bar: AR'))
    body = legend(samples)
    for key, (title, note) in _BREAKDOWNS.items():
        groups = [a.groups[key] for a in analyses if key in a.groups]
        if groups:
            runs = [a for a in analyses if key in a.groups]
            body += f'<h3>{title}</h3>' + paragraph(note, 'note')
            body += _breakdown(runs, groups, title)
    return Section('groups', 'Where it is hard', body)


def _breakdown(analyses: Sequence[Analysis],
               groups: Sequence[Sequence[Group]], title: str) -> str:
    tasks = [t for t in TASKS if any(t in g[0].scores for g in groups)]
    rows = [(group.name, f'people: {group.people}, images: {group.images}')
            for group in groups[0]]
    bars = [[[
        Bar(*same.scores[task], _RUN_COLORS[a.run.name], a.run.name)
        for a, same in zip(analyses, row) if task in same.scores
    ] for task in tasks] for row in zip(*groups)]
    numbers = _breakdown_rows(analyses, groups, tasks)
    alt = f'{title}. ' + '; '.join(
        f'{row[0]}: ' + ', '.join(
            f'{TITLES[t]} AP {v}' for t, v in zip(tasks, row[3::2]))
        for row in numbers)
    head = ['', 'people', 'images']
    head += [f'{TITLES[t]} {n}' for t in tasks for n in ('AP', 'AR')]
    chart = bar_columns(rows, [TITLES[t] for t in tasks], bars, alt)
    step = len(analyses) + 1  # the difference comes after the runs
    totals = range(step - 1, len(numbers), step) if step > 2 else ()
    return (f'<div class="scroll">{chart}</div>' +
            folded('All numbers', table(head, numbers, totals=totals)))


def _breakdown_rows(analyses: Sequence[Analysis],
                    groups: Sequence[Sequence[Group]],
                    tasks: Sequence[str]) -> List[List[str]]:
    rows = []
    for same in zip(*groups):
        values = [[
            value for task in tasks
            for value in group.scores.get(task, (math.nan, math.nan))
        ] for group in same]
        counts = [str(same[0].people), str(same[0].images)]
        rows += [[f'{same[0].name} {a.run.name}'.strip(), *counts,
                  *map(percent, numbers)]
                 for a, numbers in zip(analyses, values)]
        if len(same) > 1:
            rows.append([f'{same[0].name} B − A', *counts,
                         *differences(*values)])
    return rows
