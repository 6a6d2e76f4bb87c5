"""The tables of docs/reproducing-the-paper.md and the README's excerpt of them."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from multitask_refine.analysis.ablation import seeds
from multitask_refine.analysis.ablation.seeds import HEADS, headings, not_measured
from multitask_refine.analysis.report_tables import Row, Table
from multitask_refine.analysis.results_files import ResultsError, read_results, require_fields
from multitask_refine.evaluation import markdown_table, percent

_FIELDS = ('checkpoint_sha256', 'iteration', 'num_images', 'commit')
_FIELDS += ('processes', 'seconds', 'seed', 'machine')


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
        rows = [line for row in table.rows for line in row_lines(table, row, results)]
        section = markdown_table(['', 'source', *headings(table.columns)], rows)
        section += ('\n\n' + fill(table.note, 79) if table.note else '') + '\n'
        if any(row.report for row in table.rows):
            report.append(f'## Table {table.key}: {table.title}\n\n{section}')
        else:
            more.append(f'### {table.title[0].upper()}{table.title[1:]}\n\n{section}')
    return {
        'submissions': '\n'.join(
            f'    python tools/test.py configs/multitask_refine/{config}.py CHECKPOINT'
            for config in submitted
        ),
        'report': '\n'.join(report),
        'more': '\n'.join(more),
        'runs': runs_table(results),
        'small-scale': seeds.render(folder / 'ablation'),
    }


def row_lines(table: Table, row: Row, results: dict[str, dict]) -> list[list]:
    """Format a row of the report: its numbers, this project's and the difference."""
    report = [percent(value, digits=table.digits) for value in row.report or ()]
    if not row.config:
        return [[row.name, 'cited by the report', *report]]
    measured = metric_cells(results, row, table.columns)
    if table.split != 'val2017':
        return [
            [row.name, 'report', *report],
            ['', f'this project, {table.split}', *not_measured(table.columns)],
            ['', 'this project, val2017', *measured],
        ]
    if not row.report:
        return [[row.name, 'this project', *measured]]
    lines = [[row.name, 'report', *report], ['', 'this project', *measured]]
    if row.config in results:
        metrics = [results[row.config].get(column) for column in table.columns]
        differences = [
            None if value is None or target is None else value - target
            for value, target in zip(metrics, row.report, strict=True)
        ]
        lines.append(['', 'difference', *(percent(value, sign=True) for value in differences)])
    return lines


def metric_cells(results: dict[str, dict], row: Row, columns: Sequence[str]) -> list[str]:
    """Format the metrics of a row's config, or that it was not measured."""
    if row.config not in results:
        return not_measured(columns)
    return [percent(results[row.config].get(column)) for column in columns]


def runs_table(results: dict[str, dict]) -> str:
    """Format how each result came about."""
    if not results:
        return 'No config was tested on COCO yet.'
    rows = []
    for config, content in results.items():
        run = content['run']
        rows.append(
            [
                f'[{config}](results/coco/{config}.json)',
                f'`{run["checkpoint_sha256"][:8]}`',
                'unknown' if run['seed'] is None else str(run['seed']),
                str(run['iteration']),
                str(run['num_images']),
                run['commit'],
                f'{run["processes"]} x {run["machine"]["device"]}',
                f'{run["seconds"]:.0f} s',
            ]
        )
    return markdown_table(
        ['config', 'checkpoint', 'seed', 'iteration', 'images', 'commit', 'device', 'time'], rows
    )


def excerpt(tables: Sequence[Table], folder: Path) -> str:
    """Make the README's table: AP of the configs for which the report gives all three."""
    results = load_results(folder / 'coco')
    # AP of boxes, masks and keypoints on val2017 may be in several tables of the report.
    configs: dict[str, Row] = {}
    reports: dict[str, dict[str, float]] = {}
    for table in (table for table in tables if table.split == 'val2017'):
        for row in (row for row in table.rows if row.config and row.report):
            configs.setdefault(row.config, row)
            cells = zip(table.columns, row.report, strict=True)
            known = {column: value for column, value in cells if value is not None}
            reports[row.config] = known | reports.get(row.config, {})
    rows = []
    for config, row in configs.items():
        if set(HEADS) <= set(reports[config]):
            report = [percent(reports[config][head]) for head in HEADS]
            rows.append([f'{row.name}, report', *report])
            rows.append([f'{row.name}, here', *metric_cells(results, row, HEADS)])
    return markdown_table(['val2017', *headings(HEADS)], rows)
