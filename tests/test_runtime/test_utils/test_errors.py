"""Errors of the system as sentences."""

import errno
import os

import pytest

from multitask_runtime.utils.errors import explain_os_error


@pytest.mark.parametrize(
    'number, sentence',
    [
        (errno.ENOTDIR, 'x: Not a directory. Expected a folder, found a file; name another path.'),
        (errno.EROFS, 'x: Read-only file system. Name a path on a disk that can be written.'),
        (errno.EIO, 'x: Input/output error.'),
    ],
)
def test_sentence_has_file_reason_and_fix(number, sentence):
    assert explain_os_error(OSError(number, os.strerror(number), 'x')) == sentence


def test_error_without_a_file_or_a_number():
    full = OSError(errno.ENOSPC, 'No space left on device')
    assert explain_os_error(full).startswith('No space left on device. Free some space')
    assert explain_os_error(FileNotFoundError('a.png: there is no such file')) == (
        'a.png: there is no such file'
    )


def test_of_a_rename_the_second_file_is_named(tmp_path):
    (tmp_path / 'part').touch()
    (tmp_path / 'folder').mkdir()
    with pytest.raises(IsADirectoryError) as error:
        (tmp_path / 'part').replace(tmp_path / 'folder')
    assert explain_os_error(error.value).startswith(f'{tmp_path}/folder: Is a directory.')
