"""Implementations that only make the CPU faster.

Results differ from those of PyTorch and mmcv by rounding only. ``model.fast_cpu_ops`` in a config
switches all of them on (the default) or off, see :func:`set_fast_cpu_ops`:

========================= ===================================================================
``WinogradConv2d``        3x3 ``nn.Conv2d`` by Winograd's minimal filtering
``RefinedConv2d``         mmcv's deformable convolution by sparse gathering and matrix products
``SeparableRoIAlign``     mmcv's RoIAlign by separable bilinear weights
``SyncAvgFactorRPNHead``  mmcv's NMS, vectorized over pairs of boxes and level by level
``InferenceLinear``       ``nn.Linear`` by oneDNN (private operators ``torch.ops.mkldnn``),
                          in networks that ``prepare_for_inference`` has changed
========================= ===================================================================

Layers become ``WinogradConv2d`` and ``InferenceLinear`` by assigning to ``__class__``: their
parameters and the names in a checkpoint stay the same.
"""

from .base import FastCPUModule
from .switch import set_fast_cpu_ops

__all__ = ['FastCPUModule', 'set_fast_cpu_ops']
