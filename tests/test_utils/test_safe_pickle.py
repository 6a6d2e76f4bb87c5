import codecs
import io
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from multitask_refine.engine import DamagedCheckpointError, UnsafeCheckpointError, load_arrays


class Reduced:
    """Pickles as a function call, with a state set on its result."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args, state)

    def __reduce__(self):
        return self.reduced


def _write(tmp_path, content, protocol=2):
    path = tmp_path / 'weights.pkl'
    path.write_bytes(
        content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol)
    )
    return str(path)


@pytest.mark.parametrize('protocol', range(6))
def test_arrays_in_plain_containers_load(tmp_path, protocol):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = dict(
        model=OrderedDict(a=array, b=np.asfortranarray(array)),
        big_endian=array.astype('>f4'),
        empty=np.zeros((0, 3)),
        truth=np.array([True, False]),
        scalar=np.int64(7),
        plain=(1, [2.5, None, 'name'], True),
        again=[array, array],
    )
    loaded = load_arrays(_write(tmp_path, content, protocol))
    assert type(loaded) is dict and list(loaded) == list(content)
    for name in ('a', 'b'):
        np.testing.assert_array_equal(loaded['model'][name], [[0, 1, 2], [3, 4, 5]])
        assert loaded['model'][name].dtype == np.float32
    np.testing.assert_array_equal(loaded['big_endian'], [[0, 1, 2], [3, 4, 5]])
    assert loaded['empty'].shape == (0, 3)
    assert loaded['truth'].tolist() == [True, False]
    assert loaded['scalar'] == 7
    assert loaded['plain'] == content['plain']
    np.testing.assert_array_equal(loaded['again'][1], array)
    loaded['model']['a'][0, 0] = 9  # can be written to


def test_files_of_python_2_and_numpy_1_load(tmp_path):
    """With array data as text, and the former name of numpy's core."""
    content = (
        b'\x80\x02}U\x01w'
        b'cnumpy.core.multiarray\n_reconstruct\n'
        b'cnumpy\nndarray\nK\x00\x85U\x01b\x87R'
        b'(K\x01K\x02\x85cnumpy\ndtype\nU\x02i2K\x00K\x01\x87R'
        b'(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb'
        b'\x89U\x04\xff\x00\x01\x01tbs.'
    )
    (array,) = load_arrays(_write(tmp_path, content)).values()
    assert array.dtype == np.int16 and array.tolist() == [255, 257]


@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_code_is_refused_and_not_executed(tmp_path, protocol):
    mark = tmp_path / 'mark'
    payload = Reduced(os.system, f'touch {mark}')
    path = _write(tmp_path, dict(model=dict(a=payload)), protocol)
    with pytest.raises(UnsafeCheckpointError, match='weights.pkl: refused.*posix.system.*alone'):
        load_arrays(path)
    assert not mark.exists()
    pickle.loads((tmp_path / 'weights.pkl').read_bytes())
    assert mark.exists()  # the payload was a live one


class Kept(np.ndarray):
    pass


@pytest.mark.parametrize(
    'content, found',
    [
        (Reduced(getattr, OrderedDict, 'fromkeys'), 'getattr'),
        (Reduced(eval, '1'), 'eval'),
        (Reduced(np.load, 'x.npy'), 'numpy.*load'),
        (Reduced(np.dtype, 'O'), 'dtype .O.'),
        (Reduced(np.dtype, 'f4,O'), 'dtype .f4,O.'),
        (Reduced(np.dtype, [('a', 'f4')]), 'dtype'),
        (np.array([{}], dtype=object), 'dtype .O8.'),
        (np.array([(1, 2)], dtype=[('a', 'i4'), ('b', 'i4')]), 'dtype .V8.'),
        (np.zeros(2).view(Kept), 'Kept'),
        (Reduced(np._core.multiarray._reconstruct, OrderedDict, (0,), b'b'), 'class'),
        (Reduced(codecs.encode, 'a', 'utf-16'), 'encoding .utf-16.'),
        (np._core.multiarray._reconstruct, 'Function'),
        (np.ndarray, 'type'),
        (dict(a={1, 2}), 'set'),
        (dict(a=bytearray(3)), 'bytearray'),
        (np.zeros(2, complex), 'dtype .c16.'),
    ],
)
def test_other_objects_are_refused_and_named(tmp_path, content, found):
    with pytest.raises(UnsafeCheckpointError, match=found):
        load_arrays(_write(tmp_path, content, protocol=4))


