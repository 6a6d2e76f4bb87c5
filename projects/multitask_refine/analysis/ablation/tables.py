"""The tables of docs/offsets-experiment.md, from the results files of tools/ablation.py."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from multitask_refine.analysis.ablation import protocol
from multitask_refine.analysis.ablation.seeds import (
    HEADS,
    differences,
    format_difference,
    headings,
    load_groups,
    mean_and_deviation,
    not_measured,
)
from multitask_refine.analysis.results_files import (
    NOT_MEASURED,
    ResultsError,
    read_results,
    require_fields,
)
from multitask_refine.evaluation import markdown_table, percent

_FIELDS = (
    'condition',
    'rate',
    'settings',
    'seed',
    'protocol',
    'machine',
    'commit',
    'parameters',
    'training_minutes',
    'test_minutes',
    'offsets',
    'records',
    'records_outside',
)
# Conditions with offsets in every layer, for the table of their lengths.
_LENGTHS = ('rb-h', 'rb-h-x0.1', 'rb-h-x0.01', 'rb-h-bounded', 'rb-h-sgd')

Runs = dict[str, dict]


def read_json(path: Path) -> dict:
    """Read a JSON file with an object.

    Raises:
        ResultsError: If it is something else.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ResultsError(
            f'{path}: expected a JSON object, found something '
            'else. It is written by tools/ablation.py'
        )
    return content


def first_difference(
    found: object, expected: object, name: str = ''
) -> tuple[str, str, str] | None:
    """The first place in which two JSON values differ.

    Returns:
        tuple[str, str, str], optional: Its dotted name and both values, cut
        short; None if they are equal.
    """
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            difference = first_difference(
                found.get(key), expected.get(key), f'{name}.{key}'.strip('.')
            )
            if difference:
                return difference
        return None
    if found == expected:
        return None
    return name, *(('nothing' if each is None else str(each))[:60] for each in (found, expected))


def load_runs(folder: Path, shared: dict | None = None) -> Runs:
    """Read the runs of one phase.

    Args:
        folder (Path): Holds one results file a run; may be missing. Its name
            is that of the phase.
        shared (dict, optional): The protocol that they must have; that of the
            first one if None.

    Returns:
        dict[str, dict]: Metrics and ``run`` by the run's name.

    Raises:
        ResultsError: If a file is no results file of such a run, or is of
            another protocol or base than the rest.
    """
    runs, first = {}, f'this run of tools/ablation.py {folder.name}'
    for path in sorted(folder.glob('*.json')):
        content = read_results(path)
        run = content['run']
        require_fields(path, run, _FIELDS)
        for layer, lengths in run['offsets'].items():
            if not isinstance(lengths, dict) or not all(
                isinstance(lengths.get(kind), (int, float)) for kind in ('mean', 'max')
            ):
                raise ResultsError(
                    f'{path}: run.offsets.{layer}: expected numbers mean and '
                    f'max, found {str(lengths)[:60]}. Run it again.'
                )
        condition = protocol.BY_NAME.get(run['condition'])
        if condition is None:
            raise ResultsError(
                f'{path}: run.condition: expected one of '
                f'{", ".join(protocol.BY_NAME)}, found '
                f'{run["condition"][:60]}. Move the file away.'
            )
        expected = protocol.Run(folder.name, condition, run['rate'], run['seed'])
        if path.stem != expected.name:
            raise ResultsError(f'{path}: is the run {expected.name}, and must be named so.')
        settings = json.loads(json.dumps(expected.settings))
        if shared is None:
            shared, first = run['protocol'], path.name
        difference = first_difference(run['settings'], settings, 'settings') or first_difference(
            run['protocol'], shared, 'protocol'
        )
        if difference:
            name, found, wanted = difference
            raise ResultsError(
                f'{path}: run.{name}: expected {wanted}, as in {first}, found '
                f'{found}. Results of different protocols are not compared: '
                'move the file away, or name another folder.'
            )
        runs[path.stem] = content
    return runs


def by_seed(runs: Runs, condition: str, metric: str) -> dict[int, float]:
    """A metric by seed; without the runs that lack it."""
    found = {
        content['run']['seed']: content.get(metric)
        for content in runs.values()
        if content['run']['condition'] == condition
    }
    return {seed: value for seed, value in found.items() if value is not None}


