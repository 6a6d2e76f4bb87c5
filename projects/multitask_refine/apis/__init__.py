"""What users call: training, test and inference."""

from multitask_runtime import InputError, NoWindowError, Result, Tracker, VideoReader, VideoWriter

from .inferencer import MultitaskInferencer

__all__ = [
    'InputError',
    'MultitaskInferencer',
    'NoWindowError',
    'Result',
    'Tracker',
    'VideoReader',
    'VideoWriter',
]
