"""The protocol of the experiment on learned offsets (docs/offsets-experiment.md).

All that is varied, and how, is in the tables here; tools/ablation.py runs
them, and projects/multitask_refine/analysis/ablation/tables.py reports them. Change nothing
while an experiment is under way: results of another protocol are refused.
"""

from typing import NamedTuple

CONFIG = 'configs/sample/multitask-rcnn_r26-w24_{}_1xb4-base-500_sample-256.py'

# Drawn people, other ones than those that the base was trained and validated
# on (seed 1000). Rates are chosen on `sweep`; nothing is chosen on `final`.
IMAGE_SIZE = 256
# Results file of the base itself by phase.
BASE_RESULTS = 'base/{}.json'
TRAIN = dict(seed=2000, images=4000)
TEST = {
    'sweep': dict(seed=2000, images=300),  # the val split of the same seed
    'final': dict(seed=3000, images=500),
}

# Other random numbers in the final runs than those that rates were chosen by.
SWEEP_SEEDS = (100,)

# The report's SGD has a rate of 0.03 for 12 images, which is 0.01 for 4. It and 3e-3 were tried
# first; the two below were added when both did worse than the base itself.
RATES = {'AdamW': (1e-4, 3e-4), 'SGD': (3e-4, 1e-3, 3e-3, 1e-2)}
OPTIMIZERS = {
    'AdamW': {
        'optim_wrapper.optimizer.type': 'AdamW',
        'optim_wrapper.optimizer.weight_decay': 0.05,
    },
    'SGD': {
        'optim_wrapper.optimizer.type': 'SGD',
        'optim_wrapper.optimizer.momentum': 0.9,
        'optim_wrapper.optimizer.weight_decay': 0.0001,
    },
}
RULE = (
    'Of the rates that the sweep tries for a condition, the final runs '
    'take the one with the highest mean, over its seeds, of the mean of '
    'box, mask and keypoint AP on the validation split; of equal ones the '
    'lower.'
)

HEAD = 'model.roi_head.keypoint_head'
OFFSET_RATE = 'optim_wrapper.paramwise_cfg.dcn_offset_lr_mult'
BOUNDED = {
    'model.backbone.dcn.max_offset': 2.0,
    f'{HEAD}.conv_cfg.max_offset': 2.0,
    f'{HEAD}.max_offset': 2.0,
}
# A quarter of the batch at a quarter of the rate, for as many images.
QUARTER_BATCH = {
    'train_dataloader.batch_size': 1,
    'train_cfg.max_iters': 2000,
    'param_scheduler.0.end': 200,
    'param_scheduler.1.begin': 200,
    'param_scheduler.1.end': 2000,
    'param_scheduler.1.T_max': 1800,
}


class Condition(NamedTuple):
    """One way to train the base further.

    Attributes:
        name: Of its results files.
        title: Of its row in the tables.
        variant: The place of the network in :data:`CONFIG`.
        optimizer: One of :data:`OPTIMIZERS`.
        rate_from: The condition whose rate it takes; those that name
            themselves are swept.
        options: What differs from the config.
        rate_factor: Times the rate.
        seeds: Number of final runs.
    """

    name: str
    title: str
    variant: str
    optimizer: str
    rate_from: str
    options: dict[str, float] = {}
    rate_factor: float = 1.0
    seeds: int = 5


