"""Matrix products on the CPU by the faster of torch's two libraries."""

from typing import Callable, Optional

import torch
from torch import Tensor, nn

# Up to so many rows oneDNN is the faster one everywhere.
_FEW_ROWS = 64


def multiply(one: Tensor, other: Tensor, bias: Optional[Tensor] = None) -> Tensor:
    """``one @ other`` of matrices (a, b) and (b, c), plus a bias (c).

    In float32 on the CPU they are computed by oneDNN where it is the faster
    library: for a first matrix of few rows, and for all on processors with
    more than AVX2 (docs/performance.md, single functions). Not
    differentiable.
    """
    if not _by_onednn(len(one), one, other):
        return one @ other if bias is None else torch.addmm(bias, one, other)
    return torch.ops.mkldnn._linear_pointwise(one, other.T, bias, 'none', [], '')


def prepack_linear(other: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """:func:`multiply` by a matrix that is the same in many products.

    Args:
        other (Tensor): Shape (b, c).
        rows (int): About how many rows, a, the first matrix will have.
    """
    if not _by_onednn(rows, other):
        return lambda one: one @ other
    packed = torch.ops.mkldnn._reorder_linear_weight(other.T, rows)
    return lambda one: torch.ops.mkldnn._linear_pointwise(one, packed, None, 'none', [], '')


class InferenceLinear(nn.Linear):
    """``nn.Linear`` that computes by :func:`multiply`, for inference."""

    def forward(self, x: Tensor) -> Tensor:
        """(a, b) to (a, c)."""
        return multiply(x, self.weight.T, self.bias)


def _by_onednn(rows: int, *matrices: Tensor) -> bool:
    """Whether a product whose first matrix has so many rows is oneDNN's."""
    # Graphs that are recorded or compiled hold the usual operators; autocast
    # knows only those.
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled('cpu')
        and hasattr(torch.ops.mkldnn, '_linear_pointwise')
        and (rows <= _FEW_ROWS or torch.backends.cpu.get_cpu_capability() != 'AVX2')
        and all(
            matrix.device.type == 'cpu'
            and matrix.dtype == torch.float32
            and matrix.numel() > 0
            and _is_dense(matrix)
            for matrix in matrices
        )
    )


def _is_dense(matrix: Tensor) -> bool:
    """Whether nothing lies between the values; oneDNN is a hundred times
    slower where something does."""
    return matrix.is_contiguous() or matrix.T.is_contiguous()
