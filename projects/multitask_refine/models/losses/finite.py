"""Check that a loss is finite."""

import math

import torch
from torch import Tensor


class NonFiniteLossError(ArithmeticError):
    """A loss that is NaN or infinite.

    Args:
        terms (dict[str, float]): All terms of the loss; ``loss`` is their sum.
    """

    def __init__(self, terms: dict[str, float]) -> None:
        """Name the terms that are not finite."""
        self.terms = terms
        bad = [
            f'{name} is {value}'
            for name, value in terms.items()
            if name != 'loss' and not math.isfinite(value)
        ]
        super().__init__(f'The loss is not finite: {", ".join(bad) or "the sum of its terms"}')


def check_finite(total: Tensor, terms: dict[str, Tensor]) -> None:
    """Raise an error if a loss is not finite.

    The sum is finite only if all terms are.

    Args:
        total (Tensor): The loss that is minimized, before any scaling.
        terms (dict[str, Tensor]): Its terms, as they are logged.

    Raises:
        NonFiniteLossError: If it is NaN or infinite.
    """
    if not torch.isfinite(total):
        raise NonFiniteLossError(
            {name: float(value) for name, value in terms.items() if 'loss' in name}
        )
