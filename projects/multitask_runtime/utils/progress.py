"""Progress bar, notes and summary of a run, on stderr."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
from tqdm import tqdm

from .errors import InputError

if TYPE_CHECKING:
    from multitask_runtime.io.inputs import Source

_MAX_FAILURES = 10  # before the first success; then the model is at fault
# Errors that an image can cause. RuntimeError is not among them: PyTorch raises it for a
# lack of memory or operators, which is explained elsewhere.
_INPUT_ERRORS = (ArithmeticError, MemoryError, OSError, ValueError, cv2.error)


class Progress:
    """Report the progress of a run over several inputs.

    A single image gets no progress bar, and a summary only if there is something
    to say about it.

    Args:
        num_sources (int): Number of inputs.
        total (int, optional): Number of images in them; None if unknown.
        show_progress (bool): Whether to show the progress bar and the summary; notes
            and skipped inputs are shown in any case. Defaults to True.
        remarks (Sequence[str]): Sentences for the summary.

    Attributes:
        skipped (list[str]): One sentence for each input that could not be read or
            not be processed completely.
    """

    def __init__(
        self,
        num_sources: int,
        total: int | None,
        show_progress: bool = True,
        remarks: Sequence[str] = (),
    ) -> None:
        self.num_sources = num_sources
        self.skipped: list[str] = []
        self._remarks = list(remarks)
        self._error: Exception | None = None
        self._num_images = self._num_failures = 0
        self._read: set[int] = set()  # ids of sources, which may hold arrays
        self._failed: set[int] = set()
        self._is_quiet = not show_progress or total == 1
        self._start = time.monotonic()
        self._bar = tqdm(
            total=total,
            unit='img',
            file=sys.stderr,
            disable=self._is_quiet,
            mininterval=0.1 if sys.stderr.isatty() else 5.0,  # few lines in a log file
        )

    def step(self) -> None:
        """Count one more image."""
        self._num_images += 1
        self._bar.update()

    def count_source(self, source: 'Source') -> None:
        """Count one more input that was read to its end."""
        self._read.add(id(source))

    def skip(self, reason: str) -> None:
        """Record an input that cannot be read; the reason names it."""
        self.skipped.append(reason)
        if self.num_sources > 1:
            self.note(f'skipped: {reason}')

    def fail(self, source: 'Source', title: str, error: Exception) -> None:
        """Record an image that failed for another reason than reading.

        Args:
            source (Source): Its source, which is reported only once.
            title (str): Name of the image in messages.
            error (Exception): The error.

        Raises:
            Exception: The first error, if the first ten images all failed.
        """
        self._num_failures += 1
        self._error = self._error or error
        if not self._num_images and self._num_failures >= _MAX_FAILURES:
            raise self._error
        if id(source) not in self._failed:
            self._failed.add(id(source))
            first_line = str(error).strip().split('\n')[0]
            self.skip(f'{title}: {type(error).__name__}: {first_line}')

    def remark(self, text: str) -> None:
        """Add a sentence to the summary."""
        self._remarks.append(text)

    def note(self, text: str) -> None:
        """Print a sentence at once, above the progress bar."""
        tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Print the summary, also of a run that was interrupted."""
        self._bar.close()
        if self._num_images and (self.skipped or not self._is_quiet):
            num_done = len(self._read - self._failed)
            seconds = tqdm.format_interval(time.monotonic() - self._start)
            summary = (
                f'inputs done: {num_done} of {self.num_sources} '
                f'({self._num_images} images in {seconds})'
            )
            if self.skipped:
                summary += f'; skipped: {len(self.skipped)}'
            self.note('\n  '.join([summary, *self.skipped]))
        for remark in self._remarks:
            self.note(remark)

    def raise_if_nothing(self) -> None:
        """Refuse a run without any result.

        Raises:
            InputError: If no input could be read.
            Exception: The first error, if no input can have caused it.
        """
        if self._num_images or not self.skipped:
            return
        if self._error and not isinstance(self._error, _INPUT_ERRORS):
            raise self._error
        if len(self.skipped) == 1:
            raise InputError(self.skipped[0])
        raise InputError(
            '\n  '.join([f'none of the {self.num_sources} inputs could be read:', *self.skipped])
        )
