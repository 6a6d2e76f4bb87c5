"""Layout of a source framework, and reordering of its weights."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from .weights_file import Checkpoint, ConversionError, Weights

Rule = tuple[str, str]

# Endings of names, as groups of a regular expression.
PARAM = '(weight|bias)'
NORM = '(weight|bias|running_mean|running_var|num_batches_tracked)'

_CLASSES = 'roi_head.bbox_head.fc_cls'
# Layers with so many rows for each class, or for all classes together.
_ROWS_PER_CLASS = {'roi_head.bbox_head.fc_reg': 4, 'roi_head.mask_head.conv_logits': 1}
_ANCHOR_LAYERS = ('rpn_head.rpn_cls', 'rpn_head.rpn_reg')


class Layout(NamedTuple):
    r"""Names and order of the weights of a source framework.

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
        unit_masks: Whether the masks of modulated convolutions reach from 0 to
            1, and not to 2; None if the file does not tell.
        settings: Settings of the model that the weights were trained with.
    """

    kind: str
    rules: Sequence[Rule]
    person: int
    background: int
    num_classes: Sequence[int] = ()
    derived: Sequence[Rule] = ()
    size_first: bool = False
    unit_masks: bool | None = True
    settings: dict[str, object] = {}


def renamed(layers: dict[str, str]) -> list[Rule]:
    """Return the rules of layers with weight and bias.

    Args:
        layers (dict[str, str]): Name in the source, and name here.
    """
    return [(rf'{re.escape(source)}\.{PARAM}', rf'{name}.\1') for source, name in layers.items()]


def arrange(
    checkpoint: Checkpoint, layout: Layout, found: dict[str, str], network: nn.Module
) -> Weights:
    """Reorder the rows of the weights as in this project.

    Args:
        checkpoint (Checkpoint): The file.
        layout (Layout): What is known of it.
        found (dict[str, str]): Names here, each with its name in the file.
        network (nn.Module): The network that gets the weights.

    Returns:
        dict[str, Tensor]: The weights by their names here; of what has not
        as many axes as the network's weight the rows are as in the file.

    Raises:
        ConversionError: If the file does not tell which class is the person, or
            the range of a modulated convolution's mask.
    """
    values = {name: checkpoint.weights[key] for name, key in found.items()}
    target = network.state_dict()
    for name, value in values.items():
        layer = name.rpartition('.')[0]
        if value.dim() != target[name].dim():
            continue
        if layer == _CLASSES:
            rows, background = len(value), layout.background % len(value)
            if layout.num_classes and rows - 1 not in layout.num_classes:
                expected = ' or '.join(str(count) for count in layout.num_classes)
                raise ConversionError(
                    f'{checkpoint.path}: not converted. Its classifier has {rows - 1} classes '
                    f'and the background; expected {expected}, of which it is known which one '
                    'is the person.'
                )
            # person, other classes if the config has them, background
            others = [row for row in range(rows) if row not in (layout.person, background)]
            kept = others if len(target[name]) > 2 else []
            values[name] = value[[layout.person, *kept, background]]
        elif layer in _ROWS_PER_CLASS:
            size = _ROWS_PER_CLASS[layer]
            if len(value) > size:  # class-specific
                values[name] = value[size * layout.person : size * (layout.person + 1)]
        elif layer in _ANCHOR_LAYERS and layout.size_first:
            anchors = network.rpn_head.prior_generator
            sizes, ratios = len(anchors.scales), len(anchors.ratios)
            # (sizes * ratios * C, ...) to mmdet's ratio-first order, its scale_major
            if anchors.scale_major and not len(value) % (sizes * ratios):
                grid = value.unflatten(0, (sizes, ratios, -1))
                values[name] = grid.transpose(0, 1).flatten(0, 2)
    for name, module in network.named_modules():
        converted = {f'{name}.weight', f'{name}.conv_offset.weight'} <= values.keys()
        if not (getattr(module, 'modulated', False) and converted):
            continue
        if layout.unit_masks is None:
            raise ConversionError(
                f'{checkpoint.path}: not converted. {name} is a modulated convolution, whose '
                'mask reaches to 1 in mmdet and to 2 in this project, and without meta the '
                'file does not tell which it is. Take the checkpoint as the training wrote it.'
            )
        if layout.unit_masks:
            # sum(w m x) = sum((w / 2) (2 m) x); the bias has no mask
            values[f'{name}.weight'] = values[f'{name}.weight'] / 2
    return values
