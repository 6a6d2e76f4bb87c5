"""Draw weights like those of a trained detector from a seed, the same on every machine.

A parity test needs the same weights in a source's network and in its converted copy. They are
drawn by name instead of stored. Only the uniform numbers of ``RandomState`` are used: NumPy
guarantees that stream, and it calls no function whose last bit depends on the machine. This
file imports nothing of the project, so that it also runs beside other frameworks.
"""

import re
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn


class Rule(NamedTuple):
    """Distribution of the weights and biases of a layer.

    Attributes:
        pattern: Regular expression that the layer name ends with.
        gain: Standard deviation of the outputs for inputs of deviation 1.
        center: Fraction of its mean that is subtracted from each filter. Filters without a
            mean respond to differences; with it, a deep random network hardly depends on its
            input.
        bias: Mean of the biases; in box regression, of those of width and height.
        spread: Standard deviation of the biases.
    """

    pattern: str
    gain: float
    center: float = 1.0
    bias: float = 0.0
    spread: float = 0.1


# The first match counts. Layer names are those of Detectron2, torchvision and MMDetection; the
# gains were tuned by the activations on photos.
RULES = (
    Rule(r'conv2_offset|conv_offset', 0.8, 1.0, 0.0, 0.4),
    Rule(r'stem\.conv1', 0.05, 0.5),  # its pixels have a deviation of 58
    Rule(r'(body|backbone)\.conv1', 3.0, 0.5),
    Rule(r'(res|layer)\d\.\d+\.conv2', 2.5, 0.9),
    Rule(r'shortcut|downsample\.0', 1.45),
    Rule(r'fpn_lateral\d|inner_blocks\.\d\.0|lateral_convs\.\d\.conv', 0.8),
    # Features grow with the level: otherwise only small boxes are detected.
    Rule(r'fpn_output2|layer_blocks\.0\.0|fpn_convs\.0\.conv', 0.9, 0.9),
    Rule(r'fpn_output3|layer_blocks\.1\.0|fpn_convs\.1\.conv', 1.1, 0.9),
    Rule(r'fpn_output4|layer_blocks\.2\.0|fpn_convs\.2\.conv', 1.4, 0.9),
    Rule(r'fpn_output5|layer_blocks\.3\.0|fpn_convs\.3\.conv', 2.2, 0.9),
    Rule(r'rpn_head\.conv|rpn\.head\.conv\.0\.0|rpn_conv', 1.5, 0.9),
    Rule(r'objectness_logits|rpn\.head\.cls_logits|rpn_cls', 1.5, 1.0, -1.0),
    Rule(r'anchor_deltas|rpn\.head\.bbox_pred|rpn_reg', 0.3, 1.0, 0.5),
    Rule(r'fc1|fc6|shared_fcs\.0', 2.0, 0.9),
    Rule(r'fc2|fc7|shared_fcs\.1', 1.5),
    Rule(r'cls_score|fc_cls', 1.0, 1.0, 0.0, 0.0),
    Rule(r'bbox_pred|fc_reg', 1.0, 1.0, 1.0),
    Rule(r'mask_head\.predictor|mask_fcn_logits|conv_logits', 2.0),
    Rule(r'score_lowres', 4.0),
    Rule(r'(mask_head|keypoint_head)\..*', 1.8, 0.9),
    Rule(r'', 1.4),
)
NORM = r'\.norm|\bbn\d|downsample\.1'
LAST_NORM = r'conv3\.norm|\bbn3'
LATE_NORM = r'\.([6-9]|\d\d)\.(conv3\.norm|bn3)'  # of ResNet-101
TRANSPOSED = r'deconv|score_lowres|conv5_mask|upsample'
POOLED = r'fc1|fc6|shared_fcs\.0'  # reads maps of 7 x 7
DELTAS = r'anchor_deltas|bbox_pred|rpn_reg|fc_reg'
CLASSES = r'cls_score|fc_cls'

# Gain and bias of the classification score.
PERSON = (4.2, -6.8)
BACKGROUND = (1.2, 0.0)
OTHER_CLASS = (1.4, -7.0)

PIXEL_STD = 58  # standard deviation of the pixels of a photo


