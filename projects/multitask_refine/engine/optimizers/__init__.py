from .bfloat16_optim_wrapper import Bfloat16OptimWrapper
from .offset_constructor import OFFSET_LAYERS, OffsetOptimWrapperConstructor

__all__ = ['Bfloat16OptimWrapper', 'OFFSET_LAYERS', 'OffsetOptimWrapperConstructor']