def test_dotted_names_do_not_reach_attributes(tmp_path):
    """Protocol 4 resolves attributes: numpy.ndarray.__class__ is type."""
    content = pickle.PROTO + b'\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.'
    assert pickle.loads(content) is type
    with pytest.raises(UnsafeCheckpointError, match='ndarray.__class__'):
        load_arrays(_write(tmp_path, content))


@pytest.mark.parametrize('name', ['_reconstruct', 'scalar'])
def test_functions_cannot_be_modified(tmp_path, name):
    """The BUILD opcode sets a state on any object."""
    core = f'cnumpy._core.multiarray\n{name}\n'.encode()
    change = b'N}U\x0c__defaults__K\x01s\x86b.'
    with pytest.raises(UnsafeCheckpointError, match='change'):
        load_arrays(_write(tmp_path, b'\x80\x02' + core + change))


@pytest.mark.parametrize('name', ['ndarray', 'dtype'])
def test_classes_cannot_be_modified(tmp_path, name):
    content = f'cnumpy\n{name}\n'.encode() + b'N}U\x05valueK\x01s\x86b.'
    with pytest.raises((UnsafeCheckpointError, DamagedCheckpointError)):
        load_arrays(_write(tmp_path, b'\x80\x02' + content))
    good = _write(tmp_path, np.arange(3))
    assert load_arrays(good).tolist() == [0, 1, 2]


def test_attributes_of_dicts_are_dropped(tmp_path):
    content = OrderedDict(a=1)
    content.keys = 'not a method'
    loaded = load_arrays(_write(tmp_path, content))
    assert list(loaded.keys()) == ['a']


def _nested():
    return b'\x80\x02' + b']' * 100001 + b'a' * 100000 + b'.'


def _cycle():
    cycle = []
    cycle.append(cycle)
    return pickle.dumps(cycle, protocol=2)


WHOLE = pickle.dumps(dict(a=np.arange(1000)), protocol=2)


@pytest.mark.parametrize(
    'content',
    [
        b'',
        WHOLE[:10],
        WHOLE[: len(WHOLE) // 2],
        WHOLE[:-1],
        b'<html></html>',
        b'PK\x03\x04',
        bytes(range(256)),
        WHOLE.replace(b'M\xe8\x03', b'M\xe9\x03'),
        _cycle(),
        _nested(),
    ],
    ids=[
        'nothing',
        'start',
        'half',
        'all but the end',
        'page',
        'zip',
        'noise',
        'shape',
        'cycle',
        'depth',
    ],
)
def test_damaged_file_is_named(tmp_path, content):
    with pytest.raises(DamagedCheckpointError, match='weights.pkl: not a whole pickle.*again'):
        load_arrays(_write(tmp_path, content))


def test_shared_lists_are_converted_once(tmp_path):
    """Forty levels of two references would expand to 2 ** 40 items."""
    shared = [1.5]
    for _ in range(40):
        shared = [shared, shared]
    loaded = load_arrays(_write(tmp_path, shared))
    for _ in range(40):
        loaded = loaded[1]
    assert loaded == [1.5]


def test_truncated_and_corrupted_pickles_raise_documented_errors(tmp_path):
    """Anything may come of garbage but a crash or another error."""
    stream = io.BytesIO()
    pickle.dump(dict(a=np.arange(3.0), b=[np.int8(1)]), stream, protocol=2)
    whole = stream.getvalue()
    rng = np.random.default_rng(0)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] = rng.integers(256)
        for content in (whole[:place], bytes(changed)):
            try:
                load_arrays(_write(tmp_path, content))
            except (DamagedCheckpointError, UnsafeCheckpointError) as error:
                assert 'weights.pkl' in str(error)
            else:
                assert content is not whole[:place]


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='nothing.pkl'):
        load_arrays(str(tmp_path / 'nothing.pkl'))
