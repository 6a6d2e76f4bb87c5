from .aspect_ratio_batch_sampler import ShapeBatchSampler
from .multi_source_sampler import MultiSourceInfiniteSampler

__all__ = ['MultiSourceInfiniteSampler', 'ShapeBatchSampler']
