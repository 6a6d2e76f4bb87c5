"""Is a loss finite?"""

import math
from typing import Dict

import torch
from torch import Tensor


class NonFiniteLossError(ArithmeticError):
    """A loss of NaN or infinity.

    Args:
        terms (dict[str, float]): All terms of the loss, ``loss`` being their
            sum.
    """

    def __init__(self, terms: Dict[str, float]) -> None:
        self.terms = terms
        bad = [
            f'{name} is {value}'
            for name, value in terms.items()
            if name != 'loss' and not math.isfinite(value)
        ]
        super().__init__(f'The loss is not finite: {", ".join(bad) or "the sum of its terms"}')


def check_finite(total: Tensor, terms: Dict[str, Tensor]) -> None:
    """Refuse a loss that is not finite.

    The sum is finite only if its terms are: one number is brought from the
    GPU.

    Args:
        total (Tensor): The loss as it is minimised, before any scaling.
        terms (dict[str, Tensor]): What is logged.

    Raises:
        NonFiniteLossError: If it is NaN or infinite.
    """
    if not torch.isfinite(total):
        raise NonFiniteLossError(
            {name: float(value) for name, value in terms.items() if 'loss' in name}
        )
