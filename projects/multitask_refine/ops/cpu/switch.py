"""The switch of the CPU implementations."""

from torch import nn

from .base import FastCPUModule
from .winograd import convert_to_winograd


def set_fast_cpu_ops(model: nn.Module, enabled: bool) -> None:
    """Switch the CPU implementations of all layers of a network on or off.

    Layers on CUDA compute the same either way. Parameters and their names do not change.

    Args:
        model (nn.Module): The network; changed in place.
        enabled (bool): Whether to use the CPU implementations. If so, large 3x3 convolutions
            become ``WinogradConv2d``.
    """
    if enabled:
        convert_to_winograd(model)
    for layer in model.modules():
        if isinstance(layer, FastCPUModule):
            layer.fast_cpu_ops = enabled
