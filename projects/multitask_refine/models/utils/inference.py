"""A network that only finds people can be faster than one that learns."""

import torch
from mmcv.cnn import fuse_conv_bn
from torch import nn

from multitask_refine.ops import InferenceLinear, WinogradConv2d


def prepare_for_inference(model: nn.Module) -> None:
    """Change a network on the CPU to a faster one that finds the same.

    Each batch norm becomes part of the convolution before it, the channels
    lie last in memory, linear layers use the faster of two libraries, and
    what Winograd's method makes of the weights is kept (four times their
    memory). Its weights no longer have the names
    of a checkpoint, and they cannot be changed. The results differ by their
    rounding. A network on CUDA is left as it is.

    Args:
        model (nn.Module): In eval mode, with its weights.
    """
    if next(model.parameters()).is_cuda:
        return
    fuse_conv_bn(model)
    model.to(memory_format=torch.channels_last)
    for layer in model.modules():
        if isinstance(layer, WinogradConv2d):
            layer.prepack()
        elif type(layer) is nn.Linear:
            layer.__class__ = InferenceLinear
