"""Read and write videos frame by frame."""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from multitask_runtime.utils.errors import InputError
from multitask_runtime.utils.types import Array

CODEC = 'mp4v'
_DEFAULT_RATE = 30.0  # of cameras and files that do not say
_MAX_RATE = 1000.0  # streams that do not know their rate say 90000
_MAX_DAMAGED = 10  # frames in a row


class VideoReader:
    """Reader of a video file or camera, with one frame in memory at a time.

    Args:
        source (str | int): Path of the file, or index of the camera.

    Attributes:
        rate (float): Frame rate in 1/s.
        count (int | None): Number of frames that the file says it has; None if it does
            not say, and for a camera.
        size (tuple[int, int]): Width and height of the frames that the file says it has, in
            pixels; (0, 0) if it does not say.

    Raises:
        InputError: If it cannot be opened.
    """

    def __init__(self, source: str | int) -> None:
        self.source = source
        try:
            self._capture = (
                cv2.VideoCapture(source)
                if isinstance(source, int)
                else cv2.VideoCapture(_ffmpeg_path(source))
            )
        except (cv2.error, UnicodeEncodeError):
            raise InputError(_explain(source)) from None
        if not self._capture.isOpened():
            raise InputError(_explain(source))
        self.rate = frame_rate(self._capture)
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.count = count if count > 0 else None
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        self.size = int(self._capture.get(sides[0])), int(self._capture.get(sides[1]))

    def __iter__(self) -> Iterator[Array]:
        """Yield the frames: BGR, uint8, upright, shape (H, W, 3).

        Raises:
            InputError: If there is no frame.
        """
        frame = read_frame(self._capture)
        if frame is None:
            raise InputError(_explain(self.source))
        while frame is not None:
            yield frame
            frame = read_frame(self._capture)

    def close(self) -> None:
        """Release the file or camera."""
        self._capture.release()


def frame_rate(capture: cv2.VideoCapture) -> float:
    """Return the frame rate that a video says it has, or a usual one, in 1/s."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if math.isfinite(rate) and 0 < rate <= _MAX_RATE else _DEFAULT_RATE


def read_frame(capture: cv2.VideoCapture, timeout: float = math.inf) -> Array | None:
    """Read the next frame; damaged ones are skipped.

    Args:
        capture (cv2.VideoCapture): An open video.
        timeout (float): Seconds after which no further attempt is made.

    Returns:
        np.ndarray | None: BGR, uint8, shape (H, W, 3); None at the end.
    """
    frame: Array
    start = time.monotonic()
    for _ in range(_MAX_DAMAGED):
        is_read, frame = capture.read()
        if is_read:
            return frame
        if time.monotonic() - start > timeout:
            break
    return None


def count_frames(path: str) -> int | None:
    """Return the number of frames that a video file says it has.

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


def _ffmpeg_path(path: str | Path) -> str:
    """Return an absolute path, as FFmpeg takes what is before a ':' for a protocol.

    Raises:
        UnicodeEncodeError: If it is not UTF-8; OpenCV would crash.
    """
    absolute = os.path.abspath(path)
    absolute.encode()
    return absolute


def _explain(source: str | int) -> str:
    """Explain why a video file or camera cannot be opened."""
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
    """Writer of an MP4 file.

    An odd width or height grows by one pixel, because those of MP4 are even. Frames of
    another size than the first one, as of a camera whose settings changed, are resized
    to it.

    Args:
        path (str | Path): The file; missing folders are made.
        rate (float): Frame rate in 1/s.
    """

    def __init__(self, path: str | Path, rate: float) -> None:
        self.path = Path(path)
        self.rate = rate
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: Array) -> None:
        """Add a frame.

        Args:
            frame (np.ndarray): BGR, uint8, shape (H, W, 3).

        Raises:
            OSError: If a video of this size cannot be written there.
        """
        height, width = frame.shape[:2]
        if height % 2 or width % 2:  # repeat the last row or column
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), 'edge')
        size = frame.shape[1], frame.shape[0]
        if self._writer is None:
            self._writer, self._size = self._open(size), size
        if size != self._size:
            # OpenCV would drop it without a word.
            frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(frame)

    def close(self) -> None:
        """Complete the file."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None

    def _open(self, size: tuple[int, int]) -> cv2.VideoWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path = _ffmpeg_path(self.path)
        except UnicodeEncodeError:
            raise OSError(
                f'{self.path}: OpenCV writes only videos with names in UTF-8. Choose '
                'another folder'
            ) from None
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*CODEC), self.rate, size)
        if not writer.isOpened():
            raise OSError(
                f'{self.path}: OpenCV cannot write a video here ({size[0]} x {size[1]} '
                f'pixels, {self.rate:g} frames per second, codec {CODEC}). Is the folder '
                'writable, and was OpenCV built with FFMPEG (cv2.getBuildInformation())?'
            )
        return writer
