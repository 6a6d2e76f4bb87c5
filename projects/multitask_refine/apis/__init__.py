from .drawing import NoWindowError
from .inferencer import MultitaskInferencer
from .inputs import InputError
from .tracking import Tracker
from .video import VideoReader, VideoWriter

__all__ = [
    'InputError', 'MultitaskInferencer', 'NoWindowError', 'Tracker',
    'VideoReader', 'VideoWriter'
]
