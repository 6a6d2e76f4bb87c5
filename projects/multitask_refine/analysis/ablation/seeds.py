"""Tables of runs with several seeds: means, deviations and paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import stats

from multitask_refine.analysis.report_tables import load_tables
from multitask_refine.analysis.results_files import (
    NOT_MEASURED,
    ResultsError,
    read_results,
    require_fields,
)
from multitask_refine.evaluation import TASKS, markdown_table, percent

NAMES = {
    'fpn-ms_regular': 'Regular',
    'fpn-ms_rb': 'RB',
    'fpn-ms_rb-h': 'RB+H',
    'fpn-ms_rb-h-kps': 'RB+H, keypoints only',
    'fpn-ss_rb-h': 'RB+H, single-scale',
    'fpn-ms_rb-h-no-offset': 'RB+H, no heatmap offsets',
    'fpn-ms_rb-h-slow-offset': 'RB+H, offsets at a tenth of the learning rate',
}
# Each is compared with the one that it differs from in a single thing, the
# report's steps with the regular network.
COMPARED = (
    ('fpn-ms_rb', 'fpn-ms_regular'),
    ('fpn-ms_rb-h', 'fpn-ms_regular'),
    ('fpn-ms_rb-h-kps', 'fpn-ms_rb-h'),
    ('fpn-ss_rb-h', 'fpn-ms_rb-h'),
    ('fpn-ms_rb-h-no-offset', 'fpn-ms_rb-h'),
    ('fpn-ms_rb-h-slow-offset', 'fpn-ms_rb-h'),
    ('fpn-ms_rb-h-slow-offset', 'fpn-ms_regular'),
)
_ORIGIN = ('annotations', 'num_images', 'iteration')
_FIELDS = (*_ORIGIN, 'seed', 'training_commit', 'machine')
HEADS = tuple(f'{task}_AP' for task in TASKS)


@dataclass
class Group:
    """Runs that may be compared: one network, schedule and dataset.

    Attributes:
        name (str): Network, schedule and dataset, as in the configs' names.
        origin (dict): Data and iterations, the same for all runs.
        runs (dict): Metrics by variant and seed.
        devices (set[str]): Where they were tested.
        commits (set[str]): Of what they were trained with.
    """

    name: str
    origin: dict
    runs: dict[str, dict[int, dict]] = field(default_factory=dict)
    devices: set = field(default_factory=set)
    commits: set = field(default_factory=set)

    def values(self, variant: str, metric: str) -> dict[int, float]:
        """A metric by seed; empty if a run lacks it."""
        runs = self.runs.get(variant, {})
        values = {seed: run.get(metric) for seed, run in runs.items()}
        return {} if None in values.values() else values


def variant_of(config: str) -> tuple[str, str]:
    """Split a config's name into what is varied and the rest.

    'multitask-rcnn_r50_fpn-ms_rb-h_4xb3-90k_coco' gives 'fpn-ms_rb-h' and
    'r50_4xb3-90k_coco'.
    """
    parts = config.split('_')
    return '_'.join(parts[2:-2]), '_'.join([parts[1], *parts[-2:]])


def load_groups(folder: Path) -> list[Group]:
    """Read the runs.

    Args:
        folder (Path): Holds CONFIG_seedN.json files; may be missing.

    Returns:
        list[Group]: By name.

    Raises:
        ResultsError: If a file is no results file, not what its name says, or
            was tested on other data or trained for longer than the rest of its group.
    """
    groups: dict[str, Group] = {}
    for path in sorted(folder.glob('*.json')):
        metrics = read_results(path)
        run = metrics.pop('run')
        require_fields(path, run, _FIELDS)
        config = Path(run['config']).stem
        if path.stem != f'{config}_seed{run["seed"]}':
            raise ResultsError(
                f'{path}: is of {config} with seed {run["seed"]}, and must be named so'
            )
        variant, name = variant_of(config)
        origin = {key: run[key] for key in _ORIGIN}
        group = groups.setdefault(name, Group(name, origin))
        if group.origin != origin:
            raise ResultsError(
                f'{path}: expected {group.origin} as in the other files of {name}, found {origin}'
            )
        group.runs.setdefault(variant, {})[run['seed']] = metrics
        group.devices.add(run['machine']['device'])
        group.commits.add(run['training_commit'] or 'unknown')
    return [groups[name] for name in sorted(groups)]


def mean_and_deviation(values: Sequence[float]) -> str:
    """'mean ± sample standard deviation'; the mean alone of a single one."""
    if not values:
        return '-'
    if len(values) == 1:
        return percent(values[0])
    return f'{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}'


def paired_difference(
    values: dict[int, float], others: dict[int, float], comparisons: int = 1
) -> tuple[float, float, float] | None:
    """Mean difference over the seeds that both have, and its 95 % interval.

    Args:
        values (dict[int, float]): By seed.
        others (dict[int, float]): What is subtracted, by seed.
        comparisons (int): Number of intervals that are to hold together
            (Bonferroni's correction). Defaults to 1.

    Returns:
        tuple[float, float, float], optional: Mean, lower and upper bound by
        Student's t; None for less than two common seeds.
    """
    seeds = sorted(set(values) & set(others))
    if len(seeds) < 2:
        return None
    pairs = np.array([[values[seed], others[seed]] for seed in seeds]).T
    mean = float(np.subtract(*pairs).mean())
    if np.ptp(np.subtract(*pairs)) == 0:  # of which SciPy makes NaN
        return mean, mean, mean
    interval = stats.ttest_rel(*pairs).confidence_interval(1 - 0.05 / comparisons)
    return mean, float(interval.low), float(interval.high)


def verdict(low: float, high: float) -> str:
    """A 95 % interval in words."""
    if low > 0:
        return 'higher'
    return 'lower' if high < 0 else 'within noise'


def format_difference(
    values: dict[int, float], others: dict[int, float], comparisons: int = 1
) -> str:
    """'mean [low, high] verdict' of :func:`paired_difference`, '-' without one."""
    found = paired_difference(values, others, comparisons)
    if found is None:
        return '-'
    mean, low, high = (percent(value, sign=True) for value in found)
    return f'{mean} [{low}, {high}] {verdict(*found[1:])}'


def render(folder: Path) -> str:
    """All groups of a folder as Markdown."""
    return '\n'.join(map(_group, load_groups(folder))) or NOT_MEASURED


def _group(group: Group) -> str:
    origin = group.origin
    devices = ', '.join(sorted(group.devices))
    tables = {
        f'Table {table.key} at small scale: {table.title.split(" on ")[0]}': (
            table.columns,
            [variant_of(row.config)[0] for row in table.rows],
        )
        for table in load_tables()
        if table.key in ('3', '4', '5', '6')
    }
    tables['One thing changed in the full model'] = (
        HEADS,
        ['fpn-ms_rb-h', 'fpn-ss_rb-h', 'fpn-ms_rb-h-no-offset', 'fpn-ms_rb-h-slow-offset'],
    )
    return (
        f"""\
### {group.name}

`{origin['annotations']}`, {origin['num_images']} images;
{origin['iteration']} iterations; trained with commit
{', '.join(sorted(group.commits))}; tested on {devices}.
"""
        + ''.join(
            f'\n**{title}**\n\n{_means(group, columns, variants)}\n'
            for title, (columns, variants) in tables.items()
        )
        + f"""
**Is it noise?**

{differences(group)}
"""
    )


def _means(group: Group, columns: Sequence[str], variants: Sequence[str]) -> str:
    rows = []
    for variant in variants:
        n = len(group.runs.get(variant, {}))
        cells = [
            mean_and_deviation(list(group.values(variant, column).values())) for column in columns
        ]
        rows.append([NAMES[variant], str(n), *(cells if n else not_measured(columns))])
    return markdown_table(['', 'n', *headings(columns)], rows)


def differences(group: Group) -> str:
    """The comparisons of a group as a table."""
    rows = []
    for variant, other in COMPARED:
        n = len(set(group.runs.get(variant, {})) & set(group.runs.get(other, {})))
        cells = [
            format_difference(group.values(variant, head), group.values(other, head))
            for head in HEADS
        ]
        rows.append([f'{NAMES[variant]} minus {NAMES[other]}', str(n), *cells])
    return markdown_table(['', 'n', *headings(HEADS)], rows)


def headings(columns: Sequence[str]) -> list[str]:
    """'AP50' where all columns are of one task, 'box AP' where not."""
    tasks = dict(bbox='box', segm='mask', keypoints='keypoint')
    split = [column.split('_') for column in columns]
    if len({task for task, _ in split}) == 1:
        return [name for _, name in split]
    return [f'{tasks[task]} {name}' for task, name in split]


def not_measured(columns: Sequence[str]) -> list[str]:
    """The cells of a row without results."""
    return ['not measured', *[''] * (len(columns) - 1)]
