"""Stand-ins for the names by which pickles rebuild numpy arrays.

numpy trusts the state of a pickled dtype: a forged one reads, or calls, arbitrary memory.
The stand-ins build numeric dtypes only, and arrays by ``np.frombuffer``, which checks sizes.
"""

import pickle
from typing import Any

import numpy as np


class RefusedObjectError(pickle.UnpicklingError):
    """A pickle holds something other than arrays and plain containers."""


class NumericDType:
    """Stand-in for ``numpy.dtype``, for numbers only."""

    def __init__(self, code: str, *_) -> None:
        dtype = np.dtype(code) if isinstance(code, str) else None
        if dtype is None or dtype.kind not in 'biuf':
            raise RefusedObjectError(f'an array of dtype {code!r}')
        self.value = dtype

    def __setstate__(self, state: tuple) -> None:
        self.value = self.value.newbyteorder(state[1])


class PlainArray(np.ndarray):
    """Stand-in for ``numpy.ndarray``; pickles as one."""

    def __new__(cls, *_) -> 'PlainArray':
        """Create an empty array; its state follows."""
        return np.empty(0).view(cls)

    def __setstate__(self, state: tuple) -> None:
        """Build the array from its pickled state."""
        _, shape, dtype, fortran, data = state
        values = frombuffer(data, dtype, shape, 'F' if fortran else 'C')
        super().__setstate__(values.__reduce__()[2])

    def __reduce_ex__(self, protocol: int) -> tuple:
        return np.asarray(self).__reduce_ex__(protocol)


def frombuffer(
    data: bytes | str, dtype: NumericDType, shape: tuple[int, ...], order: str
) -> np.ndarray:
    """Build an array from its bytes, which Python 2 pickles as text."""
    if isinstance(data, str):
        data = data.encode('latin1')
    # The copy is writable; an array over bytes is not.
    return np.frombuffer(data, dtype.value).reshape(shape, order=order).copy(order=order)


def reconstruct(kind: type, *_) -> PlainArray:
    """Stand-in for numpy's ``_reconstruct``."""
    if kind is not PlainArray:
        raise RefusedObjectError(f'an array of the class {kind!r}')
    return PlainArray()


def scalar(dtype: NumericDType, data: Any) -> np.generic:
    """Stand-in for numpy's ``scalar``."""
    return frombuffer(data, dtype, (1,), 'C')[0]


def empty_bytes() -> bytes:
    """Stand-in for ``bytes``, which pickles call for the data of empty arrays."""
    return b''
