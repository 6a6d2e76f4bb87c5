"""The report's tables as data: the rows, their numbers and their configs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from multitask_refine.analysis.results_files import ResultsError
from multitask_refine.evaluation import TASKS

FILE = Path(__file__).with_suffix('.json')


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        key (str): 'TABLE.ROW', how the command line names it.
        name (str): What stands in the first column.
        report (tuple, optional): The report's numbers in percent, None for a
            cell that it leaves empty; no tuple if the row is not in the
            report.
        config (str, optional): Name of the config that reproduces the row;
            None for another work that the report cites.
        submit (str, optional): Config that writes the files for test-dev.
    """

    key: str
    name: str
    report: tuple[float | None, ...] | None = None
    config: str | None = None
    submit: str | None = None


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        key (str): Its number in the report, or a name.
        title (str): What it shows.
        split (str): What it was tested on, 'val2017' or 'test-dev2017'.
        columns (tuple[str]): Names of metrics, e.g. 'bbox_AP50'.
        rows (tuple[Row]): From top to bottom.
        digits (int): Decimals of the report's numbers, in percent.
        note (str): What a reader should know.
    """

    key: str
    title: str
    split: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    digits: int = 2
    note: str = ''

    def tasks_of(self, row: Row) -> list[str]:
        """The tasks that a row needs: those of its non-empty cells."""
        cells = row.report or [0] * len(self.columns)
        asked = {
            column.split('_')[0]
            for column, cell in zip(self.columns, cells, strict=True)
            if cell is not None
        }
        return [task for task in TASKS if task in asked]


def load_tables(path: Path = FILE) -> list[Table]:
    """Read the tables.

    Args:
        path (Path): JSON like that of the report beside this module.

    Returns:
        list[Table]: With all numbers in percent.

    Raises:
        ResultsError: If a row has another number of values than the table has
            columns, a column is no metric or a key occurs twice.
    """
    tables = [_table(entry, path) for entry in json.loads(Path(path).read_text())['tables']]
    keys = [row.key for table in tables for row in table.rows]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ResultsError(f'{path}: rows that occur twice: {twice}')
    return tables


def rows_by_config(
    tables: Sequence[Table], names: Sequence[str]
) -> dict[str, list[tuple[Table, Row]]]:
    """Choose what is to be tested; a config of several rows comes once.

    Args:
        tables (Sequence[Table]): All tables.
        names (Sequence[str]): Keys of tables ('3') or rows ('3.rb'); empty
            for all.

    Returns:
        dict[str, list]: For each config the table and row of each of its
        rows.

    Raises:
        ResultsError: Lists the known rows if one of the names is not known.
    """
    chosen: dict[str, list[tuple[Table, Row]]] = {}
    known = set()
    for table in tables:
        for row in (row for row in table.rows if row.config):
            known |= {table.key, row.key}
            if not names or {table.key, row.key} & set(names):
                chosen.setdefault(row.config, []).append((table, row))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ResultsError(
            f'unknown row: {", ".join(unknown)}. Known are the '
            f'tables and rows {", ".join(sorted(known))}'
        )
    return chosen


def _table(entry: dict, path: Path) -> Table:
    columns = tuple(entry['columns'])
    wrong = [name for name in columns if name.split('_')[0] not in TASKS]
    if wrong:
        raise ResultsError(
            f'{path}: table {entry["key"]}: columns are TASK_NAME '
            f'with a task of {TASKS}, got {wrong}'
        )
    rows = []
    for row in entry['rows']:
        key, report = f'{entry["key"]}.{row["key"]}', row.get('report')
        if report is not None:
            if len(report) != len(columns):
                raise ResultsError(
                    f'{path}: row {key}: expected {len(columns)} numbers, found {len(report)}'
                )
            scale = 1 if entry['percent'] else 100
            report = tuple(None if value is None else value * scale for value in report)
        rows.append(Row(key, row['name'], report, row.get('config'), row.get('submit')))
    return Table(
        entry['key'],
        entry['title'],
        entry['split'],
        columns,
        tuple(rows),
        2 if entry['percent'] else 1,
        entry.get('note', ''),
    )
