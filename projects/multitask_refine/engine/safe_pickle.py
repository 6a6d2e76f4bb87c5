"""Pickles of numpy arrays, read without running anything that they hold.

Detectron2 publishes its weights as plain pickles, and a pickle can run any
code. Here a pickle gets stand-ins for the handful of names that arrays need,
and no other name: its data become arrays by ``np.frombuffer``, which checks
sizes, so that numpy's own way from a pickled state to memory is not used.
"""
import os.path as osp
import pickle
from collections import OrderedDict
from typing import Any, Callable, Dict, Tuple

import numpy as np

from .safe_checkpoint import DamagedCheckpointError, UnsafeCheckpointError

_LEAVES = (str, bytes, int, float, bool, type(None), np.generic, np.ndarray)


class _Refusal(Exception):
    """Something that is no array and no plain container."""


class _Dict(OrderedDict):
    """Stands in for OrderedDict; its attributes are dropped."""

    def __setstate__(self, state: object) -> None:
        pass


class _DType:
    """Stands in for numpy.dtype: numbers only."""

    def __init__(self, code: str, *_) -> None:
        dtype = np.dtype(code) if isinstance(code, str) else None
        if dtype is None or dtype.kind not in 'biuf':
            raise _Refusal(f'an array of dtype {code!r}')
        self.value = dtype

    def __setstate__(self, state: tuple) -> None:
        self.value = self.value.newbyteorder(state[1])


class _Array:
    """Stands in for numpy.ndarray."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, 'F' if fortran else 'C')


class _Function:
    """A function that a pickle may call, but not change."""

    def __init__(self, call: Callable) -> None:
        self.call = call

    def __call__(self, *args) -> object:
        return self.call(*args)

    def __setstate__(self, state: object) -> None:
        raise _Refusal('a change of a function')


def _array(data: Any, dtype: _DType, shape: Tuple[int, ...],
           order: str) -> np.ndarray:
    if isinstance(data, str):  # from Python 2
        data = data.encode('latin1')
    # A copy, because what was read from bytes cannot be written.
    return np.frombuffer(data, dtype.value).reshape(shape, order=order).copy(
        order=order)


def _new_array(kind: type, *_) -> _Array:
    if kind is not _Array:
        raise _Refusal(f'an array of the class {kind!r}')
    return _Array()


def _scalar(dtype: _DType, data: Any) -> np.generic:
    return _array(data, dtype, (1, ), 'C')[0]


def _encode(text: str, encoding: str) -> bytes:
    # How Python 3 writes bytes in the older protocols.
    if encoding not in ('latin1', 'latin-1'):
        raise _Refusal(f'text in the encoding {encoding!r}')
    return text.encode('latin1')


_ALLOWED = {
    ('collections', 'OrderedDict'): _Dict,
    ('_codecs', 'encode'): _Function(_encode),
    ('__builtin__', 'bytes'): _Function(lambda: b''),  # an empty array's
    ('numpy', 'ndarray'): _Array,
    ('numpy', 'dtype'): _DType,
}
for _core in ('numpy.core', 'numpy._core'):  # numpy 1 and 2
    _ALLOWED.update({
        (f'{_core}.multiarray', '_reconstruct'): _Function(_new_array),
        (f'{_core}.multiarray', 'scalar'): _Function(_scalar),
        (f'{_core}.numeric', '_frombuffer'): _Function(_array),
    })


class _Unpickler(pickle.Unpickler):

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ALLOWED:
            raise _Refusal(f'{module}.{name}')
        return _ALLOWED[module, name]


def load_arrays(filename: str) -> Any:
    """Load a pickle of numpy arrays without running anything in it.

    Args:
        filename (str): Path of the file, in any protocol of Python 2 or 3.

    Returns:
        What the file holds: arrays and scalars of numpy, text and numbers in
        dicts, lists and tuples.

    Raises:
        FileNotFoundError: If there is no such file.
        UnsafeCheckpointError: If it holds anything else.
        DamagedCheckpointError: If it is no pickle or is cut short.
    """
    filename = osp.expanduser(filename)
    if not osp.isfile(filename):
        raise FileNotFoundError(f'{filename}: there is no such file')
    with open(filename, 'rb') as file:
        try:
            return _plain(_Unpickler(file, encoding='latin1').load(), {})
        except _Refusal as error:
            raise UnsafeCheckpointError(
                f'{filename}: refused, because it holds {error}. Expected a '
                'pickle of numpy arrays of numbers in plain containers: '
                'loading anything else could run any code. If you made the '
                'file, save its weights alone.') from None
        except Exception as error:  # garbage raises nearly anything
            reason = f'{type(error).__name__}: {error}'.splitlines()[0]
            raise DamagedCheckpointError(
                f'{filename}: not a whole pickle ({osp.getsize(filename)} '
                f'bytes; {reason}). Copy or download it again; a file of '
                'PyTorch is to be named .pth.') from None


def _plain(node: Any, seen: Dict[int, tuple]) -> Any:
    """Put arrays in the place of their stand-ins, and refuse the rest."""
    if isinstance(node, (_Array, _DType)):
        return node.value
    if isinstance(node, _LEAVES):
        return node
    if id(node) in seen:  # shared by several containers
        return seen[id(node)][1]
    if isinstance(node, tuple):
        new = tuple(_plain(item, seen) for item in node)
    elif isinstance(node, list):
        new = [_plain(item, seen) for item in node]
    elif isinstance(node, dict):
        new = {_plain(key, seen): _plain(value, seen)
               for key, value in node.items()}
    else:
        raise _Refusal(f'a {type(node).__name__}')
    seen[id(node)] = node, new  # the node is kept, and so its id, too
    return new
