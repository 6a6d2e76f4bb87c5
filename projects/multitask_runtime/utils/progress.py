"""What the user is told while it runs, on stderr."""

import sys
import time
from typing import Optional, Sequence

import cv2

from multitask_runtime.io.inputs import Source
from multitask_runtime.utils.errors import InputError

_REDRAW = 0.1  # seconds between two states of a line in a terminal
_REPEAT = 5.0  # seconds between two lines in a file
_MAX_FAILURES = 10  # before the first success: the network is at fault
# What a picture may be the cause of. RuntimeError is not among them: PyTorch
# raises it for a lack of memory or of operators, which is explained elsewhere.
_OF_AN_INPUT = (ArithmeticError, MemoryError, OSError, ValueError, cv2.error)


class Progress:
    """Progress with the time left, notes and a summary.

    In a terminal the progress is one line that changes, elsewhere a line
    every few seconds. A single picture has none, and a summary only if there
    is something to say of it.

    Args:
        num_sources (int): How many inputs there are.
        total (int, optional): How many images they have; None if unknown.
        show_progress (bool): Whether to show progress and summary; notes
            and what was skipped are told in any case. Defaults to True.
        left_out (Sequence[str]): Sentences on what of the folders are no
            inputs, for the summary.

    Attributes:
        skipped (list[str]): A sentence for each input that could not be
            read, or of which not all could be looked at.
    """

    def __init__(
        self,
        num_sources: int,
        total: Optional[int],
        show_progress: bool = True,
        left_out: Sequence[str] = (),
    ) -> None:
        self.num_sources = num_sources
        self.total = total
        self.skipped = []
        self._remarks = list(left_out)
        self._error: Optional[Exception] = None
        self._failures = 0
        self._is_quiet = not show_progress or total == 1
        self._is_terminal = sys.stderr.isatty()
        self._images_done = 0
        self._read, self._failed = [], []  # sources
        self._start = self._last = time.monotonic()
        self._line = ''

    def step(self) -> None:
        """One more image is done."""
        self._images_done += 1
        now = time.monotonic()
        wait = _REDRAW if self._is_terminal else _REPEAT
        is_last = self._images_done == self.total
        if not self._is_quiet and (now - self._last >= wait or is_last):
            self._last = now
            self._show(self._state(now))

    def count_source(self, source: Source) -> None:
        """One more input was read."""
        self._read.append(id(source))

    def skip(self, reason: str) -> None:
        """An input cannot be read; the reason names it."""
        self.skipped.append(reason)
        if self.num_sources > 1:
            self.note(f'skipped: {reason}')

    def fail(self, source: Source, title: str, error: Exception) -> None:
        """Something but reading went wrong with an image.

        Args:
            source (Source): Its source, which is named once.
            title (str): What to call the image.
            error (Exception): Is raised at the end, or after a few images,
                if nothing has ever gone well.

        Raises:
            Exception: The error.
        """
        self._failures += 1
        self._error = self._error or error
        if not self._images_done and self._failures >= _MAX_FAILURES:
            raise self._error
        if id(source) not in self._failed:
            self._failed.append(id(source))
            first_line = str(error).strip().split('\n')[0]
            self.skip(f'{title}: {type(error).__name__}: {first_line}')

    def remark(self, text: str) -> None:
        """Tell something in the summary."""
        self._remarks.append(text)

    def note(self, text: str) -> None:
        """Tell something at once."""
        self._end_line()
        print(text, file=sys.stderr, flush=True)

    def sum_up(self) -> None:
        """Tell what was done and what was not, also of a run that stopped."""
        self._end_line()
        if self._images_done and (self.skipped or not self._is_quiet):
            self.note(self._summary())
        for remark in self._remarks:
            self.note(remark)

    def raise_if_nothing(self) -> None:
        """Refuse a run without any result.

        Raises:
            InputError: If nothing at all could be read.
            Exception: What went wrong, if it was no input's fault.
        """
        if self._images_done or not self.skipped:
            return
        if self._error and not isinstance(self._error, _OF_AN_INPUT):
            raise self._error
        raise InputError(self._nothing_read())

    def _state(self, now: float) -> str:
        speed = self._images_done / max(now - self._start, 1e-9)
        text = f'{self._images_done}'
        if self.total:
            text += f'/{self.total} ({self._images_done / self.total:.0%})'
        text += f' images, {speed:.1f} a second'
        if self.total:
            left = max(self.total - self._images_done, 0) / speed
            text += f', {_clock(left)} left'
        return text

    def _show(self, state: str) -> None:
        if self._is_terminal:
            print('\r' + state.ljust(len(self._line)), end='', file=sys.stderr, flush=True)
            self._line = state
        else:
            print(state, file=sys.stderr, flush=True)

    def _end_line(self) -> None:
        if self._line:
            print(file=sys.stderr)
            self._line = ''

    def _summary(self) -> str:
        seconds = time.monotonic() - self._start
        done = len(set(self._read) - set(self._failed))
        text = (
            f'inputs done: {done} of {self.num_sources} '
            f'({self._images_done} images in {_clock(seconds)})'
        )
        if not self.skipped:
            return text
        return f'{text}; skipped: {len(self.skipped)}\n{self._reasons()}'

    def _reasons(self) -> str:
        return '\n'.join(f'  {reason}' for reason in self.skipped)

    def _nothing_read(self) -> str:
        if len(self.skipped) == 1:
            return self.skipped[0]
        return f'none of the {self.num_sources} inputs could be read:\n{self._reasons()}'


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{seconds:02d}' if hours else (f'{minutes}:{seconds:02d}')
