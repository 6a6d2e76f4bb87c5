"""Videos and cameras, frame by frame."""

import math
import os
import time
from pathlib import Path
from typing import Iterator, Optional, Union

import cv2
import numpy as np

from multitask_runtime.utils.errors import InputError

CODEC = 'mp4v'
_USUAL_RATE = 30.0  # for cameras and files that do not say
_MAX_RATE = 1000.0  # streams that do not know theirs say 90000
_MAX_DAMAGED = 10  # frames in a row


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
        try:
            self._capture = cv2.VideoCapture(
                source if isinstance(source, int) else _plain_path(source)
            )
        except (cv2.error, UnicodeEncodeError):
            raise InputError(_unreadable(source)) from None
        if not self._capture.isOpened():
            raise InputError(_unreadable(source))
        self.rate = frame_rate(self._capture)
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.count = count if count > 0 else None

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the frames, (H, W, 3) BGR uint8, upright.

        Raises:
            InputError: If there is not a single one.
        """
        frame = read_frame(self._capture)
        if frame is None:
            raise InputError(_unreadable(self.source))
        while frame is not None:
            yield frame
            frame = read_frame(self._capture)

    def close(self) -> None:
        """Let go of the file or camera."""
        self._capture.release()


def frame_rate(capture: cv2.VideoCapture) -> float:
    """The frames a second that a video says it has, or a usual number."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    is_known = math.isfinite(rate) and 0 < rate <= _MAX_RATE
    return rate if is_known else _USUAL_RATE


def read_frame(capture: cv2.VideoCapture, timeout: float = math.inf) -> Optional[np.ndarray]:
    """Read the next frame; damaged ones are passed over.

    Args:
        capture (cv2.VideoCapture): Is open.
        timeout (float): Seconds after which no further attempt is made.

    Returns:
        np.ndarray | None: (H, W, 3) BGR uint8; None if there are no more.
    """
    start = time.monotonic()
    for _ in range(_MAX_DAMAGED):
        found, frame = capture.read()
        if found:
            return frame
        if time.monotonic() - start > timeout:
            break
    return None


def _plain_path(path: Union[str, Path]) -> str:
    """What FFmpeg takes for a path: before a ':' it looks for a protocol.

    Raises:
        UnicodeEncodeError: If it is not in UTF-8; OpenCV would crash.
    """
    path = os.path.abspath(path)
    path.encode()
    return path


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
        return f'camera {source}: expected a camera of this index that can be opened, found none'
    if not Path(source).is_file():
        return f'{source}: there is no such file'
    try:
        str(source).encode()
    except UnicodeEncodeError:
        return f'{source}: OpenCV opens only videos with names in UTF-8. Rename it'
    return (
        f'{source}: expected a video, found {Path(source).stat().st_size} '
        'bytes of which OpenCV reads no frame'
    )


class VideoWriter:
    """Write frames into an MP4 file.

    An odd width or height grows by one pixel, because MP4 has even ones.
    Frames of another size than the first, as of a camera that was set anew,
    are resized to it.

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
            frame (np.ndarray): (H, W, 3) BGR uint8.

        Raises:
            OSError: If a video of this size cannot be written there.
        """
        frame = _even(frame)
        if self._writer is None:
            self._writer = self._open(frame)
            self._size = frame.shape[1::-1]
        if frame.shape[1::-1] != self._size:
            # OpenCV would leave it out without a word.
            frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(frame)

    def close(self) -> None:
        """Finish the file; it is not complete before."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None

    def _open(self, frame: np.ndarray) -> cv2.VideoWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        height, width = frame.shape[:2]
        try:
            path = _plain_path(self.path)
        except UnicodeEncodeError:
            raise OSError(
                f'{self.path}: OpenCV writes only videos with names '
                'in UTF-8. Choose another folder'
            ) from None
        writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*CODEC), self.rate, (width, height))
        if not writer.isOpened():
            raise OSError(
                f'{self.path}: OpenCV cannot write a video here ({width} x '
                f'{height} pixels, {self.rate:g} frames a second, codec '
                f'{CODEC}). Is the folder writable, and was OpenCV built '
                'with FFMPEG (cv2.getBuildInformation())?'
            )
        return writer


def _even(frame: np.ndarray) -> np.ndarray:
    """Repeat the last row or column where their number is odd."""
    height, width = frame.shape[:2]
    if height % 2 == width % 2 == 0:
        return frame
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), 'edge')
