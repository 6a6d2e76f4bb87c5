"""Stand-ins for what pickles name to build numpy arrays.

numpy takes the state of a pickled dtype on trust: one that lies about its
fields reads, or calls, whatever lies in memory. Here only dtypes of numbers
are built, and arrays from ``np.frombuffer``, which checks sizes.
"""

import pickle
from typing import Any, Tuple

import numpy as np


class Refusal(pickle.UnpicklingError):
    """Something that is no array and no plain container."""


class DType:
    """Stands in for numpy.dtype: numbers only."""

    def __init__(self, code: str, *_) -> None:
        dtype = np.dtype(code) if isinstance(code, str) else None
        if dtype is None or dtype.kind not in 'biuf':
            raise Refusal(f'an array of dtype {code!r}')
        self.value = dtype

    def __setstate__(self, state: tuple) -> None:
        self.value = self.value.newbyteorder(state[1])


class PlainArray(np.ndarray):
    """Stands in for numpy.ndarray; is pickled as one."""

    def __new__(cls, *_) -> 'PlainArray':
        return np.empty(0).view(cls)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        values = array(data, dtype, shape, 'F' if fortran else 'C')
        super().__setstate__(values.__reduce__()[2])

    def __reduce_ex__(self, protocol: int) -> tuple:
        return np.asarray(self).__reduce_ex__(protocol)


def array(data: Any, dtype: DType, shape: Tuple[int, ...], order: str) -> np.ndarray:
    """An array from its bytes, which Python 2 pickles as text."""
    if isinstance(data, str):
        data = data.encode('latin1')
    # A copy, because what was read from bytes cannot be written.
    return np.frombuffer(data, dtype.value).reshape(shape, order=order).copy(order=order)


def new_array(kind: type, *_) -> PlainArray:
    """Stands in for numpy's _reconstruct."""
    if kind is not PlainArray:
        raise Refusal(f'an array of the class {kind!r}')
    return PlainArray()


def scalar(dtype: DType, data: Any) -> np.generic:
    """Stands in for numpy's scalar."""
    return array(data, dtype, (1,), 'C')[0]


def no_bytes() -> bytes:
    """Stands in for bytes, which pickles call for those of empty arrays."""
    return b''
