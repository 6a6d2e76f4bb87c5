"""Report of a conversion, or of the reasons for refusing it."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from .layout import Layout
from .weights_file import CAFFE2, Checkpoint, Weights, listed

PARTS = {
    'backbone.': 'backbone',
    'neck.': 'neck',
    'rpn_head.': 'rpn_head',
    'roi_head.bbox_head.': 'box head',
    'roi_head.mask_head.': 'mask head',
    'roi_head.keypoint_head.': 'keypoint head',
    'roi_head.shared_head.': 'shared head',
    'roi_head.': 'pooling',
}
# Source and network may each lack these, but only as a whole.
HEADS = ('roi_head.mask_head.', 'roi_head.keypoint_head.')
COUNTER = 'num_batches_tracked'
_CLASSES = 'roi_head.bbox_head.fc_cls.weight'
# Names in a file, the sources that have them, and what to do if another
# source was expected.
_HINTS = (
    (
        r'(bbox_head\.retina|head\.(cls_subnet|classification_head)).*',
        (),
        'It is a RetinaNet; expected a network of the R-CNN family.',
    ),
    (r'\w+_[wb]', (), CAFFE2),
    (
        r'(stem|conv1|res2|layer1)\..*',
        (),
        'It is a backbone alone: training takes it by model.backbone.init_cfg, '
        'without a conversion.',
    ),
    (
        r'backbone\.bottom_up\..*',
        ('Detectron2',),
        'It is a file of Detectron2: use detectron2_to_multitask.py.',
    ),
    (
        r'backbone\.body\..*',
        ('torchvision',),
        'It is a file of torchvision: use torchvision_to_multitask.py.',
    ),
    (
        r'(backbone\.layer1|roi_head)\..*',
        ('mmdet', 'multitask_refine'),
        'It is a file of mmdet or of this project: use mmdet_to_multitask.py.',
    ),
)


class Match(NamedTuple):
    """Names of the weights of a file matched to those of the model.

    Attributes:
        found: Names here, each with its name in the source.
        left: Names in the source without a place here, each with the reason.
        unknown: Names in the source that should have a place and have none.
    """

    found: dict[str, str]
    left: dict[str, str]
    unknown: list[str]


class Conversion(NamedTuple):
    """Plan of a conversion.

    Attributes:
        checkpoint: The file.
        layout: What is known of it.
        cfg: The network's config.
        target: The network's weights.
        match: Which weight goes where.
        values: What the network gets, by the names here.
        starts: Names here that are not in the source, each with the reason
            why this is no error; None where it is one.
    """

    checkpoint: Checkpoint
    layout: Layout
    cfg: Config
    target: Weights
    match: Match
    values: Weights
    starts: dict[str, str | None]

    @property
    def problems(self) -> dict[str, list[str]]:
        """dict[str, list[str]]: What does not fit, and which weights."""
        source = self.checkpoint.weights
        found = self.match.found
        problems = {
            "of another shape than the config's": [
                f'{found[name]} {tuple(source[found[name]].shape)} -> '
                f'{name} {tuple(self.target[name].shape)}'
                for name, value in self.values.items()
                if value.shape != self.target[name].shape
            ],
            "of the source, without a place in the config's network": self.match.unknown,
            "of the config's network, not in the source": [
                name for name, why in self.starts.items() if why is None
            ],
        }
        return {what: names for what, names in problems.items() if names}

    @property
    def untrained(self) -> list[str]:
        """list[str]: Names of the weights that no training has set, counters excluded."""
        before = self.checkpoint.meta.get('untrained', ())
        return [
            name
            for name in self.target
            if (name in self.starts or name in before) and not name.endswith(COUNTER)
        ]


def refusal(conversion: Conversion) -> Iterator[str]:
    """Yield the lines that explain why the weights are not converted."""
    yield (
        f'{conversion.checkpoint.path}: not converted, because it does '
        f'not fit {Path(conversion.cfg.filename).name}.'
    )
    for what, names in conversion.problems.items():
        yield f'  {what} ({len(names)}):'
        yield from listed(names)
    kind, keys = conversion.layout.kind, conversion.checkpoint.weights
    for pattern, kinds, hint in _HINTS:
        if kind not in kinds and any(re.fullmatch(pattern, key) for key in keys):
            yield hint
            return
    yield (
        f'Expected an R-CNN of {kind} with the ResNet, the FPN and the heads that the config '
        'states: use the config that belongs to the file.'
    )


def report(conversion: Conversion) -> Iterator[str]:
    """Yield the lines that account for all weights of the file and the model."""
    source = Path(conversion.checkpoint.path).name
    yield (f'{source} ({conversion.layout.kind}) to {Path(conversion.cfg.filename).name}')
    yield 'Converted:'
    parts = Counter(
        next(part for prefix, part in PARTS.items() if name.startswith(prefix))
        for name in conversion.match.found
    )
    for part, count in parts.items():
        yield f'  {part}: {count}'
    yield from _grouped('Left out of the source:', conversion.match.left)
    yield from _grouped('Not in the source:', conversion.starts)
    before = set(conversion.untrained) - conversion.starts.keys()
    if before:
        yield 'Not trained when the source was converted:'
        yield from listed(sorted(before))
    rows = len(conversion.checkpoint.weights[conversion.match.found[_CLASSES]])
    if rows > len(conversion.target[_CLASSES]):
        yield (
            f'Note: of {rows - 1} classes the config has only the person, '
            'whose score now ignores the others. A PersonBBoxHead with '
            f'num_other_classes={rows - 2} keeps the score.'
        )
    for path, expected in conversion.layout.settings.items():
        *owners, key = f'model.{path}'.split('.')
        owner = conversion.cfg
        for part in owners:
            owner = owner and owner.get(part)
        if owner and owner.get(key) != expected:
            found = repr(owner[key]) if key in owner else 'not set'
            yield (
                f'Note: {".".join(owners)}.{key} is {found} in the config, '
                f'but the weights are for {expected!r}.'
            )


def _grouped(title: str, reasons: dict[str, str]) -> Iterator[str]:
    if reasons:
        yield title
    for why in dict.fromkeys(reasons.values()):
        names = [name for name in reasons if reasons[name] == why]
        yield f'  {why} ({len(names)}):'
        yield from listed(names)
