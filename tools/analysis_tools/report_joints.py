"""The section of the analysis page on the errors of the joints."""
from typing import Dict, List, Sequence

from projects.multitask_refine.evaluation import KINDS, percent
from projects.multitask_refine.evaluation.diagnosis import MATCH, shares

from .report_html import (Section, differences, folded, legend, paragraph,
                          table)
from .report_runs import Analysis
from .svg import Stack, stacked_bars

# Colours of Okabe and Ito or darker, which the colour-blind tell apart; each
# with the colour of the numbers on it.
_KIND_COLORS = (('#cfd8dd', '#1f2933'), ('#f0c43c', '#1f2933'),
                ('#0072b2', '#ffffff'), ('#cc79a7', '#1f2933'),
                ('#a63d00', '#ffffff'))
_KIND_TEXTS = dict(
    good='good: as near as a human annotator',
    jitter='jitter: near its place, but not near enough',
    inversion='inversion: left for right of the same person',
    swap='swap: on somebody else',
    miss='miss: near no such joint')


def joint_section(analyses: Sequence[Analysis]) -> Section:
    """What is wrong with the joints of the people that were found."""
    analyses = [a for a in analyses if a.errors]
    rows = _joint_rows(analyses)
    leads = ''.join(
        paragraph(_joint_lead(a, total))
        for a, total in zip(analyses, rows['all joints']))
    samples = [(color, _KIND_TEXTS[kind])
               for kind, (color, _) in zip(KINDS, _KIND_COLORS)]
    body = leads + legend(samples) + _joint_chart(analyses, rows)
    if len(analyses) > 1:
        body += _joint_table(analyses, {'all joints': rows['all joints']})
    body += folded('All numbers', _joint_table(analyses, rows))
    return Section('joints', 'Errors of the joints', body)


def _joint_lead(analysis: Analysis, total: Dict[str, float]) -> str:
    errors = analysis.errors
    name = f'Run {analysis.run.name}: ' if analysis.run.name else ''
    start = (f'{name}{errors.matched} of {errors.people} people with labelled '
             f'joints were found (OKS {MATCH} or more).')
    if not errors.matched:
        return start
    worst = max(KINDS[1:], key=total.get)
    return (f'{start} Of their labelled joints {total["good"]:.1f} % are '
            f'good; the most frequent error is {worst} '
            f'({total[worst]:.1f} %).')


def _joint_rows(
        analyses: Sequence[Analysis]) -> Dict[str, List[Dict[str, float]]]:
    """Shares in each run: all joints, by visibility, joint by joint."""
    names = analyses[0].run.content['joints']['names']
    parts = {
        'all joints': ...,
        'visible': (slice(None), 1),
        'occluded': (slice(None), 0)
    }
    parts.update({name.replace('_', ' '): i for i, name in enumerate(names)})
    return {
        name: [shares(a.errors.counts[part]) for a in analyses]
        for name, part in parts.items()
    }


def _joint_chart(analyses: Sequence[Analysis],
                 rows: Dict[str, List[Dict[str, float]]]) -> str:
    stacks = []
    for index, (name, values) in enumerate(rows.items()):
        gap = 20 if index == 3 else 8 if len(analyses) > 1 else 4
        for analysis, value in zip(analyses, values):
            label = f'{name} {analysis.run.name}'.strip()
            stacks.append(Stack(label, list(value.values()), gap))
            gap = 1
    alt = 'Kinds of joints in percent. ' + '; '.join(
        f'{stack.label}: ' + ', '.join(
            f'{kind} {percent(part, digits=1)}'
            for kind, part in zip(KINDS, stack.parts))
        for stack in stacks)
    chart = stacked_bars(stacks, KINDS, _KIND_COLORS, alt)
    return f'<div class="scroll">{chart}</div>'


def _joint_table(analyses: Sequence[Analysis],
                 rows: Dict[str, List[Dict[str, float]]]) -> str:
    lines, totals = [], []
    for name, values in rows.items():
        numbers = [list(value.values()) for value in values]
        lines += [[f'{name} {a.run.name}'.strip(), *map(_tenth, value)]
                  for a, value in zip(analyses, numbers)]
        if len(numbers) > 1:
            totals.append(len(lines))
            lines.append([f'{name} B − A', *differences(*numbers, digits=1)])
    return table(['', *KINDS], lines,
                 'Percent of the labelled joints of the people found.', totals)


def _tenth(value: float) -> str:
    return percent(value, digits=1)
