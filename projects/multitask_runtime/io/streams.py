"""Live streams and recordings over the network.

A thread reads, so that a slow consumer does not keep the sender waiting: late
frames of a live stream are dropped, those of a recording are not.
"""

import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import cv2

from multitask_runtime.utils.errors import InputError
from multitask_runtime.utils.types import Array

from .inputs import redact_url
from .video import frame_rate, read_frame

OPEN_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 10.0  # seconds without a frame, after which the connection is lost
# Seconds before each attempt to reconnect; any frame resets them.
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
QUEUE_SIZE = 4  # frames
_JOIN = 2.0  # seconds to wait for the thread, which may be inside OpenCV


class StreamReader:
    """Reader of a stream that reconnects when the connection is lost.

    Args:
        url (str): http(s):// or rtsp(s)://, optionally with user:password@, which no
            message shows.
        note (Callable): Takes sentences about lost connections, in the thread that
            iterates.

    Attributes:
        rate (float): Frame rate in 1/s, as the stream says.
        received (int): Number of frames received so far.
        dropped (int): Number of them that were replaced by later ones before they were
            consumed.
        length (int | None): Number of frames that a recording says it has; None for a
            live stream.
        is_complete (bool): Whether a recording was read to its end.

    Raises:
        InputError: If no first frame can be read.
    """

    def __init__(self, url: str, note: Callable[[str], None]) -> None:
        self.title = redact_url(url)
        self.received = self.dropped = 0
        self.length: int | None = None
        self.is_complete = False
        self._url = url
        # An RTSP server sends at its own pace, so frames can be late.
        self._is_live = urlsplit(self.title).scheme.startswith('rtsp')
        self._note = note
        # Shared with the thread, guarded by the condition.
        self._changed = threading.Condition()
        self._frames: deque[tuple[int, Array]] = deque()
        self._notes: deque[str] = deque()
        self._has_ended = False
        self._error: str | None = None
        self._stop = threading.Event()
        self._last_end: int | None = None  # frame at which the last connection ended
        # A daemon: OpenCV may block in it after the main thread has ended.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._frames or self._has_ended)
        except BaseException:  # Ctrl-C
            self.close()
            raise
        if not self._frames:
            raise InputError(self._error)

    def __iter__(self) -> Iterator[tuple[int, Array]]:
        """Yield the frames that are not late.

        Yields:
            tuple[int, np.ndarray]: Index of the frame among those received, from 0, and
            the image: BGR, uint8, shape (H, W, 3).

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
            # Outside of the lock, because the consumer may take its time.
            for note in notes:
                self._note(note)
            if item is not None:
                yield item
            elif is_over:
                break
        if self._error:
            raise InputError(self._error)

    def close(self) -> None:
        """Disconnect."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(_JOIN)

    # ---- the thread that reads

    def _run(self) -> None:
        """Connect, and reconnect, until the stream ends or is closed."""
        try:
            attempt = 0
            while not self._stop.is_set():
                before = self.received
                self._read_connection()
                if self.received > before:
                    attempt = 0
                if self.is_complete:
                    break
                if not self.received:  # wrong URL: report it at once
                    self._error = self._explain()
                    break
                lost = f'{self.title}: the connection was lost after {self.received} frames'
                if attempt == len(WAITS):
                    self._error = f'{lost}, and {attempt} attempts to reconnect failed'
                    break
                with self._changed:
                    self._notes.append(f'{lost}; reconnecting in {WAITS[attempt]:g} s')
                    self._changed.notify_all()
                self._stop.wait(WAITS[attempt])
                attempt += 1
        except Exception as error:  # or the consumer would wait forever
            self._error = f'{self.title}: {type(error).__name__}'
            raise
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()

    def _read_connection(self) -> None:
        """Read the frames of one connection."""
        timeouts = {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: OPEN_TIMEOUT,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: READ_TIMEOUT,
        }
        # Other backends than FFmpeg would print the URL with its password.
        capture = cv2.VideoCapture(
            self._url,
            cv2.CAP_FFMPEG,
            [value for name, seconds in timeouts.items() for value in (name, int(1000 * seconds))],
        )
        try:
            if not self.received:
                self.rate = frame_rate(capture)
                count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
                self.length = count if count > 0 else None
            is_recording = self.length and not self._is_live
            if is_recording:  # starts anew: skip what was received already
                for _ in range(self.received):
                    if self._stop.is_set() or not capture.grab():
                        return
            # The last frame of a recording before a break is damaged, so one is held back.
            held: Array | None = None
            while not self._stop.is_set():
                image = read_frame(capture, READ_TIMEOUT / 2)
                if image is None:
                    self._finish_connection(held)
                    return
                if is_recording:
                    image, held = held, image
                if image is not None:
                    self._put(image)
        finally:
            capture.release()

    def _put(self, image: Array) -> None:
        """Append a frame; wait for the consumer of a recording, drop late live frames."""
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

    def _finish_connection(self, held: Array | None) -> None:
        """Find out whether the end of a connection is the end of the recording.

        The length that a recording says it has may be too large: where it ends twice at
        the same frame, it ends there.
        """
        end = self.received + (held is not None)
        if self.length and self._is_live:
            self.is_complete = end > self.length - self.rate  # within a second of the end
        elif self.length:
            self.is_complete = end >= self.length or end == self._last_end
        self._last_end = end
        if self.is_complete and held is not None:
            self._put(held)

    def _explain(self) -> str:
        """Explain why there is no first frame, by a connection of its own."""
        try:
            parts = urlsplit(self.title)
            port = parts.port or dict(http=80, https=443, rtsp=554, rtsps=322)[parts.scheme]
            socket.create_connection((parts.hostname or '', port), OPEN_TIMEOUT).close()
        except (OSError, ValueError) as error:
            reason = getattr(error, 'strerror', None) or error
            return (
                f'{self.title}: cannot be reached ({reason}). Are host and port right, and '
                'is it switched on?'
            )
        return (
            f'{self.title}: expected a video or live stream, but the host, which answers, '
            'sends none that OpenCV can read. Is the path right, and does it need a user '
            'name and password (rtsp://user:password@host/path)?'
        )