def sections(folder: Path) -> dict[str, str]:
    """The generated parts of docs/offsets-experiment.md.

    Args:
        folder (Path): docs/results/offsets, with its folders sweep and final;
            may be missing.

    Returns:
        dict[str, str]: Markdown by the name in the page's marker.
    """
    sweep = load_runs(folder / 'sweep')
    final = load_runs(folder / 'final')
    return {
        'conditions': conditions_table(),
        'sweep': sweep_table(sweep, folder),
        'origin': describe_origin(final),
        'averages': averages_table(final, folder),
        'readme': averages_table(final, folder, ('regular', 'heatmap-offset', 'rb', 'rb-h')),
        'refinement': differences_table(final, protocol.AGAINST_REGULAR),
        'one-change': differences_table(final, protocol.ONE_CHANGE),
        'each-adds': each_adds_table(final),
        'lengths': lengths_table(final),
        'time': time_table(final),
    }


def random_start(folder: Path) -> str:
    """The differences of the earlier runs from random weights.

    Args:
        folder (Path): docs/results/ablation; may be missing.
    """
    groups = load_groups(folder)
    return '\n\n'.join(map(differences, groups)) or NOT_MEASURED


def conditions_table() -> str:
    """Format the conditions: what is trained, with which rates and settings."""
    rows = []
    for each in protocol.CONDITIONS:
        own = each.rate_from == each.name
        rates = ', '.join(f'{rate:g}' for rate in protocol.RATES[each.optimizer])
        factor = f'{each.rate_factor:g} times ' if each.rate_factor != 1 else ''
        # Without the ends of the schedule, which follow from max_iters.
        changed = ', '.join(
            dict.fromkeys(
                f'`{name.split(".")[-1]}={value:g}`'
                for name, value in each.options.items()
                if not name.startswith('param_scheduler')
            )
        )
        rows.append(
            [
                each.title,
                f'`{each.variant}`',
                each.optimizer,
                rates if own else f'{factor}that of {protocol.BY_NAME[each.rate_from].title}',
                changed or '-',
                str(each.seeds),
            ]
        )
    return markdown_table(
        ['condition', 'network', 'optimizer', 'rate', 'further settings', 'seeds'], rows
    )


def sweep_table(runs: Runs, folder: Path) -> str:
    """Format the AP of each rate that was tried and the chosen ones."""
    if not runs:
        return NOT_MEASURED
    choice = folder / 'choice.json'
    rates = read_json(choice).get('rates', {}) if choice.is_file() else {}
    groups: dict[tuple, list] = {}
    for content in runs.values():
        run = content['run']
        groups.setdefault((run['condition'], run['rate']), []).append(content)
    base = _load_base(folder, 'sweep')
    rows = [['Base, not trained further', '-', '-', *base, '', '']] if base else []
    for condition in protocol.CONDITIONS:
        for rate in protocol.RATES[condition.optimizer]:
            found = groups.get((condition.name, rate))
            if not found:
                continue
            values = [[each[head] for each in found] for head in HEADS]
            rows.append(
                [
                    condition.title,
                    f'{rate:g}',
                    str(len(found)),
                    *map(mean_and_deviation, values),
                    f'{np.mean(values):.2f}',
                    'chosen' if rates.get(condition.name) == rate else '',
                ]
            )
    return markdown_table(['', 'rate', 'n', *headings(HEADS), 'mean', ''], rows)


def _load_base(folder: Path, phase: str) -> list[str]:
    """Load the AP of the base itself on the images of a phase; none if it was not tested."""
    path = folder / protocol.BASE_RESULTS.format(phase)
    return [percent(read_results(path)[head]) for head in HEADS] if path.exists() else []


def describe_origin(runs: Runs) -> str:
    """Describe base, data, commits and devices of the runs."""
    if not runs:
        return NOT_MEASURED
    shared = next(iter(runs.values()))['run']['protocol']
    devices, commits = (
        {str(value) for value in values}
        for values in zip(
            *((each['run']['machine']['device'], each['run']['commit']) for each in runs.values()),
            strict=True,
        )
    )
    train, test = shared['train'], shared['test']
    return (
        f'Base: SHA-256 `{shared["base_sha256"][:12]}`. Trained on '
        f'{train["images"]} images (drawing seed {train["seed"]}), tested on '
        f'{test["images"]} (drawing seed {test["seed"]}) of '
        f'{test["size"]} pixels. Commits {", ".join(sorted(commits))}; '
        f'{"; ".join(sorted(devices))}.'
    )


