"""What the user is told while it runs, on stderr."""
import sys
import time
from typing import Optional

from .inputs import InputError

_REDRAW = 0.1  # seconds between two states of a line in a terminal
_REPEAT = 5.0  # seconds between two lines in a file


class Report:
    """Progress with the time left, notes and a summary.

    In a terminal the progress is one line that changes, elsewhere a line
    every few seconds. A single picture has none, and no summary.

    Args:
        num_sources (int): How many inputs there are.
        total (int, optional): How many images they have; None if unknown.
        show_progress (bool): Whether to show progress and summary; notes
            and what was skipped are told in any case. Defaults to True.
    """

    def __init__(self,
                 num_sources: int,
                 total: Optional[int],
                 show_progress: bool = True) -> None:
        self.num_sources = num_sources
        self.total = total
        self.skipped = []
        self._is_quiet = not show_progress or total == 1
        self._is_terminal = sys.stderr.isatty()
        self._sources_done = self._images_done = 0
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

    def count_source(self) -> None:
        """One more input was read."""
        self._sources_done += 1

    def skip(self, reason: str) -> None:
        """An input cannot be read; the reason names it."""
        self.skipped.append(reason)
        if self.num_sources > 1:
            self.note(f'skipped: {reason}')

    def note(self, text: str) -> None:
        """Tell something at once."""
        self._end_line()
        print(text, file=sys.stderr, flush=True)

    def finish(self) -> None:
        """Sum up.

        Raises:
            InputError: If nothing at all could be read.
        """
        self._end_line()
        if self.skipped and not self._sources_done:
            raise InputError(self._nothing_read())
        if self.skipped or not self._is_quiet:
            self.note(self._summary())

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
            print('\r' + state.ljust(len(self._line)), end='',
                  file=sys.stderr, flush=True)
            self._line = state
        else:
            print(state, file=sys.stderr, flush=True)

    def _end_line(self) -> None:
        if self._line:
            print(file=sys.stderr)
            self._line = ''

    def _summary(self) -> str:
        seconds = time.monotonic() - self._start
        text = (f'inputs done: {self._sources_done} of {self.num_sources} '
                f'({self._images_done} images in {_clock(seconds)})')
        if not self.skipped:
            return text
        return f'{text}; skipped: {len(self.skipped)}\n{self._reasons()}'

    def _reasons(self) -> str:
        return '\n'.join(f'  {reason}' for reason in self.skipped)

    def _nothing_read(self) -> str:
        if len(self.skipped) == 1:
            return self.skipped[0]
        return (f'none of the {self.num_sources} inputs could be read:\n'
                f'{self._reasons()}')


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{seconds:02d}' if hours else (
        f'{minutes}:{seconds:02d}')
