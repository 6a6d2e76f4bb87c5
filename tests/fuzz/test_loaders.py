"""Mutated checkpoints and pickles: plain data or an error; no code runs."""

import io
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer

from multitask_refine.engine import (
    DamagedCheckpointError,
    UnsafeCheckpointError,
    load_arrays,
    load_checkpoint_file,
)
from tests.fuzz.mutations import mutated_bytes

_PLAIN = (dict, list, tuple, set, str, bytes, int, float, bool, type(None), np.ndarray, np.generic)
_RAN = []


def trap(*_):
    """Record a call, which no file may make."""
    _RAN.append(1)


_CALL = b'c' + __name__.encode() + b'\ntrap\n'
_PIECES = (
    _CALL + b')R',
    _CALL + b')\x81',
    _CALL + b'(tR',
    b'cos\nsystem\n',
    b')R',
    b'}b',
    b'tR',
    b'cnumpy\ndtype\n',
    b'cnumpy\nndarray\n',
    b'0',
    b'2',
    b'.',
    b'cnumpy._core.multiarray\n_reconstruct\n',
    b'cbuiltins\ngetattr\n',
    b'ctorch._utils\n_rebuild_tensor_v2\n',
    b'K\xff',
    b'J\xff\xff\xff\x7f',
    b'\x8a\x08' + b'\xff' * 7 + b'\x7f',
    b'Q',
    b'(',
    b']',
    b'}',
    b'a',
    b's',
)


def _weights():
    buffer = HistoryBuffer()
    buffer.update(2.5)
    return dict(
        state_dict=OrderedDict(
            a=torch.arange(6.0).reshape(2, 3), b=torch.ones(1, dtype=torch.int64)
        ),
        meta=dict(seed=np.int64(3), array=np.arange(3.0)),
        loss=buffer,
    )


def _as_file(zipped):
    file = io.BytesIO()
    torch.save(_weights(), file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


ZIP, LEGACY = _as_file(True), _as_file(False)
ARRAYS = [
    pickle.dumps(
        dict(
            model=OrderedDict(a=np.arange(6.0).reshape(2, 3)),
            b=[np.int8(1), (1, 'x', None, 2.5, True)],
        ),
        protocol,
    )
    for protocol in (0, 2, 4, 5)
]


def _pickle_of(data):
    """Return the name of the pickle in a zip file, and all parts."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    name = next(name for name in parts if name.endswith('data.pkl'))
    return name, parts


_NAME, _PARTS = _pickle_of(ZIP)


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    return tmp_path_factory.mktemp('mutated') / 'file'


def _check(load, path, data):
    path.write_bytes(data)
    try:
        content = load(str(path))
    except (DamagedCheckpointError, UnsafeCheckpointError) as error:
        assert str(path) in str(error)
    else:
        _require_plain(content, 0)
    assert not _RAN


def _require_plain(node, depth):
    assert isinstance(
        node,
        (
            *_PLAIN,
            torch.Tensor,
            torch.nn.Parameter,
            torch.UntypedStorage,
            torch.TypedStorage,
            HistoryBuffer,
        ),
    ) or _is_inert(node), type(node)
    if isinstance(node, np.ndarray):
        assert node.dtype.kind in 'biuf'
    if depth < 5 and isinstance(node, (dict, list, tuple)):
        for item in node.values() if isinstance(node, dict) else node:
            _require_plain(item, depth + 1)


def _is_inert(node):
    """Check for an allowed class or function, which PyTorch's loader returns as it is."""
    name = getattr(type(node), '__module__', '')
    return callable(node) or name.startswith(('torch', 'multitask_refine.engine.numpy_stubs'))


@given(mutated_bytes(ZIP, _PIECES))
def test_zip_files(path, data):
    _check(load_checkpoint_file, path, data)


@given(mutated_bytes(_PARTS[_NAME], _PIECES))
def test_pickles_in_zip_files(path, data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as changed:
        for name, part in dict(_PARTS, **{_NAME: data}).items():
            changed.writestr(name, part)
    _check(load_checkpoint_file, path, file.getvalue())


@given(mutated_bytes(LEGACY, _PIECES))
def test_legacy_files(path, data):
    _check(load_checkpoint_file, path, data)


# These made the unpickler allocate as much memory as they declare.
@example(b'\x80\x05\x96' + (2**38).to_bytes(8, 'little') + b'.')
@example(b'\x80\x02Nr\xff\xff\xff\x7f.')
@given(st.sampled_from(ARRAYS).flatmap(lambda x: mutated_bytes(x, _PIECES)))
def test_pickles_of_arrays(path, data):
    _check(load_arrays, path, data)


def test_trap_works():
    pickle.loads(_CALL + b')R.')
    assert _RAN
    _RAN.clear()