def averages_table(
    runs: Runs, folder: Path, conditions: Sequence[str] = tuple(protocol.BY_NAME)
) -> str:
    """Format mean and deviation over the seeds of each condition, after the base itself."""
    base = _load_base(folder, 'final')
    rows = [['Base, not trained further', '-', *base]] if base else []
    for name in conditions:
        values = [list(by_seed(runs, name, head).values()) for head in HEADS]
        n = max(map(len, values))
        rows.append(
            [
                protocol.BY_NAME[name].title,
                str(n),
                *(map(mean_and_deviation, values) if n else not_measured(HEADS)),
            ]
        )
    return markdown_table(['test split', 'n', *headings(HEADS)], rows)


def differences_table(runs: Runs, pairs: Sequence[tuple[str, str]]) -> str:
    """Format the paired differences with intervals corrected for their number."""
    rows = [
        [
            ' minus '.join(protocol.BY_NAME[each].title for each in pair),
            *_differences(runs, pair, len(pairs)),
        ]
        for pair in pairs
    ]
    return markdown_table(['', 'n', *headings(HEADS)], rows) + _describe_intervals(len(pairs))


def each_adds_table(runs: Runs) -> str:
    """Format what each part adds to the regular network, and what it multiplies its cost by."""
    rows = []
    for pair in protocol.EACH_ADDS:
        cost = []
        for field in ('parameters', 'training_minutes'):
            found: tuple[list, list] = ([], [])
            for content in runs.values():
                if content['run']['condition'] in pair:
                    found[pair.index(content['run']['condition'])].append(content['run'][field])
            cost.append(f'{np.mean(found[0]) / np.mean(found[1]):.2f}x' if all(found) else '-')
        title = protocol.BY_NAME[pair[0]].title
        rows.append([title, *_differences(runs, pair, len(protocol.EACH_ADDS)), *cost])
    head = ['minus Regular', 'n', *headings(HEADS), 'parameters', 'training time']
    return markdown_table(head, rows) + _describe_intervals(len(protocol.EACH_ADDS))


def _differences(runs: Runs, pair: tuple[str, str], num_pairs: int) -> list[str]:
    """Format the number of common seeds and the paired difference of each task."""
    cells, n = [], 0
    for head in HEADS:
        values = [by_seed(runs, name, head) for name in pair]
        n = max(n, len(values[0].keys() & values[1].keys()))
        cells.append(format_difference(*values, comparisons=num_pairs * len(HEADS)))
    return [str(n), *(cells if n else not_measured(HEADS))]


def _describe_intervals(num_pairs: int) -> str:
    comparisons = num_pairs * len(HEADS)
    return (
        f'\n\nIntervals hold together for all {comparisons} '
        f'comparisons of this table (Bonferroni: {100 - 5 / comparisons:.2f} '
        '% each).'
    )


def lengths_table(runs: Runs) -> str:
    """Format the mean over the seeds of the mean length, and the largest of all."""
    found = {
        name: [each['run'] for each in runs.values() if each['run']['condition'] == name]
        for name in _LENGTHS
    }
    found = {name: each for name, each in found.items() if each}
    if not found:
        return NOT_MEASURED
    layers = sorted({layer for each in found.values() for run in each for layer in run['offsets']})
    rows = []
    for layer in layers:
        cells = []
        for each in found.values():
            lengths = [run['offsets'][layer] for run in each if layer in run['offsets']]
            cells.append(
                f'{np.mean([one["mean"] for one in lengths]):.2f} / '
                f'{max(one["max"] for one in lengths):.1f}'
                if lengths
                else '-'
            )
        rows.append([f'`{layer}`', *cells])
    rows.append(
        [
            'records in which offsets left their map',
            *(
                f'{sum(run["records_outside"] for run in each)} of '
                f'{sum(run["records"] for run in each)}'
                for each in found.values()
            ),
        ]
    )
    return markdown_table(
        ['mean / largest', *(protocol.BY_NAME[name].title for name in found)], rows
    )


def time_table(runs: Runs) -> str:
    """Format the minutes of training and test of each condition."""
    rows: list[list] = []
    for condition in protocol.CONDITIONS:
        found = [
            each['run'] for each in runs.values() if each['run']['condition'] == condition.name
        ]
        if found:
            minutes = [[run[f'{what}_minutes'] for run in found] for what in ('training', 'test')]
            rows.append([condition.title, str(len(found)), *map(mean_and_deviation, minutes)])
    if not rows:
        return NOT_MEASURED
    return markdown_table(['minutes a run', 'n', 'training', 'test'], rows)
