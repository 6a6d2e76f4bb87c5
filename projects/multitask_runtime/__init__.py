"""Inference without PyTorch: ONNX models, images, videos, tracking and drawing.

Nothing in this package imports torch, mmcv, mmengine, mmdet or mmpose. The
inferencer of ``multitask_refine.apis`` shares its inputs, outputs and drawing.
"""

from .io.video import VideoReader, VideoWriter
from .onnx.inferencer import OnnxInferencer
from .result import Result
from .tracking.tracker import Tracker
from .utils.errors import FormatError, ImageNotKeptError, InputError, NoWindowError, OnnxError

__all__ = [
    'FormatError',
    'ImageNotKeptError',
    'InputError',
    'NoWindowError',
    'OnnxError',
    'OnnxInferencer',
    'Result',
    'Tracker',
    'VideoReader',
    'VideoWriter',
]
