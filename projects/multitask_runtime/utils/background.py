"""Calls that run in a thread beside the caller, in order and in bounded number."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeVar

T = TypeVar('T')


class BackgroundCalls:
    """Run calls one after the other in a thread of their own.

    OpenCV and the networks release Python's lock, so what they do there takes no time here. An
    exception of a call is raised by :meth:`result`.

    Args:
        size (int): Number of calls that may wait or run; one more makes :meth:`submit` wait for
            the first of them. Bounds the memory that their arguments take.

    Examples:
        >>> with closing(BackgroundCalls(2)) as calls:
        ...     for frame in frames:
        ...         calls.submit(writer.write, frame)
        ...     calls.finish()
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._calls: deque[Future[Any]] = deque()

    def submit(self, function: Callable[..., T], *args: Any) -> Future[T]:
        """Call a function after those before it.

        Raises:
            Exception: That of the first call, if there are too many.
        """
        call = self._executor.submit(function, *args)
        self._calls.append(call)
        if len(self._calls) > self._size:
            self.result()
        return call

    def result(self) -> Any:
        """Wait for the first call and return its result.

        Raises:
            Exception: That of the call.
        """
        return self._calls.popleft().result()

    def finish(self) -> None:
        """Wait for all calls.

        Raises:
            Exception: That of the first call that failed.
        """
        while self._calls:
            self.result()

    def close(self) -> None:
        """Drop the calls that wait, and end the thread when the present one is over."""
        self._executor.shutdown(cancel_futures=True)


def read_ahead(items: Iterator[T], size: int) -> Generator[T, None, None]:
    """Yield items, none of them None, while a thread reads the next ones.

    Args:
        items (Iterator): The items; is used by one thread at a time.
        size (int): Number of items that are read ahead.

    Yields:
        The items in their order; an exception of the iterator is raised in its place.
    """
    with closing(BackgroundCalls(size)) as calls:
        for _ in range(size):
            calls.submit(next, items, None)
        while (item := calls.result()) is not None:
            calls.submit(next, items, None)
            yield item
