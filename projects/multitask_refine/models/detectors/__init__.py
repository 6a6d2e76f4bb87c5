"""Detectors."""

from .multitask_rcnn import MultitaskRCNN

__all__ = ['MultitaskRCNN']
