"""What finds and shows people without PyTorch.

Nothing in this package imports torch, mmcv, mmengine, mmdet or mmpose. The
pictures, videos, results and drawings are also those of
``projects.multitask_refine.apis``, which imports them from here.
"""

from .description import OnnxError
from .inferencer import OnnxInferencer
from .inputs import InputError
from .tracking import Tracker
from .video import VideoReader, VideoWriter
from .window import NoWindowError

__all__ = [
    'InputError',
    'NoWindowError',
    'OnnxError',
    'OnnxInferencer',
    'Tracker',
    'VideoReader',
    'VideoWriter',
]
