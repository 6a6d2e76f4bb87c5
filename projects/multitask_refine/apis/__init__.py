"""What users call: training, test and inference."""

from multitask_runtime import InputError, NoWindowError, Tracker, VideoReader, VideoWriter

from .inferencer import MultitaskInferencer

__all__ = [
    'InputError',
    'MultitaskInferencer',
    'NoWindowError',
    'Tracker',
    'VideoReader',
    'VideoWriter',
]
