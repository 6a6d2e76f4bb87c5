"""Videos and cameras, frame by frame."""
import math
from pathlib import Path
from typing import Iterator, Optional, Union

import cv2
import numpy as np

from .inputs import InputError

CODEC = 'mp4v'
_USUAL_RATE = 30.0  # for cameras and files that do not say


class VideoReader:
    """A video file or camera, one frame in memory at a time.

    Args:
        source (str | int): Path of the file, or index of the camera.

    Attributes:
        rate (float): Frames a second.
        count (int | None): Frames that the file says it has; None if it does
            not say, or for a camera.

    Raises:
        InputError: If it cannot be opened.
    """

    def __init__(self, source: Union[str, int]) -> None:
        self.source = source
        self._capture = cv2.VideoCapture(source)
        if not self._capture.isOpened():
            raise InputError(_unreadable(source))
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if math.isfinite(rate) and rate > 0 else _USUAL_RATE
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.count = count if count > 0 else None

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the frames, (H, W, 3) BGR uint8, upright.

        Raises:
            InputError: If there is not a single one.
        """
        found, frame = self._capture.read()
        if not found:
            raise InputError(_unreadable(self.source))
        while found:
            yield frame
            found, frame = self._capture.read()

    def close(self) -> None:
        """Let go of the file or camera."""
        self._capture.release()


def count_frames(path: str) -> Optional[int]:
    """How many frames a video file says it has.

    Args:
        path (str): Path of the file.

    Returns:
        int | None: None if the file does not say; 0 if it cannot be opened.
    """
    try:
        reader = VideoReader(path)
    except InputError:
        return 0
    reader.close()
    return reader.count


def _unreadable(source: Union[str, int]) -> str:
    if isinstance(source, int):
        return (f'camera {source}: expected a camera of this index that can '
                'be opened, found none')
    if not Path(source).is_file():
        return f'{source}: there is no such file'
    return (f'{source}: expected a video, found {Path(source).stat().st_size} '
            'bytes of which OpenCV reads no frame')


class VideoWriter:
    """Write frames into an MP4 file.

    An odd width or height grows by one pixel, because MP4 has even ones.

    Args:
        path (str | Path): The file; its folder is made.
        rate (float): Frames a second.
    """

    def __init__(self, path: Union[str, Path], rate: float) -> None:
        self.path = Path(path)
        self.rate = rate
        self._writer = None

    def write(self, frame: np.ndarray) -> None:
        """Add a frame.

        Args:
            frame (np.ndarray): (H, W, 3) BGR uint8, all of one size.

        Raises:
            OSError: If a video of this size cannot be written there.
        """
        frame = _even(frame)
        if self._writer is None:
            self._writer = self._open(frame)
        self._writer.write(frame)

    def close(self) -> None:
        """Finish the file; it is not complete before."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None

    def _open(self, frame: np.ndarray) -> cv2.VideoWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        height, width = frame.shape[:2]
        writer = cv2.VideoWriter(
            str(self.path), cv2.VideoWriter_fourcc(*CODEC), self.rate,
            (width, height))
        if not writer.isOpened():
            raise OSError(
                f'{self.path}: OpenCV cannot write a video here ({width} x '
                f'{height} pixels, {self.rate:g} frames a second, codec '
                f'{CODEC}). Is the folder writable, and was OpenCV built '
                'with FFMPEG (cv2.getBuildInformation())?')
        return writer


def _even(frame: np.ndarray) -> np.ndarray:
    """Repeat the last row or column where their number is odd."""
    height, width = frame.shape[:2]
    if height % 2 == width % 2 == 0:
        return frame
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), 'edge')
