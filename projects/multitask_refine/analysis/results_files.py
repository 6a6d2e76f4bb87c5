"""Reading results files, which others may have written."""

import json
import numbers
from pathlib import Path
from typing import Callable, Sequence

from multitask_refine.utils.errors import ExplainedError

NOT_MEASURED = 'Not measured.'
_REMEDY = 'Results files are written by tools/test.py'
_KINDS = dict(
    config=(str,),
    seed=(int, type(None)),
    command=(str,),
    checkpoint_sha256=(str,),
    seconds=(int, float),
    machine=(dict,),
    stages=(dict,),
    training_commit=(str, type(None)),
    condition=(str,),
    rate=(int, float),
    settings=(dict,),
    protocol=(dict,),
    training_minutes=(int, float),
    test_minutes=(int, float),
    offsets=(dict,),
    records=(int,),
    records_outside=(int,),
)


class ResultsError(ExplainedError, ValueError):
    """A file of results or table rows that cannot be used."""


def read_results(path: Path) -> dict:
    """Read a results file.

    Args:
        path (Path): The file.

    Returns:
        dict: The metrics by name, and ``run`` with at least ``config``.

    Raises:
        ResultsError: Names the file, the field, what was expected and what was
            found.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError):
        raise ResultsError(f'{path}: expected JSON, found something else. {_REMEDY}') from None
    _require(path, isinstance(content, dict), 'the file', 'an object', content)
    run = content.get('run')
    _require(path, isinstance(run, dict), 'run', 'an object', run)
    require_fields(path, run, ('config',))
    for name, value in content.items():
        _require(path, name == 'run' or _is_metric(value), name, 'a number or null', value)
    return content


def require_fields(
    path: Path, run: dict, fields: Sequence[str], machine: Sequence[str] = ('device',)
) -> None:
    """Look at what a page needs of ``run``.

    Args:
        path (Path): The file, for messages.
        run (dict): From :func:`read_results`.
        fields (Sequence[str]): What it must have.
        machine (Sequence[str]): What its machine must have, if it is among
            the fields.

    Raises:
        ResultsError: As :func:`read_results`.
    """
    for name in fields:
        kinds = _KINDS.get(name, (object,))
        _require(
            path,
            name in run and isinstance(run[name], kinds),
            f'run.{name}',
            ' or '.join(kind.__name__ for kind in kinds),
            run.get(name),
        )
    for name in machine if 'machine' in fields else ():
        found = run['machine'].get(name)
        _require(path, isinstance(found, str), f'run.machine.{name}', 'a string', found)


def measured(path: Path, tabulate: Callable[[dict], str]) -> str:
    """Make the part of a page that shows a benchmark's results file.

    Args:
        path (Path): The file; may be missing.
        tabulate (Callable): Makes the tables from the file's content.

    Returns:
        str: The tables and how they came about, or 'Not measured.'
    """
    if not path.exists():
        return NOT_MEASURED
    content = json.loads(path.read_text())
    return f'{tabulate(content)}\n\n{origin(content["run"])}'


def origin(run: dict) -> str:
    """Format the command, commit, date and machine of a run as one line."""
    machine = run['machine']
    seed = f', seed {run["seed"]}' if 'seed' in run else ''
    time = f', {run["seconds"]:.0f} s' if 'seconds' in run else ''
    return (
        f'`{run["command"]}`, commit {run["commit"]}, {run["date"]}, '
        f'{machine["device"]}, torch {machine["torch"]}{seed}{time}'
    )


def _is_metric(value: object) -> bool:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return value is None or (is_number and abs(value) <= 1e9)


def _require(path: Path, ok: bool, field: str, expected: str, found: object) -> None:
    if not ok:
        text = 'nothing' if found is None else repr(found)[:60]
        raise ResultsError(f'{path}: {field}: expected {expected}, found {text}. {_REMEDY}')
