"""Sparse products beside dense ones."""

import torch

from multitask_refine.ops.cpu.csr_matrix import CSRMatrix, csr_matmul, csr_transpose

# [[0, 2, 0], [0, 0, 0], [3, 0, 4]]; the values of a row may be in any order.
MATRIX = CSRMatrix(torch.tensor([1, 2, 0]), torch.tensor([2.0, 4.0, 3.0]), torch.tensor([1, 0, 2]))
DENSE = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, 4.0]])


def test_product_and_product_with_the_transposed_matrix():
    torch.manual_seed(0)
    other = torch.rand(3, 5)
    torch.testing.assert_close(csr_matmul(MATRIX, other), DENSE @ other)
    torch.testing.assert_close(csr_matmul(csr_transpose(MATRIX, 3), other), DENSE.T @ other)


def test_columns_without_values_are_rows_without_values():
    transposed = csr_transpose(MATRIX, 5)
    assert transposed.counts.tolist() == [1, 1, 1, 0, 0]
    assert csr_matmul(transposed, torch.ones(3, 1)).flatten().tolist() == [3, 2, 4, 0, 0]
