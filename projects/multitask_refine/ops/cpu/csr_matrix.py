"""Weighted sums of a table's rows: what pooling and sampling come down to.

With the channels last a pixel of a map is a row of a table, and a sample, or
the mean of samples, a weighted sum of rows. ``embedding_bag`` computes many
such sums in parallel, and the table's gradient is a sum of the same kind.

Shape letters: C channels, N weights.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class CSRMatrix(NamedTuple):
    """Weighted rows of a table to be summed, bag after bag.

    Attributes:
        rows: Index of the row, int64 (N).
        weights: Its weight, (N).
        counts: How many rows each bag has, int64 (bags).
    """

    rows: Tensor
    weights: Tensor
    counts: Tensor


def csr_matmul(table: Tensor, bags: CSRMatrix) -> Tensor:
    """The sums, (bags, C), of rows of a table (rows, C)."""
    return F.embedding_bag(
        bags.rows,
        table.contiguous(),
        bags.counts.cumsum(0) - bags.counts,
        mode='sum',
        per_sample_weights=bags.weights,
    )


def csr_transpose(bags: CSRMatrix, num_rows: int) -> CSRMatrix:
    """For the table's gradient: a bag for each of its rows, of what the row
    gave to which of the sums."""
    order = bags.rows.argsort(stable=True)
    owners = torch.arange(len(bags.counts)).repeat_interleave(bags.counts)
    return CSRMatrix(owners[order], bags.weights[order], bags.rows.bincount(minlength=num_rows))
