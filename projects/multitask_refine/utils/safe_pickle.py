"""Read pickles and YAML files without running any code in them.

Detectron2 publishes its weights as pickles, and MMEngine's ``load`` reads any pickle. Here
the unpickler knows stand-ins for the few names that arrays and tensors need, and refuses all
others.
"""

import io
import os.path as osp
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO, TextIO

import numpy as np
import torch
import yaml
from mmdet.structures.mask import BitmapMasks
from mmengine.fileio import PickleHandler, YamlHandler

from .errors import DamagedCheckpointError, UnsafeCheckpointError
from .numpy_stubs import (
    NumericDType,
    PlainArray,
    RefusedObjectError,
    empty_bytes,
    frombuffer,
    reconstruct,
    scalar,
)

_LEAVES = (str, bytes, int, float, bool, type(None), np.generic, np.ndarray, torch.Tensor)


class _Dict(OrderedDict):
    """Stand-in for OrderedDict that drops attributes."""

    def __setstate__(self, state: object) -> None:
        pass


class _Masks:
    """Stand-in for mmdet's BitmapMasks."""

    def __setstate__(self, state: dict) -> None:
        self.state = state


class _Function:
    """Callable that a pickle can call, but not modify."""

    def __init__(self, call: Callable) -> None:
        self.call = call

    def __call__(self, *args) -> object:
        return self.call(*args)

    def __setstate__(self, state: object) -> None:
        raise RefusedObjectError('a change of a function')


@_Function
def _encode(text: str, encoding: str) -> bytes:
    """Stand-in for ``codecs.encode``, by which Python 3 pickles bytes in protocols 0 to 2."""
    if encoding not in ('latin1', 'latin-1'):
        raise RefusedObjectError(f'text in the encoding {encoding!r}')
    return text.encode('latin1')


@_Function
def _load_storage(data: bytes) -> object:
    """Load the storage of a tensor, which PyTorch pickles as a nested checkpoint."""
    try:
        return torch.load(io.BytesIO(data), weights_only=True)
    except pickle.UnpicklingError:
        raise RefusedObjectError('a tensor of more than numbers') from None


_ARRAYS = {
    ('collections', 'OrderedDict'): _Dict,
    ('_codecs', 'encode'): _encode,
    ('__builtin__', 'bytes'): _Function(empty_bytes),
    ('numpy', 'ndarray'): PlainArray,
    ('numpy', 'dtype'): NumericDType,
}
for _core in ('numpy.core', 'numpy._core'):  # numpy 1 and 2
    _ARRAYS[f'{_core}.multiarray', '_reconstruct'] = _Function(reconstruct)
    _ARRAYS[f'{_core}.multiarray', 'scalar'] = _Function(scalar)
    _ARRAYS[f'{_core}.numeric', '_frombuffer'] = _Function(frombuffer)
# Further names in the files of tools/test.py --out.
_RESULTS = {
    **_ARRAYS,
    ('mmdet.structures.mask.structures', 'BitmapMasks'): _Masks,
    ('torch._utils', '_rebuild_tensor_v2'): _Function(torch._utils._rebuild_tensor_v2),
    ('torch.storage', '_load_from_bytes'): _load_storage,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, allowed: dict) -> None:
        super().__init__(file, encoding='latin1')
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self._allowed:
            raise RefusedObjectError(f'{module}.{name}')
        return self._allowed[module, name]


def load_arrays(filename: str) -> Any:
    """Load a pickle of numpy arrays without running any code in it.

    Args:
        filename (str): Path of the file, in any protocol of Python 2 or 3.

    Returns:
        Any: numpy arrays and scalars, text and numbers in dicts, lists and tuples.

    Raises:
        FileNotFoundError: If the file does not exist.
        UnsafeCheckpointError: If it holds anything else.
        DamagedCheckpointError: If it is not a pickle or is truncated.
    """
    filename = osp.expanduser(filename)
    if not osp.isfile(filename):
        raise FileNotFoundError(f'{filename}: there is no such file')
    with open(filename, 'rb') as file:
        return _load(file, filename, _ARRAYS)


class SafePickleHandler(PickleHandler):
    """MMEngine's pickle handler that reads arrays, tensors and masks in plain containers."""

    def load_from_fileobj(self, file: BinaryIO, **_) -> Any:
        """Load a pickle; raises as :func:`load_arrays`."""
        return _load(file, getattr(file, 'name', 'the pickle'), _RESULTS)


class SafeYamlHandler(YamlHandler):
    """MMEngine's YAML handler that reads plain values only."""

    def load_from_fileobj(self, file: TextIO, **_) -> Any:
        """Load a YAML file; raises UnsafeCheckpointError for tags of Python objects."""
        try:
            return yaml.safe_load(file)
        except yaml.constructor.ConstructorError as error:
            raise UnsafeCheckpointError(
                f'YAML refused, because {error.problem}. Expected plain '
                'values: anything else could run any code.'
            ) from None


def _load(file: BinaryIO, name: str, allowed: dict) -> Any:
    data = file.read()
    try:
        # pickletools checks that declared bytes exist and runs nothing; a memo index beyond
        # the opcodes so far would only make the unpickler allocate memory.
        for number, (code, argument, _) in enumerate(pickletools.genops(data)):
            if 'PUT' in code.name and argument > number:
                raise ValueError(f'object {argument} among the first {number}')
        stream = io.BytesIO(data)
        content = _to_plain(_Unpickler(stream, allowed).load(), {})
        if stream.tell() < len(data):  # as in PyTorch's legacy files
            raise ValueError('more data follows the pickle')
        return content
    except RefusedObjectError as error:
        raise UnsafeCheckpointError(
            f'{name}: refused, because it holds {error}. Expected a pickle of '
            'numeric numpy arrays in plain containers: loading anything '
            'else could run any code. If you made the file, save its weights '
            'alone.'
        ) from None
    except Exception as error:  # garbage raises nearly anything
        reason = f'{type(error).__name__}: {error}'.splitlines()[0]
        raise DamagedCheckpointError(
            f'{name}: not a whole pickle ({len(data)} bytes; {reason}). Copy '
            'or download it again; name a PyTorch checkpoint .pth.'
        ) from None


def _to_plain(node: Any, seen: dict[int, tuple]) -> Any:
    """Replace stand-ins by arrays and masks, and refuse objects of other types."""
    if isinstance(node, PlainArray):
        return node.view(np.ndarray)
    if isinstance(node, NumericDType):
        return node.value
    if isinstance(node, _LEAVES):
        return node
    if isinstance(node, _Masks):
        return BitmapMasks(**_to_plain(node.state, seen))
    if id(node) in seen:  # several containers share it
        return seen[id(node)][1]
    if isinstance(node, tuple):
        new = tuple(_to_plain(item, seen) for item in node)
    elif isinstance(node, list):
        new = [_to_plain(item, seen) for item in node]
    elif isinstance(node, dict):
        new = {_to_plain(key, seen): _to_plain(value, seen) for key, value in node.items()}
    else:
        raise RefusedObjectError(f'a {type(node).__name__}')
    seen[id(node)] = node, new  # keeps the node alive, so that its id stays unique
    return new
