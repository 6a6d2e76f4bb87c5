"""Weights like a trained network's for any config of this project."""

import re
from typing import Dict

import torch
from torch import Tensor, nn

from .drawn import draw_weights

PIXELS = 58  # deviation of an image's


def draw_synthetic_weights(model: nn.Module, seed: int) -> Dict[str, Tensor]:
    """Draw a state dict by the names of the weights, without the counters of
    batch norms; the network itself is left as it is."""
    shapes = {
        name: tuple(values.shape)
        for name, values in model.state_dict().items()
        if not name.endswith('num_batches_tracked')
    }
    weights = {
        name: torch.from_numpy(values) for name, values in draw_weights(shapes, seed).items()
    }
    # The first layer is drawn for pixels of deviation 1.
    deviation = PIXELS / float(model.data_preprocessor.std.mean())
    weights['backbone.conv1.weight'] /= deviation
    for name in weights:
        if re.search(r'(heatmap|offset)_pred\.', name):
            weights[name] *= 0.1
    return weights
