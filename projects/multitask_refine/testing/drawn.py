"""Weights and pictures drawn from a seed, the same bits on every machine.

A parity test needs a source's network and its converted copy to hold the same
weights. They are drawn by name instead of stored. Only ``RandomState``'s
uniform numbers are used: numpy keeps that stream for good, and it needs no
function whose last bit depends on the machine.
"""

import re
from typing import Dict, NamedTuple, Sequence, Tuple
from zlib import crc32

import numpy as np


class Rule(NamedTuple):
    """How the filters and biases of a layer are drawn.

    Args:
        pattern: Regular expression that the layer's name ends with.
        gain: Deviation of the outputs for inputs of deviation 1.
        centre: Share of a filter's mean that is taken from it. A filter
            without a mean sees what differs, not what is the same everywhere;
            else a deep random network shows little of its input.
        bias: Mean of the biases; for a box's deltas, of those of its size.
        spread: Deviation of the biases.
    """

    pattern: str
    gain: float
    centre: float = 1.0
    bias: float = 0.0
    spread: float = 0.1


# The first that fits counts; the names are those of Detectron2, torchvision
# and mmdet. The gains were found by looking at the numbers on photos.
RULES = (
    Rule(r'conv2_offset|conv_offset', 0.8, 1.0, 0.0, 0.4),
    Rule(r'stem\.conv1', 0.05, 0.5),  # its pixels have a deviation of 58
    Rule(r'(body|backbone)\.conv1', 3.0, 0.5),
    Rule(r'(res|layer)\d\.\d+\.conv2', 2.5, 0.9),
    Rule(r'shortcut|downsample\.0', 1.45),
    Rule(r'fpn_lateral\d|inner_blocks\.\d\.0|lateral_convs\.\d\.conv', 0.8),
    # larger boxes get larger features: else only small ones are found
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
LATE_NORM = r'\.([6-9]|\d\d)\.(conv3\.norm|bn3)'  # a depth of 101
TRANSPOSED = r'deconv|score_lowres|conv5_mask|upsample'
POOLED = r'fc1|fc6|shared_fcs\.0'  # reads maps of 7 x 7
DELTAS = r'anchor_deltas|bbox_pred|rpn_reg|fc_reg'
CLASSES = r'cls_score|fc_cls'

# gain and bias of a class's score
PERSON = (4.2, -6.8)
BACKGROUND = (1.2, 0.0)
OTHER_CLASS = (1.4, -7.0)


def _is(layer: str, pattern: str) -> bool:
    return re.search(f'({pattern})$', layer) is not None


def _uniform(name: str, shape: Sequence[int], seed: int) -> np.ndarray:
    """Numbers of mean 0 and deviation 1, every name has its own stream."""
    random = np.random.RandomState([seed, crc32(name.encode())])
    return (random.random_sample(tuple(shape)) - 0.5) * np.sqrt(12)


def _norm(layer: str, kind: str, values: np.ndarray) -> np.ndarray:
    """A trained batch norm; the last one of a block adds only a little."""
    if kind == 'running_var':
        return 1 + 0.2 * values
    if kind != 'weight':
        return 0.1 * values
    size = 1.0
    if _is(layer, LAST_NORM):
        size = 0.1 if _is(layer, LATE_NORM) else 0.3
    return size * (1 + 0.15 * values)


def _filters(layer: str, values: np.ndarray, rule: Rule) -> np.ndarray:
    """Filters scaled by their number of inputs, less part of their mean."""
    shape, inputs, axis = values.shape, values[0].size, (1,)
    if _is(layer, TRANSPOSED):  # (inputs, outputs, height, width), stride 2
        inputs, axis = values[:, 0].size / 4, (0,)
    elif _is(layer, POOLED):
        values, axis = values.reshape(shape[0], -1, 49), (2,)
    elif len(shape) == 4 and shape[2] > 1:
        axis = (2, 3)
    values = values - rule.centre * values.mean(axis, keepdims=True)
    return values.reshape(shape) * (rule.gain / np.sqrt(inputs))


def _biases(layer: str, values: np.ndarray, rule: Rule) -> np.ndarray:
    mean = np.full(len(values), rule.bias)
    if _is(layer, DELTAS):  # (x, y, width, height): boxes grow
        mean = mean * (np.arange(len(values)) % 4 >= 2)
    return mean + rule.spread * values


def _scale_classes(values: np.ndarray, kind: str, torchvision: bool) -> np.ndarray:
    """Scores of the person, of nothing and of the other classes differ.

    torchvision's background comes first; Detectron2's and mmdet's last.
    """
    scales = np.tile(OTHER_CLASS, (len(values), 1))
    scales[1 if torchvision else 0] = PERSON
    scales[0 if torchvision else -1] = BACKGROUND
    return values + scales[:, 1] if kind == 'bias' else values * scales[:, :1]


def _draw(name: str, shape: Tuple[int, ...], seed: int, torchvision: bool) -> np.ndarray:
    layer, kind = name.rsplit('.', 1)
    values = _uniform(name, shape, seed)
    if _is(layer, NORM):
        return _norm(layer, kind, values)
    rule = next(rule for rule in RULES if _is(layer, rule.pattern))
    fill = _biases if kind == 'bias' else _filters
    values = fill(layer, values, rule)
    if _is(layer, CLASSES):
        values = _scale_classes(values, kind, torchvision)
    return values


def draw_weights(shapes: Dict[str, Tuple[int, ...]], seed: int) -> Dict[str, np.ndarray]:
    """Weights like a trained detector's, for all names of a state dict.

    Args:
        shapes: Shape of every tensor by its name in Detectron2's,
            torchvision's or mmdet's layout.
        seed: Other seeds give other weights.

    Returns:
        float32 arrays by name. A tensor depends on the seed, its name and
        shape and, for the scores of classes, on whose layout it is.
    """
    torchvision = any(name.startswith('rpn.') for name in shapes)
    return {
        name: _draw(name, shape, seed, torchvision).astype(np.float32)
        for name, shape in shapes.items()
    }


def _noise(random: np.random.RandomState, height: int, width: int, grain: int) -> np.ndarray:
    """(H, W, 3) numbers in [0, 1] that change over ``grain`` pixels."""
    grid = random.random_sample((height // grain + 2, width // grain + 2, 3))
    y, x = np.arange(height) / grain, np.arange(width) / grain
    top, left = y.astype(int), x.astype(int)
    y, x = (y - top)[:, None, None], (x - left)[None, :, None]
    rows = grid[top] * (1 - y) + grid[top + 1] * y
    return rows[:, left] * (1 - x) + rows[:, left + 1] * x


def draw_image(seed: int, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: rectangles and discs over noise, all with a texture."""
    random = np.random.RandomState(seed)
    picture = 60 + 130 * _noise(random, height, width, 48)
    y, x = np.arange(height)[:, None], np.arange(width)[None]
    for i in range(24):
        top, left = random.randint(height), random.randint(width)
        tall, wide = random.randint(10, height // 2, 2)
        inside = (abs(y - top) * 2 < tall) & (abs(x - left) * 2 < wide)
        if i % 2:
            inside = (y - top) ** 2 + (x - left) ** 2 < (min(tall, wide) / 2) ** 2
        picture[inside] = random.randint(0, 256, 3)
    picture += 50 * (_noise(random, height, width, 3) - 0.5)
    return picture.clip(0, 255).astype(np.uint8)


def draw_indices(name: str, size: int, count: int) -> np.ndarray:
    """Which ``count`` of ``size`` numbers are compared, a choice by name."""
    random = np.random.RandomState(crc32(name.encode()))
    return random.randint(0, size, count)
