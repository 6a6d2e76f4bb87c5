"""A loader whose workers may die: it is started again where it was."""

import signal
import threading
from multiprocessing import connection
from typing import Any, Callable, Iterator, List, Optional

from mmengine.logging import MMLogger

from multitask_refine.utils.errors import ExplainedError

RESTARTS = 3
PEACE = 100  # so many batches after a death, the count begins anew


class WorkersDieError(ExplainedError, RuntimeError):
    """The workers of a loader die again and again."""


class RestartedBatches:
    """The batches of a loader, started again when a worker was killed.

    PyTorch's watch over the workers raises wherever the main process is, in
    the middle of a step for instance. Here it is switched on only while a
    batch is fetched, and first looks for earlier deaths. Errors that a worker
    itself raises are passed on.

    Args:
        start (Callable): Starts workers; gives an iterator whose first batch
            is the first that was not yet delivered.
        first (int): The number of the first batch.

    Raises:
        WorkersDieError: At the fourth death, if each came less than 100
            batches after the one before.
    """

    # PyTorch's handler of SIGCHLD, which it sets once a process.
    watch: Optional[Callable] = None

    def __init__(self, start: Callable[[], Iterator], first: int) -> None:
        self.start = start
        self.number = first
        self.batches = start()
        self.deaths = 0
        self.last_death = first

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        while True:
            try:
                batch = self._fetch()
            except (RuntimeError, EOFError, OSError) as error:
                dead = self._dead_workers()
                if not dead:
                    raise
                reason = f'{", ".join(dead)}; {_first_line(error)}'
            else:
                self.number += 1
                return batch
            self._count(reason)
            self.batches = None  # ends the other workers
            self.batches = self.start()

    def _dead_workers(self) -> List[str]:
        """A broken connection may be noticed before the death itself."""
        workers = getattr(self.batches, '_workers', [])
        connection.wait([worker.sentinel for worker in workers], timeout=1)
        return [
            f'process {worker.pid} ended with {_status(worker.exitcode)}'
            for worker in workers
            if worker.exitcode is not None
        ]

    def _fetch(self) -> Any:
        if threading.current_thread() is not threading.main_thread():
            return next(self.batches)
        watch = RestartedBatches.watch
        try:
            if watch:
                signal.signal(signal.SIGCHLD, watch)
                watch(signal.SIGCHLD, None)
            return next(self.batches)
        finally:
            handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if callable(handler):
                RestartedBatches.watch = handler

    def _count(self, reason: str) -> None:
        new = self.number - self.last_death >= PEACE
        self.deaths = 1 if new else self.deaths + 1
        self.last_death = self.number
        sentence = (
            f'A loader worker died before iteration {self.number + 1} '
            f'({reason}). The likely reason is memory: the kernel kills a '
            'process when the machine has none left (dmesg says so), or when '
            '/dev/shm is full. Fewer workers need less '
            '(--cfg-options train_dataloader.num_workers=2); containers get '
            'more shared memory by --shm-size.'
        )
        if self.deaths > RESTARTS:
            raise WorkersDieError(
                f'{sentence} It was the death number {self.deaths} within a '
                'few iterations, so the training ends here. Mend the reason '
                'and go on by the same command with --resume.'
            )
        MMLogger.get_current_instance().warning(
            f'{sentence} The loader is started again; the result stays the '
            f'same (restart {self.deaths} of at most {RESTARTS}).'
        )


def _status(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f'status {code}'


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
