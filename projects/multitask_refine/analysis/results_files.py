"""Read and validate results files, which others may have written."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from multitask_refine.utils.errors import ExplainedError
from multitask_runtime.schemas import Results, explain

NOT_MEASURED = 'Not measured.'
_CURE = 'Results files are written by tools/test.py'
# Fields of the run that may be null even where a page needs them.
_NULLABLE = ('seed', 'training_commit')


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
        Results.model_validate(content)
    except ValidationError as error:
        raise ResultsError(f'{path}: {explain(error)}. {_CURE}') from None
    except (ValueError, RecursionError):
        raise ResultsError(f'{path}: expected JSON, found something else. {_CURE}') from None
    return content


def require_fields(
    path: Path, run: dict, fields: Sequence[str], machine: Sequence[str] = ('device',)
) -> None:
    """Require the fields of ``run`` that a page needs.

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
        if name not in run or (run[name] is None and name not in _NULLABLE):
            raise ResultsError(f'{path}: run.{name}: expected a value, found nothing. {_CURE}')
    for name in machine if 'machine' in fields else ():
        found = run['machine'].get(name)
        if not isinstance(found, str):
            raise ResultsError(
                f'{path}: run.machine.{name}: expected a string, found {found!r:.60}. {_CURE}'
            )


def measured(path: Path, tabulate: Callable[[dict], str]) -> str:
    """Render the part of a page that shows a benchmark's results file.

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
