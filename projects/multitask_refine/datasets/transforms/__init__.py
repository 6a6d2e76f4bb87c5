from .copy_paste import MultitaskCopyPaste
from .formatting import FloatResize, LoadMultitaskAnnotations, PackMultitaskInputs
from .loading import CheckedLoadImageFromFile

__all__ = [
    'CheckedLoadImageFromFile',
    'FloatResize',
    'LoadMultitaskAnnotations',
    'MultitaskCopyPaste',
    'PackMultitaskInputs',
]
