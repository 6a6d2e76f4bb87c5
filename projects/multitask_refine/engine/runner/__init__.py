"""Training loop."""

from .reproducible_loop import ReproducibleTrainLoop

__all__ = ['ReproducibleTrainLoop']
