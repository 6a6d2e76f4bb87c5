"""The tables of docs/reproducing-the-paper.md and the README's excerpt of them."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from multitask_refine.analysis.ablation import seeds
from multitask_refine.analysis.ablation.seeds import HEADS, headings, not_measured
from multitask_refine.analysis.report_tables import Row, Table
from multitask_refine.analysis.results_files import ResultsError, read_results, require_fields
from multitask_refine.evaluation import TASKS, markdown_table, percent

_FIELDS = (
    'checkpoint_sha256',
    'iteration',
    'num_images',
    'commit',
    'processes',
    'seconds',
    'seed',
    'machine',
)


def load_results(folder: Path) -> dict[str, dict]:
    """Read results files.

    Args:
        folder (Path): Holds CONFIG.json files; may be missing.

    Returns:
        dict[str, dict]: Metrics and ``run`` by the config's name.

    Raises:
        ResultsError: If a file is no results file or has the name of another
            config.
    """
    results = {}
    for path in sorted(folder.glob('*.json')):
        content = read_results(path)
        config = Path(content['run']['config']).stem
        if config != path.stem:
            raise ResultsError(f'{path}: is a result of {config}')
        require_fields(path, content['run'], _FIELDS)
        results[config] = content
    return results


def sections(tables: Sequence[Table], folder: Path) -> dict[str, str]:
    """Make the generated parts of the page.

    Args:
        tables (Sequence[Table]): All tables.
        folder (Path): docs/results with its folders coco and ablation.

    Returns:
        dict[str, str]: Markdown by the name in the page's marker.
    """
    results = load_results(folder / 'coco')
    submitted = sorted({row.submit for table in tables for row in table.rows if row.submit})
    report, more = [], []
    for table in tables:
        title, section = table.title, _section(table, results)
        if _in_report(table):
            report.append(f'## Table {table.key}: {title}\n\n{section}')
        else:
            more.append(f'### {title[0].upper()}{title[1:]}\n\n{section}')
    return {
        'submissions': '\n'.join(
            f'    python tools/test.py configs/multitask_refine/{config}.py CHECKPOINT'
            for config in submitted
        ),
        'report': '\n'.join(report),
        'more': '\n'.join(more),
        'runs': _runs(results),
        'small-scale': seeds.render(folder / 'ablation'),
    }


def excerpt(tables: Sequence[Table], folder: Path) -> str:
    """Make the README's tables.

    AP of the configs for which the report gives all three, and the small-scale runs.
    """
    results = load_results(folder / 'coco')
    rows = []
    for row, report in _all_tasks(tables):
        rows.append([f'{row.name}, report', *map(percent, report)])
        rows.append([f'{row.name}, here', *_measured(results, row, HEADS)])
    text = markdown_table(['val2017', *headings(HEADS)], rows) + '\n'
    for group in seeds.load_groups(folder / 'ablation'):
        text += f'\n{_small_scale(group)}\n'
    return text


def _all_tasks(tables: Sequence[Table]) -> list[tuple[Row, list[float]]]:
    """Rows on val2017 with the report's AP of boxes, masks and keypoints."""
    rows: dict[str, Row] = {}
    found: dict[str, dict[str, float]] = {}
    for table in (table for table in tables if table.split == 'val2017'):
        for row in (row for row in table.rows if row.config and row.report):
            rows.setdefault(row.config, row)
            values = found.setdefault(row.config, {})
            for column, value in zip(table.columns, row.report, strict=True):
                values.setdefault(column, value)
    return [
        (row, [found[config][head] for head in HEADS])
        for config, row in rows.items()
        if set(HEADS) <= set(found[config])
    ]


def _in_report(table: Table) -> bool:
    return any(row.report for row in table.rows)


def _section(table: Table, results: dict[str, dict]) -> str:
    rows = [line for row in table.rows for line in _lines(table, row, results)]
    text = markdown_table(['', 'source', *headings(table.columns)], rows)
    return text + ('\n\n' + fill(table.note, 79) if table.note else '') + '\n'


def _lines(table: Table, row: Row, results: dict[str, dict]) -> list[list]:
    """The lines of a row: the report's, this project's, the difference."""
    report = [percent(value, digits=table.digits) for value in row.report or ()]
    if not row.config:
        return [[row.name, 'cited by the report', *report]]
    ours = _measured(results, row, table.columns)
    if table.split != 'val2017':
        return [
            [row.name, 'report', *report],
            ['', f'this project, {table.split}', *not_measured(table.columns)],
            ['', 'this project, val2017', *ours],
        ]
    if not row.report:
        return [[row.name, 'this project', *ours]]
    lines = [[row.name, 'report', *report], ['', 'this project', *ours]]
    if row.config in results:
        lines.append(['', 'difference', *_differences(results[row.config], row, table.columns)])
    return lines


def _measured(results: dict[str, dict], row: Row, columns: Sequence[str]) -> list[str]:
    found = results.get(row.config)
    if found is None:
        return not_measured(columns)
    return [percent(found.get(column)) for column in columns]


def _differences(found: dict, row: Row, columns: Sequence[str]) -> list[str]:
    cells = []
    for column, theirs in zip(columns, row.report, strict=True):
        ours = found.get(column)
        both = ours is not None and theirs is not None
        cells.append(percent(ours - theirs if both else None, sign=True))
    return cells


def _runs(results: dict[str, dict]) -> str:
    if not results:
        return 'No config was tested on COCO yet.'
    rows = []
    for config, content in results.items():
        run = content['run']
        rows.append(
            [
                f'[{config}](results/coco/{config}.json)',
                f'`{run["checkpoint_sha256"][:8]}`',
                _known(run['seed']),
                _known(run['iteration']),
                str(run['num_images']),
                _known(run['commit']),
                f'{run["processes"]} x {run["machine"]["device"]}',
                f'{run["seconds"]:.0f} s',
            ]
        )
    return markdown_table(
        ['config', 'checkpoint', 'seed', 'iteration', 'images', 'commit', 'device', 'time'], rows
    )


def _known(value: object | None) -> str:
    return 'unknown' if value is None else str(value)


def _small_scale(group: 'seeds.Group') -> str:
    rows = []
    for variant in ('fpn-ms_regular', 'fpn-ms_rb', 'fpn-ms_rb-h', 'fpn-ms_rb-h-slow-offset'):
        values = [list(group.values(variant, f'{task}_AP').values()) for task in TASKS]
        rows.append(
            [
                seeds.NAMES[variant],
                str(len(group.runs.get(variant, {}))),
                *map(seeds.mean_and_deviation, values),
            ]
        )
    return markdown_table([f'drawn people, {group.name}', 'n', *headings(HEADS)], rows)
