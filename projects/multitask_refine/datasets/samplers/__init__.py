"""Samplers and batch samplers."""

from .aspect_ratio_grouped_batch_sampler import AspectRatioGroupedBatchSampler
from .multi_source_sampler import MultiSourceInfiniteSampler

__all__ = ['AspectRatioGroupedBatchSampler', 'MultiSourceInfiniteSampler']
