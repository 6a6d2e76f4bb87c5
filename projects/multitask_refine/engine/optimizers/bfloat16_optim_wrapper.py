"""Mixed precision training in bfloat16, on any device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.runner import autocast
from torch import nn


@OPTIM_WRAPPERS.register_module()
class Bfloat16OptimWrapper(OptimWrapper):
    """Optimizer wrapper that runs forward and loss under bfloat16 autocast.

    Weights and their updates stay float32. MMEngine's ``AmpOptimWrapper`` requires a GPU, and
    scales the loss for the narrow range of float16. bfloat16 has the range of float32, so the
    gradients need no scaling. On a CPU it is faster than float32 only with bfloat16
    instructions (AVX-512 BF16 or AMX); without AVX-512 it is many times slower, and a warning
    says so.

    Args:
        kwargs: As in MMEngine's ``OptimWrapper``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if (
            not torch.cuda.is_available()
            and torch.backends.mkldnn.is_available()
            and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
        ):
            MMLogger.get_current_instance().warning(
                'optim_wrapper.type: PyTorch computes bfloat16 very slowly on this processor, '
                'which has no AVX-512. Train in float32: --cfg-options '
                'optim_wrapper.type=OptimWrapper'
            )

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enable autocast inside of MMEngine's own context.

        Args:
            model (nn.Module): The model.
        """
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
