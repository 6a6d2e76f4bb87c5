"""Optimizer wrappers and their constructor."""

from .bfloat16_optim_wrapper import Bfloat16OptimWrapper
from .offset_constructor import OFFSET_LAYERS, OffsetOptimWrapperConstructor

__all__ = ['OFFSET_LAYERS', 'Bfloat16OptimWrapper', 'OffsetOptimWrapperConstructor']
