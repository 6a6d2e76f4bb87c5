"""The rules by which a fine-tuning is set up from its data.

All of them are in :func:`choose_settings`. Other numbers can be compared by
cross-validation, ``benchmarks/data/few_photos.py --folds``.
"""

import math
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from .statistics import DatasetStatistics

VARIANTS = ('regular', 'rb-h')

TYPICAL_INSTANCE = 100  # pixels, square root of the box area
LONG_SIDES = (256, 384)  # smallest and largest long side of the input
SMALLEST_INSTANCE = 16  # pixels, what the anchors of the base reach
BATCH_SIZE = 4
ITERATIONS = (500, 6000)
EPOCHS = 40
BASE_ANCHORS = (4, 8)  # scales, in strides of 8, 16, 32 and 64 pixels
BASE_PROPOSALS = 50


class Settings(NamedTuple):
    """How a network is fine-tuned.

    Attributes:
        variant: One of :data:`VARIANTS`.
        base: Checkpoint to start from; None trains from random weights.
        long_side: Longest side of the input in pixels.
        iterations: Of ``batch_size`` images each.
        batch_size: Images.
        lr: Base learning rate of AdamW.
        heads: The tasks to train, of 'bbox', 'segm' and 'keypoints'.
        anchor_scales: Of the RPN.
        proposals: Most proposals of an image.
        reasons: Why, by the name of the setting.
    """

    variant: str
    base: Optional[str]
    long_side: int
    iterations: int
    batch_size: int
    lr: float
    heads: Tuple[str, ...]
    anchor_scales: Tuple[int, ...]
    proposals: int
    reasons: Dict[str, str]


def choose_settings(
    stats: DatasetStatistics,
    base: Optional[str],
    base_keypoints: Sequence[str] = (),
    same_keypoints: Optional[Dict[str, str]] = None,
    variant: str = 'rb-h',
    iterations: Optional[int] = None,
    long_side: Optional[int] = None,
) -> Settings:
    """Choose the settings of a fine-tuning.

    Args:
        stats (DatasetStatistics): Of the training data.
        base (str, optional): Checkpoint of the base, None to train from
            random weights.
        base_keypoints (Sequence[str]): Names of its keypoints.
        same_keypoints (dict[str, str], optional): The base's name of
            keypoints that it names differently.
        variant (str): One of :data:`VARIANTS`. Defaults to 'rb-h'.
        iterations (int, optional): Instead of the number by the rule.
        long_side (int, optional): Instead of the size by the rule.
    """
    reasons = dict(
        variant='refined backbone and keypoint head' if variant == 'rb-h' else 'no refinement',
        base='the pretrained base' if base else 'random weights, as asked',
    )
    small, typical, _ = stats.instance_size

    # Instances become as large as those that the base was trained on, but
    # an image is not enlarged.
    reasons['long_side'] = 'as asked; ' if long_side else ''
    if long_side is None:
        wanted = TYPICAL_INSTANCE / typical
        largest = min(LONG_SIDES[1], max(LONG_SIDES[0], stats.long_side))
        long_side = 32 * round(min(max(wanted, LONG_SIDES[0]), largest) / 32)
    reasons['long_side'] += (
        f'a typical instance takes {typical:.2f} of the long side: '
        f'{typical * long_side:.0f} pixels'
    )

    # The smallest instances should still overlap with an anchor.
    pixels = small * long_side
    anchor_scales = BASE_ANCHORS
    reasons['anchor_scales'] = 'those of the base fit'
    if pixels < SMALLEST_INSTANCE:
        anchor_scales = (2, *BASE_ANCHORS)
        reasons['anchor_scales'] = (
            f'a tenth of the instances is below {SMALLEST_INSTANCE} pixels; '
            'the last layers of the RPN start anew'
        )

    proposals = max(BASE_PROPOSALS, 50 * math.ceil(stats.crowding / 15))
    reasons['proposals'] = f'at most {stats.crowding} instances in an image'

    if iterations is None:
        iterations = EPOCHS * stats.images // BATCH_SIZE
        iterations = min(max(iterations, ITERATIONS[0]), ITERATIONS[1])
        reasons['iterations'] = (
            f'{EPOCHS} epochs, at least {ITERATIONS[0]} and at most {ITERATIONS[1]} iterations'
        )
    else:
        reasons['iterations'] = 'as asked'
    reasons['batch_size'] = 'small batches, more updates'

    lr = 5e-4 if base else 1.5e-3
    reasons['lr'] = 'AdamW; ' + ('the weights are pretrained' if base else 'from random weights')

    heads = tuple(task for task, count in stats.labelled.items() if count)
    unlabelled = [task for task in stats.labelled if task not in heads]
    reasons['heads'] = (
        f'nothing is labelled for {", ".join(unlabelled)}'
        if unlabelled
        else 'all tasks are labelled'
    )
    if base_keypoints and 'keypoints' in heads:
        new = [
            name
            for name in stats.keypoints
            if (same_keypoints or {}).get(name, name) not in base_keypoints
        ]
        reasons['heads'] += f'; keypoints that start anew: {", ".join(new) or "none"}'
    return Settings(
        variant,
        base,
        long_side,
        iterations,
        BATCH_SIZE,
        lr,
        heads,
        anchor_scales,
        proposals,
        reasons,
    )


def format_tables(stats: DatasetStatistics, settings: Settings) -> str:
    """Format the statistics and the choices with their reasons.

    Args:
        stats (DatasetStatistics): Of the training data.
        settings (Settings): Chosen from it.

    Returns:
        str: Two tables.
    """
    low, middle, high = (f'{100 * each:.0f} %' for each in stats.instance_size)
    labelled = [
        f'{count} of {stats.instances} with {name}'
        for name, count in zip(('boxes', 'masks', 'keypoints'), stats.labelled.values())
    ]
    keypoints = f'{len(stats.keypoints)}: {", ".join(stats.keypoints)}'
    if stats.keypoints and not stats.keypoints_named:
        keypoints += " (unnamed in the file, taken for COCO's)"
    rows: List[Tuple[str, str]] = [
        ('images', f'{stats.images}, median {stats.image_size[0]} x {stats.image_size[1]} pixels'),
        ('instances', f'{stats.instances}: {", ".join(labelled)}'),
        ('classes', ', '.join(stats.classes)),
        ('keypoints', keypoints if stats.keypoints else 'none'),
        (
            'instance size',
            f'{low}, {middle}, {high} of the long side (10th, 50th, 90th percentile)',
        ),
    ]
    names = dict(
        base='start',
        variant='variant',
        heads='tasks',
        long_side='long side of the input',
        anchor_scales='anchor scales',
        proposals='proposals',
        iterations='iterations',
        batch_size='batch size',
        lr='learning rate',
    )
    values = settings._replace(
        base=settings.base or 'random weights',
        heads=', '.join(settings.heads),
        anchor_scales=', '.join(map(str, settings.anchor_scales)),
    )._asdict()
    choices = [(title, str(values[name]), settings.reasons[name]) for name, title in names.items()]
    return '\n'.join(['Data', *_align(rows), '', 'Settings', *_align(choices)])


def _align(rows: List[tuple]) -> List[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        '  ' + '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        for row in rows
    ]
