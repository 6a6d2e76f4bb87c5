"""Transforms of the data pipeline."""

from .copy_paste import MultitaskCopyPaste
from .formatting import PackMultitaskInputs
from .loading import CheckedLoadImageFromFile, LoadMultitaskAnnotations
from .resize import FloatResize

__all__ = [
    'CheckedLoadImageFromFile',
    'FloatResize',
    'LoadMultitaskAnnotations',
    'MultitaskCopyPaste',
    'PackMultitaskInputs',
]
