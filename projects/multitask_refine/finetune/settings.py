"""Rules that choose the settings of a fine-tuning from the statistics of its data.

All rules are in :func:`choose_settings`. Other numbers can be compared by cross-validation,
``benchmarks/data/few_photos.py --folds``.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from .statistics import DatasetStatistics

VARIANTS = ('regular', 'rb-h')

TYPICAL_INSTANCE_SIZE = 100  # pixels, square root of the box area
LONG_SIDES = (256, 384)  # minimum and maximum of the longer input side
MIN_INSTANCE_SIZE = 16  # pixels, covered by the anchors of the base
BATCH_SIZE = 4
ITERATIONS = (500, 6000)  # minimum and maximum
EPOCHS = 40
BASE_ANCHOR_SCALES = (4, 8)  # multiples of the strides 8, 16, 32 and 64 pixels
BASE_PROPOSALS = 50


class Settings(NamedTuple):
    """Settings of a fine-tuning.

    Attributes:
        variant: One of :data:`VARIANTS`.
        base: Checkpoint to start from, None for random weights.
        long_side: Longer side of the input in pixels.
        iterations: Number of batches.
        batch_size: Number of images of a batch.
        lr: Base learning rate of AdamW.
        heads: Tasks to train, of 'bbox', 'segm' and 'keypoints'.
        anchor_scales: Anchor scales of the RPN.
        proposals: Maximal number of proposals of an image.
        reasons: Reason of each setting by its name.
    """

    variant: str
    base: str | None
    long_side: int
    iterations: int
    batch_size: int
    lr: float
    heads: tuple[str, ...]
    anchor_scales: tuple[int, ...]
    proposals: int
    reasons: dict[str, str]


def choose_settings(
    stats: DatasetStatistics,
    base: str | None,
    base_keypoints: Sequence[str] = (),
    same_keypoints: dict[str, str] | None = None,
    variant: str = 'rb-h',
    iterations: int | None = None,
    long_side: int | None = None,
) -> Settings:
    """Choose the settings of a fine-tuning.

    Args:
        stats: Statistics of the training data.
        base: Checkpoint to start from, None for random weights.
        base_keypoints: Names of its keypoints.
        same_keypoints: Name in the base of each keypoint that it names differently.
        variant: One of :data:`VARIANTS`.
        iterations: Overrides the rule.
        long_side: Overrides the rule.
    """
    reasons = dict(
        variant='refined backbone and keypoint head' if variant == 'rb-h' else 'no refinement',
        base='the pretrained base' if base else 'random weights, as requested',
        batch_size='small batches, more updates',
        lr='AdamW; ' + ('the weights are pretrained' if base else 'from random weights'),
        proposals=f'at most {stats.max_instances} instances in an image',
    )
    small, typical, _ = stats.instance_size

    # Scale instances to the size that the base was trained on, but do not enlarge images.
    reasons['long_side'] = 'as requested; ' if long_side else ''
    if long_side is None:
        minimum, maximum = LONG_SIDES
        maximum = min(maximum, max(minimum, stats.long_side))
        long_side = 32 * round(min(max(TYPICAL_INSTANCE_SIZE / typical, minimum), maximum) / 32)
    reasons['long_side'] += (
        f'a typical instance takes {typical:.2f} of the long side: '
        f'{typical * long_side:.0f} pixels'
    )

    # The smallest instances must still overlap with an anchor.
    anchor_scales = BASE_ANCHOR_SCALES
    reasons['anchor_scales'] = 'those of the base fit'
    if small * long_side < MIN_INSTANCE_SIZE:
        anchor_scales = (2, *BASE_ANCHOR_SCALES)
        reasons['anchor_scales'] = (
            f'a tenth of the instances is below {MIN_INSTANCE_SIZE} pixels; the last layers of '
            'the RPN start anew'
        )

    reasons['iterations'] = 'as requested'
    if iterations is None:
        minimum, maximum = ITERATIONS
        iterations = min(max(EPOCHS * stats.images // BATCH_SIZE, minimum), maximum)
        reasons['iterations'] = (
            f'{EPOCHS} epochs, at least {minimum} and at most {maximum} iterations'
        )

    heads = tuple(task for task, count in stats.labeled.items() if count)
    unlabeled = [task for task in stats.labeled if task not in heads]
    reasons['heads'] = 'all tasks are labeled'
    if unlabeled:
        reasons['heads'] = f'nothing is labeled for {", ".join(unlabeled)}'
    if base_keypoints and 'keypoints' in heads:
        renamed = same_keypoints or {}
        new = [name for name in stats.keypoints if renamed.get(name, name) not in base_keypoints]
        reasons['heads'] += f'; keypoints that start anew: {", ".join(new) or "none"}'
    return Settings(
        variant=variant,
        base=base,
        long_side=long_side,
        iterations=iterations,
        batch_size=BATCH_SIZE,
        lr=5e-4 if base else 1.5e-3,
        heads=heads,
        anchor_scales=anchor_scales,
        proposals=max(BASE_PROPOSALS, 50 * math.ceil(stats.max_instances / 15)),
        reasons=reasons,
    )


def format_tables(stats: DatasetStatistics, settings: Settings) -> str:
    """Format a table of the statistics and a table of the settings with their reasons."""
    labeled = [
        f'{count} of {stats.instances} with {name}'
        for name, count in zip(('boxes', 'masks', 'keypoints'), stats.labeled.values())
    ]
    keypoints = f'{len(stats.keypoints)}: {", ".join(stats.keypoints)}'
    if not stats.keypoints:
        keypoints = 'none'
    elif not stats.keypoints_named:
        keypoints += " (unnamed in the file, assumed to be COCO's)"
    width, height = stats.image_size
    low, middle, high = (f'{100 * each:.0f} %' for each in stats.instance_size)
    data = [
        ('images', f'{stats.images}, median {width} x {height} pixels'),
        ('instances', f'{stats.instances}: {", ".join(labeled)}'),
        ('classes', ', '.join(stats.classes)),
        ('keypoints', keypoints),
        (
            'instance size',
            f'{low}, {middle}, {high} of the long side (10th, 50th, 90th percentile)',
        ),
    ]
    values = dict(
        base=settings.base or 'random weights',
        variant=settings.variant,
        heads=', '.join(settings.heads),
        long_side=settings.long_side,
        anchor_scales=', '.join(map(str, settings.anchor_scales)),
        proposals=settings.proposals,
        iterations=settings.iterations,
        batch_size=settings.batch_size,
        lr=settings.lr,
    )
    titles = dict(
        base='start', heads='tasks', long_side='long side of the input', lr='learning rate'
    )
    choices = [
        (titles.get(name, name.replace('_', ' ')), str(value), settings.reasons[name])
        for name, value in values.items()
    ]

    def align(rows: list[tuple[str, ...]]) -> list[str]:
        widths = [max(map(len, column)) for column in zip(*rows)]
        return [
            '  ' + '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
            for row in rows
        ]

    return '\n'.join(['Data', *align(data), '', 'Settings', *align(choices)])
