"""Convert checkpoints of Detectron2, torchvision and MMDetection."""

import re
from collections.abc import Callable

from . import detectron2, mmdet, torchvision
from .layout import Layout
from .weights_file import Checkpoint, ConversionError, read_checkpoint

__all__ = ['CONVERTERS', 'ConversionError', 'detect_framework']

# By framework: from a checkpoint to its layout.
CONVERTERS: dict[str, Callable[[Checkpoint], Layout]] = {
    'detectron2': detectron2.describe,
    'torchvision': torchvision.describe,
    'mmdet': mmdet.describe,
}
_MARKS = {'detectron2': r'backbone\.bottom_up\.', 'torchvision': r'backbone\.body\.'}


def detect_framework(path: str) -> str:
    """Detect the framework of a checkpoint by the names of its weights.

    Args:
        path (str): The file.

    Returns:
        str: A key of ``CONVERTERS``: 'mmdet' unless the names are those of another framework,
        also for checkpoints of this project.

    Raises:
        ConversionError: If the file cannot be read.
    """
    names = read_checkpoint(path).weights
    return next(
        (
            framework
            for framework, mark in _MARKS.items()
            if any(re.match(mark, name) for name in names)
        ),
        'mmdet',
    )
