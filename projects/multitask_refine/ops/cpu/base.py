"""Base class and helper of the CPU implementations."""

import torch


class FastCPUModule:
    """Mixin of the layers that have an implementation of their own for the CPU.

    Attributes:
        fast_cpu_ops: Whether the layer uses it; otherwise it computes as PyTorch or mmcv does.
    """

    fast_cpu_ops: bool = True


def is_tracing() -> bool:
    """Return whether a graph is recorded; it shall hold PyTorch's own operators."""
    tracing: bool = torch.jit.is_tracing()
    return tracing
