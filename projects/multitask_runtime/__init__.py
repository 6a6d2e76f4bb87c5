"""What finds and shows people without PyTorch.

Nothing in this package imports torch, mmcv, mmengine, mmdet or mmpose. The
pictures, videos, results and drawings are also those of
``multitask_refine.apis``, which imports them from here.
"""

from .io.video import VideoReader, VideoWriter
from .onnx.inferencer import OnnxInferencer
from .tracking.tracker import Tracker
from .utils.errors import InputError, NoWindowError, OnnxError

__all__ = [
    'InputError',
    'NoWindowError',
    'OnnxError',
    'OnnxInferencer',
    'Tracker',
    'VideoReader',
    'VideoWriter',
]
