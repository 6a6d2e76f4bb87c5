"""Test-time augmentation."""

from .multitask_tta import MultitaskTTAModel, flip_tta_pipeline

__all__ = ['MultitaskTTAModel', 'flip_tta_pipeline']
