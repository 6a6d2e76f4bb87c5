"""Pickles and YAML, read without running anything that they hold.

A pickle can run any code; Detectron2 publishes its weights as plain pickles,
and MMEngine's ``load`` takes any. Here a pickle gets stand-ins for the handful
of names that arrays and tensors need, and no other name. YAML may hold plain
values. Importing this module puts both readers in the place of MMEngine's.
"""

import io
import os.path as osp
import pickle
import pickletools
from collections import OrderedDict
from typing import Any, BinaryIO, Callable, Dict, TextIO

import numpy as np
import torch
import yaml
from mmdet.structures.mask import BitmapMasks
from mmengine.fileio import PickleHandler, YamlHandler, register_handler

from .numpy_stubs import DType, PlainArray, Refusal, array, new_array, no_bytes, scalar
from .safe_checkpoint import DamagedCheckpointError, UnsafeCheckpointError

_LEAVES = (str, bytes, int, float, bool, type(None), np.generic, np.ndarray, torch.Tensor)


class _Dict(OrderedDict):
    """Stands in for OrderedDict; its attributes are dropped."""

    def __setstate__(self, state: object) -> None:
        pass


class _Masks:
    """Stands in for mmdet's BitmapMasks."""

    def __setstate__(self, state: dict) -> None:
        self.state = state


class _Function:
    """A function that a pickle may call, but not change."""

    def __init__(self, call: Callable) -> None:
        self.call = call

    def __call__(self, *args) -> object:
        return self.call(*args)

    def __setstate__(self, state: object) -> None:
        raise Refusal('a change of a function')


def _encode(text: str, encoding: str) -> bytes:
    # How Python 3 writes bytes in the older protocols.
    if encoding not in ('latin1', 'latin-1'):
        raise Refusal(f'text in the encoding {encoding!r}')
    return text.encode('latin1')


def _load_storage(data: bytes) -> object:
    """A tensor's memory, which PyTorch pickles as a checkpoint of its own."""
    try:
        return torch.load(io.BytesIO(data), weights_only=True)
    except pickle.UnpicklingError:
        raise Refusal('a tensor of more than numbers') from None


_ARRAYS = {
    ('collections', 'OrderedDict'): _Dict,
    ('_codecs', 'encode'): _Function(_encode),
    ('__builtin__', 'bytes'): _Function(no_bytes),
    ('numpy', 'ndarray'): PlainArray,
    ('numpy', 'dtype'): DType,
}
for _core in ('numpy.core', 'numpy._core'):  # numpy 1 and 2
    _ARRAYS.update(
        {
            (f'{_core}.multiarray', '_reconstruct'): _Function(new_array),
            (f'{_core}.multiarray', 'scalar'): _Function(scalar),
            (f'{_core}.numeric', '_frombuffer'): _Function(array),
        }
    )
# What a dump of tools/test.py --out holds besides.
_RESULTS = {
    **_ARRAYS,
    ('mmdet.structures.mask.structures', 'BitmapMasks'): _Masks,
    ('torch._utils', '_rebuild_tensor_v2'): _Function(torch._utils._rebuild_tensor_v2),
    ('torch.storage', '_load_from_bytes'): _Function(_load_storage),
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, allowed: dict) -> None:
        super().__init__(file, encoding='latin1')
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self._allowed:
            raise Refusal(f'{module}.{name}')
        return self._allowed[module, name]


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
        return _read(file, filename, _ARRAYS)


def _read(file: BinaryIO, name: str, allowed: dict) -> Any:
    data = file.read()
    try:
        _check_sizes(data)
        stream = io.BytesIO(data)
        content = _plain(_Unpickler(stream, allowed).load(), {})
        if stream.tell() < len(data):  # as in PyTorch's older files
            raise ValueError('other data follow it')
        return content
    except Refusal as error:
        raise UnsafeCheckpointError(
            f'{name}: refused, because it holds {error}. Expected a pickle of '
            'numpy arrays of numbers in plain containers: loading anything '
            'else could run any code. If you made the file, save its weights '
            'alone.'
        ) from None
    except Exception as error:  # garbage raises nearly anything
        reason = f'{type(error).__name__}: {error}'.splitlines()[0]
        raise DamagedCheckpointError(
            f'{name}: not a whole pickle ({len(data)} bytes; {reason}). Copy '
            'or download it again; a file of PyTorch is to be named '
            '.pth.'
        ) from None


def _check_sizes(data: bytes) -> None:
    """Refuse what makes the unpickler take more memory than the file has:
    pickletools looks whether the bytes are there, and runs nothing."""
    for number, (code, argument, _) in enumerate(pickletools.genops(data)):
        if 'PUT' in code.name and argument > number:
            raise ValueError(f'object {argument} among the first {number}')


@register_handler(['pkl', 'pickle'])
class SafePickleHandler(PickleHandler):
    """MMEngine's reader and writer of pickles; reads arrays, tensors and
    masks in plain containers only."""

    def load_from_fileobj(self, file: BinaryIO, **_) -> Any:
        return _read(file, getattr(file, 'name', 'the pickle'), _RESULTS)


@register_handler(['yaml', 'yml'])
class SafeYamlHandler(YamlHandler):
    """MMEngine's reader and writer of YAML; reads plain values only."""

    def load_from_fileobj(self, file: TextIO, **_) -> Any:
        try:
            return yaml.safe_load(file)
        except yaml.constructor.ConstructorError as error:
            raise UnsafeCheckpointError(
                f'YAML refused, because {error.problem}. Expected plain '
                'values: anything else could run any code.'
            ) from None


def _plain(node: Any, seen: Dict[int, tuple]) -> Any:
    """Put arrays in the place of their stand-ins, and refuse the rest."""
    if isinstance(node, PlainArray):
        return node.view(np.ndarray)
    if isinstance(node, DType):
        return node.value
    if isinstance(node, _LEAVES):
        return node
    if isinstance(node, _Masks):
        return BitmapMasks(**_plain(node.state, seen))
    if id(node) in seen:  # shared by several containers
        return seen[id(node)][1]
    if isinstance(node, tuple):
        new = tuple(_plain(item, seen) for item in node)
    elif isinstance(node, list):
        new = [_plain(item, seen) for item in node]
    elif isinstance(node, dict):
        new = {_plain(key, seen): _plain(value, seen) for key, value in node.items()}
    else:
        raise Refusal(f'a {type(node).__name__}')
    seen[id(node)] = node, new  # the node is kept, and so its id, too
    return new
