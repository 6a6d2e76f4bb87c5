"""Matrix products on the CPU by oneDNN, one of torch's two libraries."""
from typing import Callable, Optional

import torch
from torch import Tensor, nn


def multiply(one: Tensor, other: Tensor,
             bias: Optional[Tensor] = None) -> Tensor:
    """``one @ other`` of matrices (a, b) and (b, c), plus a bias (c).

    In float32 on the CPU they are computed by oneDNN. Whether it is faster
    than the library that ``@`` calls depends on the shapes and the processor
    (docs/performance.md, single functions). Not differentiable.
    """
    if not _by_onednn(one, other):
        return one @ other if bias is None else torch.addmm(bias, one, other)
    return torch.ops.mkldnn._linear_pointwise(one, other.T, bias, 'none', [],
                                              '')


def prepare_product(other: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """:func:`multiply` by a matrix that is the same in many products.

    Args:
        other (Tensor): Shape (b, c).
        rows (int): About how many rows, a, the first matrix will have.
    """
    if not _by_onednn(other, other):
        return lambda one: one @ other
    packed = torch.ops.mkldnn._reorder_linear_weight(other.T, rows)
    return lambda one: torch.ops.mkldnn._linear_pointwise(
        one, packed, None, 'none', [], '')


class PredictingLinear(nn.Linear):
    """``nn.Linear`` that computes by :func:`multiply`, for inference."""

    def forward(self, x: Tensor) -> Tensor:
        """(a, b) to (a, c)."""
        return multiply(x, self.weight.T, self.bias)


def _by_onednn(one: Tensor, other: Tensor) -> bool:
    # Graphs that are recorded or compiled hold the usual operators; autocast
    # knows only those.
    return (hasattr(torch.ops.mkldnn, '_linear_pointwise')
            and one.device.type == other.device.type == 'cpu'
            and one.dtype == other.dtype == torch.float32
            and one.numel() > 0 and other.numel() > 0
            and _is_dense(one) and _is_dense(other)
            and not torch.is_autocast_enabled('cpu')
            and not torch.jit.is_tracing()
            and not torch.compiler.is_compiling())


def _is_dense(matrix: Tensor) -> bool:
    """Whether nothing lies between the values; oneDNN is a hundred times
    slower where something does."""
    return matrix.is_contiguous() or matrix.T.is_contiguous()
