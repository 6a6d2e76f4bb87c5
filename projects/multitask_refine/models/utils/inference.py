"""CPU inference optimizations: conv-BN fusion, channels-last, prepacked weights."""

import torch
from mmcv.cnn import fuse_conv_bn
from torch import nn

from multitask_refine.ops import InferenceLinear, WinogradConv2d


def prepare_for_inference(model: nn.Module) -> None:
    """Optimize a network for inference on the CPU, in place.

    Batch normalization is fused into the preceding convolution and the channels are last in
    memory. With ``fast_cpu_ops`` linear layers use the faster of two libraries, and the
    transformed weights of Winograd convolutions are kept (four times their memory). The
    predictions change by rounding only. The parameters no longer have the names of a checkpoint
    and must not be changed. A network on another device stays as it is.

    Args:
        model (nn.Module): A ``MultitaskRCNN`` in evaluation mode, with its weights.
    """
    if not next(model.parameters()).is_cpu:
        return
    fuse_conv_bn(model)
    model.to(memory_format=torch.channels_last)
    if not model.fast_cpu_ops:
        return
    for layer in model.modules():
        if isinstance(layer, WinogradConv2d):
            layer.prepack()
        elif type(layer) is nn.Linear:
            layer.__class__ = InferenceLinear
