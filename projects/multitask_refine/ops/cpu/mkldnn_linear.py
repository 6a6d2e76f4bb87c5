"""Linear layers on the CPU, by oneDNN where it is faster than PyTorch's BLAS library.

Shape letters: N rows of the input, C input and D output channels.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import FastCPUModule, is_tracing

# oneDNN is faster on every processor up to this number of rows.
_MAX_ROWS_AVX2 = 64


def mkldnn_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``F.linear`` by the faster library.

    In float32 on the CPU that is oneDNN for an input of few rows, and for all inputs on
    processors with more than AVX2 (docs/performance.md, single functions). Not differentiable.

    Args:
        x (Tensor): Shape (N, C).
        weight (Tensor): Shape (D, C).
        bias (Tensor, optional): Shape (D).

    Returns:
        Tensor: Shape (N, D).
    """
    if not _is_mkldnn_faster(len(x), x, weight):
        return F.linear(x, weight, bias)
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')
    return y


def prepack_linear(weight: Tensor, num_rows: int) -> Callable[[Tensor], Tensor]:
    """Prepare :func:`mkldnn_linear` for many inputs and one weight.

    Args:
        weight (Tensor): Shape (D, C).
        num_rows (int): Approximate number of rows of the inputs, N.

    Returns:
        Callable: Maps an input (N, C) to (N, D).
    """
    if not _is_mkldnn_faster(num_rows, weight):
        return lambda x: x @ weight.T
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, num_rows)

    def linear(x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, None, 'none', [], '')
        return y

    return linear


class InferenceLinear(FastCPUModule, nn.Linear):
    """``nn.Linear`` for inference: :func:`mkldnn_linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map an input (N, C) to (N, D)."""
        if not self.fast_cpu_ops:
            return super().forward(x)
        return mkldnn_linear(x, self.weight, self.bias)


def _is_mkldnn_faster(num_rows: int, *matrices: Tensor) -> bool:
    """Decide whether oneDNN multiplies matrices, the first of ``num_rows`` rows, faster."""
    # Recorded and compiled graphs hold PyTorch's own operators, and autocast knows only those.
    return (
        not torch.compiler.is_compiling()
        and not is_tracing()
        and not torch.is_autocast_enabled('cpu')
        and hasattr(torch.ops.mkldnn, '_linear_pointwise')
        and (num_rows <= _MAX_ROWS_AVX2 or torch.backends.cpu.get_cpu_capability() != 'AVX2')
        and all(
            matrix.device.type == 'cpu'
            and matrix.dtype == torch.float32
            and matrix.numel() > 0
            # With gaps between the values oneDNN is a hundred times slower.
            and (matrix.is_contiguous() or matrix.T.is_contiguous())
            for matrix in matrices
        )
    )
