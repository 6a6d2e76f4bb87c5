"""The tables of docs/branches.md: rankings, visibility and keypoint errors of crowded people."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from multitask_refine.analysis.ablation.protocol import BY_NAME
from multitask_refine.analysis.ablation.seeds import format_difference, mean_and_deviation
from multitask_refine.analysis.results_files import NOT_MEASURED
from multitask_refine.evaluation import LEVELS, markdown_table

_FIGURES = ('AP', 'AP50', 'AP75')
_KINDS = ('good', 'jitter', 'inversion', 'swap', 'miss')
# How tests rank unless they are told otherwise.
_DEFAULT_RANKINGS = {'segm': 'bbox', 'keypoints': 'bbox_keypoint'}

# By condition and seed, as measure_predictions.py wrote them.
Records = dict[str, dict[int, dict]]


def sections(folder: Path) -> dict[str, str]:
    """Make the generated parts of the page.

    Args:
        folder (Path): docs/results.

    Returns:
        dict[str, str]: Markdown by the name in the page's marker.
    """
    test, crowded = (_load_records(folder / 'branches' / split) for split in ('test', 'crowded'))
    return {
        'visibility': _visibility_table(test),
        'rankings': _rankings_table(test),
        'crowded': _crowded_table(crowded),
        'crowded-differences': _crowded_differences(crowded),
    }


def _load_records(folder: Path) -> Records:
    records: Records = {}
    for path in sorted(folder.glob('*.json')):
        condition, seed = path.stem.rsplit('_seed', 1)
        records.setdefault(condition, {})[int(seed)] = json.loads(path.read_text())
    return {name: records[name] for name in BY_NAME if name in records}


def _means(
    records: Iterable[dict], names: Iterable[str], get: Callable[[dict], dict]
) -> list[str]:
    """Format mean and deviation over the seeds of each named value; null is none."""
    found = list(map(get, records))
    return [
        mean_and_deviation([each[name] for each in found if each[name] is not None])
        for name in names
    ]


def _visibility_table(records: Records) -> str:
    names = [*(f'AP_{level}' for level in LEVELS), 'accuracy', 'ECE']
    rows = []
    for condition, by_seed in records.items():
        found = [record for record in by_seed.values() if 'visibility' in record]
        if found:
            title, n = BY_NAME[condition].title, str(len(found))
            rows += [
                [title, n, *_means(found, names, lambda each: each['visibility'])],
                ['guesses', n]
                + _means(found, LEVELS, lambda each: each['visibility']['shares'])
                + ['-', '-'],
            ]
    head = ['average precision', 'n', *LEVELS, 'correct', 'calibration error']
    return markdown_table(head, rows) if rows else NOT_MEASURED


def _rankings_table(records: Records) -> str:
    rows = []
    for condition, by_seed in records.items():
        for task in next(iter(by_seed.values()))['rankings']:
            default = _DEFAULT_RANKINGS[task]
            # AP by ranking and seed
            ap: dict[str, dict[int, float]] = {}
            for seed, record in by_seed.items():
                for name, ranking in record['rankings'][task].items():
                    ap.setdefault(name, {})[seed] = ranking['AP']
            for name, values in ap.items():
                found = [by_seed[seed]['rankings'][task][name] for seed in values]
                rows.append(
                    [f'{BY_NAME[condition].title}: {task} by {name}', str(len(found))]
                    + _means(found, _FIGURES, lambda each: each)
                    + _means(found, ['error'], lambda each: each['calibration'])
                    + ['default' if name == default else format_difference(values, ap[default])]
                )
    head = ['ranking', 'n', *_FIGURES, 'calibration error', 'AP minus default']
    return markdown_table(head, rows) if rows else NOT_MEASURED


def _crowded_table(records: Records) -> str:
    rows = []
    for condition, by_seed in records.items():
        for people in next(iter(by_seed.values()))['keypoint_errors']:
            found = [record['keypoint_errors'][people] for record in by_seed.values()]
            rows.append(
                [f'{BY_NAME[condition].title}: {people}', str(len(found)), str(found[0]['people'])]
                + _means(found, ['matched', *_KINDS], lambda each: each)
            )
    head = ['people', 'n', 'number', 'found', *_KINDS]
    return markdown_table(head, rows) if rows else NOT_MEASURED


def _crowded_differences(records: Records) -> str:
    def by_seed(condition: str, kind: str) -> dict[int, float]:
        return {
            seed: record['keypoint_errors']['crowded people'][kind]
            for seed, record in records[condition].items()
        }

    others = [name for name in records if name != 'regular']
    if 'regular' not in records or not others:
        return NOT_MEASURED
    comparisons = len(others) * len(_KINDS)
    rows = [
        [BY_NAME[name].title]
        + [
            format_difference(by_seed(name, kind), by_seed('regular', kind), comparisons)
            for kind in _KINDS
        ]
        for name in others
    ]
    return markdown_table(['minus Regular', *_KINDS], rows)
