"""Products of a sparse and a dense matrix, by ``embedding_bag``.

With the channels last in memory a pixel of a feature map is a row of a dense matrix, and a
bilinear sample, or the mean of samples, a weighted sum of rows. ``embedding_bag`` computes the
sums in parallel; their gradient is a product with the transposed matrix.

Shape letters: M rows and D columns of the sparse matrix, N stored values, C channels.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class CSRMatrix(NamedTuple):
    """A sparse matrix, compressed by rows.

    Attributes:
        columns: Column of each value, row after row, int64 (N).
        values: The stored values, (N).
        counts: Number of values in each row, int64 (M).
    """

    columns: Tensor
    values: Tensor
    counts: Tensor


def csr_matmul(matrix: CSRMatrix, dense: Tensor) -> Tensor:
    """Multiply a sparse matrix by a dense one.

    Args:
        matrix (CSRMatrix): M rows, D columns.
        dense (Tensor): Shape (D, C).

    Returns:
        Tensor: Shape (M, C).
    """
    row_starts = matrix.counts.cumsum(0) - matrix.counts
    return F.embedding_bag(
        matrix.columns,
        dense.contiguous(),
        row_starts,
        mode='sum',
        per_sample_weights=matrix.values,
    )


def csr_transpose(matrix: CSRMatrix, num_columns: int) -> CSRMatrix:
    """Transpose a sparse matrix.

    Args:
        matrix (CSRMatrix): M rows.
        num_columns (int): D.

    Returns:
        CSRMatrix: D rows, M columns.
    """
    order = matrix.columns.argsort(stable=True)  # within a column, by row
    rows = torch.arange(len(matrix.counts)).repeat_interleave(matrix.counts)
    counts = matrix.columns.bincount(minlength=num_columns)
    return CSRMatrix(rows[order], matrix.values[order], counts)
