"""Detectors."""

from .combined_rcnn import CombinedRCNN
from .multitask_rcnn import MultitaskRCNN

__all__ = ['CombinedRCNN', 'MultitaskRCNN']
