"""What a converter says of its source, and how rows are brought in order."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from .weights_file import Checkpoint, Weights

Rule = tuple[str, str]

# Endings of names, as groups of a regular expression.
PARAM = '(weight|bias)'
NORM = '(weight|bias|running_mean|running_var|num_batches_tracked)'

_CLASSES = 'roi_head.bbox_head.fc_cls'
# Layers with so many rows for each class, or for all classes together.
_ROWS_PER_CLASS = {'roi_head.bbox_head.fc_reg': 4, 'roi_head.mask_head.conv_logits': 1}
_ANCHOR_LAYERS = ('rpn_head.rpn_cls', 'rpn_head.rpn_reg')


class Layout(NamedTuple):
    r"""What a converter knows of its source.

    Attributes:
        kind: Name of the source.
        rules: Regular expression of a whole name of the source, and the name
            here, in which ``\1`` and so on are its groups. The first rule
            that matches counts.
        person: The person's row in the classifier, the masks and the boxes.
        background: Row of the background in the classifier; -1 is the last.
        num_classes: Numbers of classes, without the background, for which
            ``person`` is known to be right; empty for any.
        derived: Regular expression of names that need no place here, and why.
        size_first: Whether the rows of the RPN run through the ratios of the
            anchors for each size, and not through the sizes for each ratio.
        unit_factors: Whether the factors of modulated convolutions reach from
            0 to 1, and not to 2; None if the file does not tell.
        settings: Settings of the model that the weights were trained with.
    """

    kind: str
    rules: Sequence[Rule]
    person: int
    background: int
    num_classes: Sequence[int] = ()
    derived: Sequence[Rule] = ()
    size_first: bool = False
    unit_factors: bool | None = True
    settings: dict[str, object] = {}


def renamed(layers: dict[str, str]) -> list[Rule]:
    """Rules for layers with weight and bias.

    Args:
        layers (dict[str, str]): Name in the source, and name here.
    """
    return [(rf'{re.escape(source)}\.{PARAM}', rf'{name}.\1') for source, name in layers.items()]


def arrange(
    checkpoint: Checkpoint, layout: Layout, found: dict[str, str], network: nn.Module
) -> Weights:
    """Bring the rows of the weights into this project's order.

    Args:
        checkpoint (Checkpoint): The file.
        layout (Layout): What is known of it.
        found (dict[str, str]): Names here, each with its name in the file.
        network (nn.Module): The network that gets the weights.

    Returns:
        dict[str, Tensor]: The weights by their names here; of what has not
        as many axes as the network's weight the rows are as in the file.

    Raises:
        SystemExit: If the file does not tell which class is the person, or
            how far a modulated convolution's factors reach.
    """
    values = {name: checkpoint.weights[key] for name, key in found.items()}
    target = network.state_dict()
    for name, value in values.items():
        layer = name.rpartition('.')[0]
        if value.dim() != target[name].dim():
            continue
        if layer == _CLASSES:
            _check_classes(checkpoint, layout, len(value) - 1)
            values[name] = value[_class_order(layout, len(value), len(target[name]))]
        elif layer in _ROWS_PER_CLASS:
            values[name] = _person_rows(value, layout.person, _ROWS_PER_CLASS[layer])
        elif layer in _ANCHOR_LAYERS and layout.size_first:
            values[name] = _ratio_first(value, network.rpn_head.prior_generator)
    for name in _modulated(values, network):
        _check_factors(checkpoint, layout, name)
        if layout.unit_factors:
            # sum(w f x) = sum((w / 2) (2 f) x); the bias has no factor.
            values[f'{name}.weight'] = values[f'{name}.weight'] / 2
    return values


def _check_classes(checkpoint: Checkpoint, layout: Layout, num_classes: int) -> None:
    if layout.num_classes and num_classes not in layout.num_classes:
        expected = ' or '.join(str(count) for count in layout.num_classes)
        raise SystemExit(
            f'{checkpoint.path}: not converted. Its classifier has '
            f'{num_classes} classes and the background; expected {expected}, '
            'of which it is known which one is the person.'
        )


def _class_order(layout: Layout, rows: int, wanted: int) -> list[int]:
    """The person, the other classes where there is room, the background."""
    background = layout.background % rows
    others = [row for row in range(rows) if row not in (layout.person, background)]
    return [layout.person, *(others if wanted > 2 else []), background]


def _person_rows(value: Tensor, person: int, size: int) -> Tensor:
    """The person's rows, or the only ones."""
    if len(value) <= size:
        return value
    return value[size * person : size * (person + 1)]


def _ratio_first(value: Tensor, anchors: object) -> Tensor:
    """mmdet's order of the anchors of a cell (its ``scale_major``)."""
    sizes, ratios = len(anchors.scales), len(anchors.ratios)
    if not anchors.scale_major or len(value) % (sizes * ratios):
        return value
    grid = value.unflatten(0, (sizes, ratios, -1))
    return grid.transpose(0, 1).flatten(0, 2)


def _modulated(values: Weights, network: nn.Module) -> list[str]:
    """Convolutions whose factors come from the source."""
    return [
        name
        for name, module in network.named_modules()
        if getattr(module, 'modulated', False)
        and {f'{name}.weight', f'{name}.conv_offset.weight'} <= values.keys()
    ]


def _check_factors(checkpoint: Checkpoint, layout: Layout, name: str) -> None:
    if layout.unit_factors is None:
        raise SystemExit(
            f'{checkpoint.path}: not converted. {name} is a modulated '
            'convolution, whose factors reach to 1 in mmdet and to 2 in this '
            'project, and without meta the file does not tell which it is. '
            'Take the checkpoint as the training wrote it.'
        )
