"""Live streams and recordings over the network.

A thread reads, so that a slow network does not keep the sender waiting: of a
live stream late frames are dropped, of a recording none are.
"""

import socket
import threading
from collections import deque
from typing import Callable, Iterator, Optional, Tuple
from urllib.parse import urlsplit

import cv2
import numpy as np

from multitask_runtime.utils.errors import InputError

from .inputs import hide_credentials
from .video import frame_rate, read_frame

OPEN_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 10.0  # seconds without a frame, then the connection is lost
# Seconds before each attempt to connect again; any frame starts them anew.
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
QUEUE_SIZE = 4  # frames
_JOIN = 2.0  # seconds to wait for the thread, which may be within OpenCV


class StreamReader:
    """Read a stream by its address, and connect again where it breaks off.

    Args:
        address (str): http(s):// or rtsp(s)://, maybe with user:password@,
            which no message shows.
        tell (Callable): Takes sentences about lost connections, in the
            thread that iterates.

    Attributes:
        rate (float): Frames a second, as the stream says.
        received (int): Frames that have come so far.
        dropped (int): Those of them that were replaced by later ones before
            anybody took them.
        length (int | None): Frames that a recording says it has; None of a
            live stream.
        is_complete (bool): Whether a recording was read to its end.

    Raises:
        InputError: If no first frame can be read.
    """

    def __init__(self, address: str, tell: Callable[[str], None]) -> None:
        self.title = hide_credentials(address)
        self.received = self.dropped = 0
        self.length: Optional[int] = None
        self.is_complete = False
        self._address = address
        # A server of RTSP sends at its own pace, what it sends may be late.
        self._is_live = urlsplit(self.title).scheme.startswith('rtsp')
        self._tell = tell
        self._frames, self._notes = deque(), deque()
        self._error: Optional[str] = None
        self._last_end: Optional[int] = None  # where a connection ended
        self._stop, self._has_ended = threading.Event(), False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._frames or self._has_ended)
        except BaseException:  # Ctrl-C
            self.close()
            raise
        if not self._frames:
            raise InputError(self._error)

    def __iter__(self) -> Iterator[Tuple[int, np.ndarray]]:
        """Yield the frames that are not late.

        Yields:
            tuple[int, np.ndarray]: The frame's number among those received,
            from 0, and the image, (H, W, 3) BGR uint8.

        Raises:
            InputError: If the connection is lost for good.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frames or self._notes or self._has_ended)
                notes = list(self._notes)
                self._notes.clear()
                item = self._frames.popleft() if self._frames else None
                is_over = self._has_ended and item is None
                self._changed.notify_all()
            for note in notes:
                self._tell(note)
            if item is not None:
                yield item
            elif is_over:
                break
        if self._error:
            raise InputError(self._error)

    def close(self) -> None:
        """Let go of the stream."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(_JOIN)

    # ---- the thread that reads

    def _read(self) -> None:
        try:
            attempt = 0
            while not self._stop.is_set():
                before = self.received
                self._read_connection()
                if self.received > before:
                    attempt = 0
                if self.is_complete:
                    break
                if not self.received:  # a wrong address: say it at once
                    self._error = self._explain()
                    break
                if attempt == len(WAITS):
                    self._error = (
                        f'{self.title}: the connection was lost after '
                        f'{self.received} frames, and {attempt} attempts to '
                        'connect again brought none'
                    )
                    break
                self._note(
                    f'{self.title}: the connection was lost after '
                    f'{self.received} frames; connecting again in '
                    f'{WAITS[attempt]:g} s'
                )
                self._stop.wait(WAITS[attempt])
                attempt += 1
        except Exception as error:  # whoever waits for frames must learn it
            self._error = f'{self.title}: {type(error).__name__}'
            raise
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()

    def _read_connection(self) -> None:
        """Read frames until there are no more.

        Only FFmpeg's backend is asked: another one would print the address.
        """
        capture = cv2.VideoCapture(
            self._address,
            cv2.CAP_FFMPEG,
            [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                int(1000 * OPEN_TIMEOUT),
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                int(1000 * READ_TIMEOUT),
            ],
        )
        try:
            if not self.received:
                self.rate = frame_rate(capture)
                count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
                self.length = count if count > 0 else None
            is_recording = self.length and not self._is_live
            if is_recording:  # it starts anew: pass over what came already
                for _ in range(self.received):
                    if self._stop.is_set() or not capture.grab():
                        return
            # Of a recording, because the last one before a break is damaged.
            held = None
            while not self._stop.is_set():
                image = read_frame(capture, READ_TIMEOUT / 2)
                if image is None:
                    self._finish(held)
                    return
                if is_recording:
                    image, held = held, image
                if image is not None:
                    self._put(image)
        finally:
            capture.release()

    def _put(self, image: np.ndarray) -> None:
        with self._changed:
            if self.length and not self._is_live:
                self._changed.wait_for(
                    lambda: self._stop.is_set() or len(self._frames) < QUEUE_SIZE
                )
            elif len(self._frames) == QUEUE_SIZE:
                self._frames.popleft()
                self.dropped += 1
            self._frames.append((self.received, image))
            self.received += 1
            self._changed.notify_all()

    def _note(self, text: str) -> None:
        with self._changed:
            self._notes.append(text)
            self._changed.notify_all()

    def _finish(self, held: Optional[np.ndarray]) -> None:
        """Find out whether a connection's end is that of the recording.

        What a recording says of its length may be too much: where it ends
        twice in the same place, it ends there.
        """
        end = self.received + (held is not None)
        if self.length:
            self.is_complete = (
                end > self.length - self.rate
                if self._is_live
                else end >= self.length or end == self._last_end
            )
        self._last_end = end
        if self.is_complete and held is not None:
            self._put(held)

    def _explain(self) -> str:
        """Why there is no first frame, by a connection of its own."""
        try:
            parts = urlsplit(self.title)
            port = parts.port or dict(http=80, https=443, rtsp=554, rtsps=322)[parts.scheme]
            socket.create_connection((parts.hostname, port), OPEN_TIMEOUT).close()
        except (OSError, ValueError) as error:
            reason = getattr(error, 'strerror', None) or error
            return (
                f'{self.title}: cannot be reached ({reason}). Are host '
                'and port right, and is it switched on?'
            )
        return (
            f'{self.title}: expected a video or live stream, but the '
            'host, which answers, sends none that OpenCV can read. Is '
            'the path right, and does it want a user name and password '
            '(rtsp://user:password@host/path)?'
        )
