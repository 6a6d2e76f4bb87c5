"""Restart the workers of a data loader when one of them is killed."""

import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing import connection
from typing import Any

from mmengine.logging import MMLogger

from multitask_refine.utils.errors import LoaderWorkerError

MAX_RESTARTS = 3
RESET_AFTER = 100  # batches without a death after which the count starts anew


class RestartingIterator:
    """Iterate over a data loader, and restart it when a worker was killed.

    PyTorch handles SIGCHLD by raising an error wherever the main process is, in the middle of
    a training step for instance. Here that handler is active only while a batch is fetched,
    where it is needed: the message of a worker that was killed while writing never ends, and
    only a signal interrupts the read. Exceptions raised inside a worker propagate.

    Args:
        start (Callable): Starts the workers and returns an iterator whose first batch is the
            first one that was not delivered yet.
        first (int): Number of the first batch.

    Raises:
        LoaderWorkerError: At the fourth death, if each came less than 100 batches after the
            one before.
    """

    # PyTorch's SIGCHLD handler, which it installs once per process.
    _handler: Callable | None = None

    def __init__(self, start: Callable[[], Iterator], first: int) -> None:
        self._start = start
        self._number = self._last_death = first
        self._deaths = 0
        self._restart()

    def _restart(self) -> None:
        self._batches = None  # ends the other workers
        self._batches = self._start()

    def _fetch(self) -> Any:
        """Return the next batch, with PyTorch's SIGCHLD handler active meanwhile."""
        if threading.current_thread() is not threading.main_thread():
            return next(self._batches)
        handler = RestartingIterator._handler
        try:
            if handler:
                signal.signal(signal.SIGCHLD, handler)  # raises RuntimeError for a dead worker
                handler(signal.SIGCHLD, None)  # deaths since the last batch
            return next(self._batches)
        finally:
            # PyTorch's, after the first batch
            installed = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if callable(installed):
                RestartingIterator._handler = installed

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        while True:
            try:
                batch = self._fetch()
                self._number += 1
                return batch
            except (RuntimeError, EOFError, OSError) as error:
                workers = getattr(self._batches, '_workers', [])
                # A broken connection may be noticed before the death itself, and so may the
                # closed sentinel: the kernel closes files before it ends the process.
                ended = connection.wait([worker.sentinel for worker in workers], timeout=1)
                for worker in workers:
                    if worker.sentinel in ended:
                        worker.join(1)
                dead = [
                    f'process {worker.pid} ended with '
                    + (
                        signal.Signals(-worker.exitcode).name
                        if worker.exitcode < 0
                        else f'status {worker.exitcode}'
                    )
                    for worker in workers
                    if worker.exitcode is not None
                ]
                if not dead:
                    raise
                message = (str(error) or type(error).__name__).splitlines()[0]
                reason = f'{", ".join(dead)}; {message}'
            # Outside of the handler, whose error keeps the former iterator alive.
            self._count_death(reason)
            self._restart()

    def _count_death(self, reason: str) -> None:
        is_new = self._number - self._last_death >= RESET_AFTER
        # Rare deaths do not add up over a long training.
        self._deaths = 1 if is_new else self._deaths + 1
        self._last_death = self._number
        message = (
            f'A loader worker died before iteration {self._number + 1} '
            f'({reason}). The likely reason is memory: the kernel kills a '
            'process when the machine is out of memory (see dmesg), or when '
            '/dev/shm is full. Fewer workers need less '
            '(--cfg-options train_dataloader.num_workers=2); containers get '
            'more shared memory with --shm-size.'
        )
        if self._deaths > MAX_RESTARTS:
            raise LoaderWorkerError(
                f'{message} This was death number {self._deaths} within a '
                'few iterations, so the training ends here. Fix the cause '
                'and continue with the same command and --resume.'
            )
        MMLogger.get_current_instance().warning(
            f'{message} The workers are restarted; the result stays the '
            f'same (restart {self._deaths} of at most {MAX_RESTARTS}).'
        )
