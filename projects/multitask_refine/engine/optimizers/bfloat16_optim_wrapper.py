"""Mixed precision in bfloat16, on any device."""

from contextlib import contextmanager
from typing import Iterator

import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.optim import OptimWrapper
from mmengine.runner import autocast
from torch import nn


@OPTIM_WRAPPERS.register_module()
class Bfloat16OptimWrapper(OptimWrapper):
    """Run forward and loss under bfloat16 autocast; weights stay float32.

    MMEngine's ``AmpOptimWrapper`` refuses to be built on the CPU, and scales
    the loss for float16's narrow range. bfloat16 has the range of float32,
    so its gradients need no scaling. It is faster than float32 on a CPU only
    if that has bfloat16 instructions (AVX-512 BF16 or AMX).

    Args:
        kwargs: As in MMEngine's ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enable autocast around MMEngine's own context."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
