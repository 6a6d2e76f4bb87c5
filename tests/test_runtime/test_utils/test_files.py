"""Atomic writes and file hashes."""

import os
import signal

import pytest

from multitask_runtime.utils.files import atomic_write, file_sha256


def test_file_appears_complete_in_a_new_folder(tmp_path):
    target = tmp_path / 'a' / 'b' / 'metrics.json'
    with atomic_write(str(target)) as part:
        part.write_text('{}')
        assert part.parent == target.parent
        assert not target.exists()
    assert target.read_text() == '{}'
    assert os.listdir(target.parent) == ['metrics.json']


@pytest.mark.parametrize('error', [OSError, KeyboardInterrupt])
def test_failed_write_keeps_the_former_file(tmp_path, error):
    target = tmp_path / 'metrics.json'
    target.write_text('old')
    with pytest.raises(error), atomic_write(target) as part:
        part.write_text('half')
        raise error
    assert target.read_text() == 'old'
    assert os.listdir(tmp_path) == ['metrics.json']


def test_error_of_the_write_is_raised_where_cleaning_up_fails(tmp_path):
    with pytest.raises(ValueError, match='disk full'), atomic_write(tmp_path / 'a') as part:
        part.mkdir()  # cannot be unlinked
        raise ValueError('disk full')


def test_part_of_a_killed_process_is_replaced(tmp_path):
    target = tmp_path / 'metrics.json'
    pid = os.fork()
    if pid == 0:
        with atomic_write(target) as part:
            part.write_text('a longer content')
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert not target.exists()
    with atomic_write(target) as part:
        part.write_text('new')
    assert target.read_text() == 'new'
    assert os.listdir(tmp_path) == ['metrics.json']


# The digests of 'abc' and of a million 'a' are those of FIPS 180-2, appendix B.
@pytest.mark.parametrize(
    'content, expected',
    [
        (b'abc', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'),
        (b'a' * 1_000_000, 'cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0'),
        (b'', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'),
    ],
)
def test_sha256(tmp_path, content, expected):
    (tmp_path / 'file').write_bytes(content)
    assert file_sha256(tmp_path / 'file') == expected
