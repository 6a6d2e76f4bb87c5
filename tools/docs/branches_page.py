"""The tables of docs/branches.md: rankings, visibility and keypoint errors of crowded people."""

import json
from collections.abc import Callable
from pathlib import Path

from multitask_refine.evaluation import LEVELS, markdown_table, percent

_FIGURES = ('AP', 'AP50', 'AP75')
_KINDS = ('good', 'jitter', 'inversion', 'swap', 'miss')


def sections(folder: Path) -> dict[str, str]:
    """Make the generated parts of the page.

    Args:
        folder (Path): docs/results.

    Returns:
        dict[str, str]: Markdown by the name in the page's marker.
    """
    records = [
        json.loads(path.read_text()) for path in sorted((folder / 'branches').glob('*.json'))
    ]
    return {
        'visibility': _make_table(
            ['average precision', *LEVELS, 'correct', 'calibration error'], records, _visibility
        ),
        'rankings': _make_table(['ranking', *_FIGURES, 'calibration error'], records, _rankings),
        'crowded': _make_table(['people', 'found', *_KINDS], records, _keypoint_errors),
    }


def _make_table(
    head: list[str], records: list[dict], make_rows: Callable[[dict], list[list[str]]]
) -> str:
    """Make the table of the rows of all records; each begins with its config and seed."""
    rows = [
        ['`{config}`, seed {seed}: '.format(**record['tested']) + name, *cells]
        for record in records
        for name, *cells in make_rows(record)
    ]
    return markdown_table(head, rows) if rows else 'Not measured.'


def _visibility(record: dict) -> list[list[str]]:
    found = record.get('visibility')
    if not found:
        return []
    names = [*(f'AP_{level}' for level in LEVELS), 'accuracy', 'ECE']
    guesses = [found['shares'][level] for level in LEVELS]
    return [
        ['predicted', *(percent(found[name]) for name in names)],
        ['guessed', *map(percent, guesses), '-', '-'],
    ]


def _rankings(record: dict) -> list[list[str]]:
    return [
        [f'{task} by {name}', *(percent(found[each]) for each in _FIGURES)]
        + [percent(found['calibration']['error'])]
        for task, rankings in record['rankings'].items()
        for name, found in rankings.items()
    ]


def _keypoint_errors(record: dict) -> list[list[str]]:
    return [
        [name, f'{found["matched"]} of {found["people"]}', *(percent(found[k]) for k in _KINDS)]
        for name, found in record.get('keypoint_errors', {}).items()
    ]