def draw_weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Draw a state dict from the shapes of its tensors.

    Args:
        shapes: Shape of each tensor by its name in the layout of Detectron2, torchvision or
            MMDetection.
        seed: Random seed.

    Returns:
        float32 arrays by name. A tensor depends on seed, name and shape alone; the
        classification scores also on the layout, which is torchvision's if a name starts with
        ``rpn.``.
    """
    torchvision = any(name.startswith('rpn.') for name in shapes)
    return {
        name: _draw_tensor(name, shape, seed, torchvision).astype(np.float32)
        for name, shape in shapes.items()
    }


def draw_state_dict(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """Draw a state dict for a network of this project, without batch counters.

    Args:
        model: A detector; it is not changed.
        seed: Random seed.
    """
    shapes = {
        name: tuple(values.shape)
        for name, values in model.state_dict().items()
        if not name.endswith('num_batches_tracked')
    }
    weights = {
        name: torch.from_numpy(values) for name, values in draw_weights(shapes, seed).items()
    }
    # The first layer is drawn for pixels of deviation 1.
    weights['backbone.conv1.weight'] /= PIXEL_STD / float(model.data_preprocessor.std.mean())
    for name in weights:
        if re.search(r'(heatmap|offset)_pred\.', name):
            weights[name] *= 0.1
    return weights


def draw_indices(name: str, size: int, count: int) -> np.ndarray:
    """Draw ``count`` indices below ``size``, seeded by a name."""
    return np.random.RandomState(crc32(name.encode())).randint(0, size, count)


def _matches(layer: str, pattern: str) -> bool:
    return re.search(f'({pattern})$', layer) is not None


def _draw_tensor(name: str, shape: tuple[int, ...], seed: int, torchvision: bool) -> np.ndarray:
    layer, kind = name.rsplit('.', 1)
    # Mean 0 and deviation 1; each name has its own stream.
    random = np.random.RandomState([seed, crc32(name.encode())])
    # a uniform variable has a deviation of 1 / sqrt(12)
    values = (random.random_sample(tuple(shape)) - 0.5) * np.sqrt(12)

    if _matches(layer, NORM):
        if kind == 'running_var':
            return 1 + 0.2 * values
        if kind != 'weight':
            return 0.1 * values
        # The last normalization of a residual block adds only a little.
        scale = 1.0
        if _matches(layer, LAST_NORM):
            scale = 0.1 if _matches(layer, LATE_NORM) else 0.3
        return scale * (1 + 0.15 * values)

    rule = next(rule for rule in RULES if _matches(layer, rule.pattern))
    if kind == 'bias':
        mean = np.full(len(values), rule.bias)
        if _matches(layer, DELTAS):  # (x, y, w, h) of each class: boxes grow
            mean = mean * (np.arange(len(values)) % 4 >= 2)
        values = mean + rule.spread * values
    else:
        values = _scale_filters(layer, values, rule)
    if _matches(layer, CLASSES):
        # The background is torchvision's first class, and Detectron2's and MMDetection's last.
        scores = np.tile(OTHER_CLASS, (len(values), 1))  # (classes, 2)
        scores[1 if torchvision else 0] = PERSON
        scores[0 if torchvision else -1] = BACKGROUND
        values = values + scores[:, 1] if kind == 'bias' else values * scores[:, :1]
    return values


def _scale_filters(layer: str, values: np.ndarray, rule: Rule) -> np.ndarray:
    """Subtract part of the mean of each filter, and scale by fan-in and gain."""
    shape, fan_in, axis = values.shape, values[0].size, (1,)
    if _matches(layer, TRANSPOSED):  # (inputs, outputs, height, width), stride 2
        # each output is reached by a quarter of the kernel
        fan_in, axis = values[:, 0].size / 4, (0,)
    elif _matches(layer, POOLED):  # (outputs, channels, 7 * 7)
        values, axis = values.reshape(shape[0], -1, 49), (2,)
    elif len(shape) == 4 and shape[2] > 1:
        axis = (2, 3)
    values = values - rule.center * values.mean(axis, keepdims=True)
    return values.reshape(shape) * (rule.gain / np.sqrt(fan_in))
