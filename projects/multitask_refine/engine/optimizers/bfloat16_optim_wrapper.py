"""Mixed precision training in bfloat16, on any device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.optim import OptimWrapper
from mmengine.runner import autocast
from torch import nn


@OPTIM_WRAPPERS.register_module()
class Bfloat16OptimWrapper(OptimWrapper):
    """Optimizer wrapper that runs forward and loss under bfloat16 autocast.

    Weights and their updates stay float32. MMEngine's ``AmpOptimWrapper`` requires a GPU, and
    scales the loss for the narrow range of float16. bfloat16 has the range of float32, so the
    gradients need no scaling. On a CPU it is faster than float32 only with bfloat16
    instructions (AVX-512 BF16 or AMX).

    Args:
        kwargs: As in MMEngine's ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enable autocast inside of MMEngine's own context.

        Args:
            model (nn.Module): The model.
        """
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