CONDITIONS = (
    Condition('regular', 'Regular', 'fpn-ms_regular', 'AdamW', 'regular'),
    Condition(
        'heatmap-offset', 'Heatmap offsets', 'fpn-ms_heatmap-offset', 'AdamW', 'heatmap-offset'
    ),
    Condition('rb', 'RB', 'fpn-ms_rb', 'AdamW', 'rb'),
    Condition('rb-h', 'RB+H', 'fpn-ms_rb-h', 'AdamW', 'rb-h'),
    Condition('regular-sgd', 'Regular, SGD', 'fpn-ms_regular', 'SGD', 'regular-sgd'),
    Condition('rb-h-sgd', 'RB+H, SGD', 'fpn-ms_rb-h', 'SGD', 'rb-h-sgd'),
    # One thing changed in RB+H, whose rate they take.
    Condition(
        'rb-h-x0.1', 'RB+H, offset rate x0.1', 'fpn-ms_rb-h', 'AdamW', 'rb-h', {OFFSET_RATE: 0.1}
    ),
    Condition(
        'rb-h-x0.01',
        'RB+H, offset rate x0.01',
        'fpn-ms_rb-h',
        'AdamW',
        'rb-h',
        {OFFSET_RATE: 0.01},
    ),
    Condition('rb-h-bounded', 'RB+H, bounded offsets', 'fpn-ms_rb-h', 'AdamW', 'rb-h', BOUNDED),
    Condition(
        'rb-h-no-offset', 'RB+H, no heatmap offsets', 'fpn-ms_rb-h-no-offset', 'AdamW', 'rb-h'
    ),
    Condition('rb-h-kps', 'RB+H, keypoints only', 'fpn-ms_rb-h-kps', 'AdamW', 'rb-h'),
    # The single-scale network cannot take the neck of the base; the control does without it, too.
    Condition('rb-h-new-neck', 'RB+H, new neck', 'fpn-ms_rb-h-new-neck', 'AdamW', 'rb-h'),
    Condition('rb-h-ss', 'RB+H, new neck, single-scale', 'fpn-ss_rb-h', 'AdamW', 'rb-h'),
    # The report's Table 7.
    Condition(
        'regular-sgd-b1',
        'Regular, SGD, batch 1',
        'fpn-ms_regular',
        'SGD',
        'regular-sgd',
        QUARTER_BATCH,
        rate_factor=0.25,
    ),
    # What the three tasks tell each other: docs/branches.md.
    Condition(
        'visibility', 'Regular, visibility branch', 'fpn-ms_regular-visibility', 'AdamW', 'regular'
    ),
    Condition('score', 'Regular, score branches', 'fpn-ms_regular-score', 'AdamW', 'regular'),
    Condition('mask-gate', 'Regular, mask gate', 'fpn-ms_regular-mask-gate', 'AdamW', 'regular'),
)
BY_NAME = {condition.name: condition for condition in CONDITIONS}

# Pairs (condition, what it is compared with). The intervals of a table are
# corrected for all its comparisons: so many, with three tasks, as it has when
# all runs are done.
AGAINST_REGULAR = (
    ('heatmap-offset', 'regular'),
    ('rb', 'regular'),
    ('rb-h', 'regular'),
    ('rb-h-sgd', 'regular-sgd'),
)
ONE_CHANGE = (
    ('rb-h-x0.1', 'rb-h'),
    ('rb-h-x0.01', 'rb-h'),
    ('rb-h-bounded', 'rb-h'),
    ('rb-h-no-offset', 'rb-h'),
    ('rb-h-kps', 'rb-h'),
    ('rb-h-ss', 'rb-h-new-neck'),
    ('regular-sgd-b1', 'regular-sgd'),
)
# Of docs/branches.md.
EACH_ADDS = (
    ('heatmap-offset', 'regular'),
    ('rb', 'regular'),
    ('rb-h', 'regular'),
    ('visibility', 'regular'),
    ('score', 'regular'),
    ('mask-gate', 'regular'),
)


class Run(NamedTuple):
    """One training with its test."""

    phase: str
    condition: Condition
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """Name of the results file and of the work dir."""
        rate = f'_lr{self.rate:g}' if self.phase == 'sweep' else ''
        return f'{self.condition.name}{rate}_seed{self.seed}'

    @property
    def config(self) -> str:
        """Path of the config, from the root of the project."""
        return CONFIG.format(self.condition.variant)

    @property
    def settings(self) -> dict[str, object]:
        """Settings that override the config."""
        condition = self.condition
        return {
            **OPTIMIZERS[condition.optimizer],
            'optim_wrapper.optimizer.lr': self.rate * condition.rate_factor,
            **condition.options,
        }


def sweep_runs() -> list[Run]:
    """All conditions with one seed before the next: a part is a fair part."""
    return [
        Run('sweep', condition, rate, seed)
        for seed in SWEEP_SEEDS
        for condition in CONDITIONS
        if condition.rate_from == condition.name
        for rate in RATES[condition.optimizer]
    ]


def final_runs(rates: dict[str, float]) -> list[Run]:
    """The final runs, with rates by the name of the swept condition."""
    most = max(condition.seeds for condition in CONDITIONS)
    return [
        Run('final', condition, rates[condition.rate_from], seed)
        for seed in range(most)
        for condition in CONDITIONS
        if seed < condition.seeds
    ]


def choose_rates(scores: dict[str, dict[float, float]]) -> dict[str, float]:
    """Apply :data:`RULE`.

    Args:
        scores (dict[str, dict[float, float]]): By condition and rate, the
            mean AP over tasks and seeds.

    Returns:
        dict[str, float]: The rate by condition.
    """
    return {name: max(sorted(by_rate), key=by_rate.get) for name, by_rate in scores.items()}
