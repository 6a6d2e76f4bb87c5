"""Downloads from a server with whole, broken, wrong and slow answers."""

import hashlib
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from multitask_refine.pretrained import DownloadError, download_file
from multitask_refine.pretrained import download as download_module

CONTENT = np.random.default_rng(0).bytes(8 << 16)  # whole blocks of the client
SHA = f'sha256:{hashlib.sha256(CONTENT).hexdigest()[:8]}'
MD5 = f'md5:{hashlib.md5(CONTENT).hexdigest()[:6]}'


@pytest.fixture
def get(publisher, tmp_path):
    """Download the file and return its path; ``url`` of another one."""
    publisher.files['/models/net.pth'] = CONTENT

    def call(checksum=SHA, path='/models/net.pth'):
        target = tmp_path / 'cache/net.pth'
        download_file(publisher.url + path, target, checksum, show_progress=False)
        return target

    return call


def leftovers(tmp_path):
    return sorted(path.name for path in (tmp_path / 'cache').iterdir())


@pytest.mark.parametrize('checksum', [SHA, MD5])
def test_whole_answer(get, publisher, checksum, tmp_path):
    assert get(checksum).read_bytes() == CONTENT
    assert leftovers(tmp_path) == ['net.pth', 'net.pth.lock']
    get(checksum)  # is there
    assert publisher.requests == [('/models/net.pth', None)]


def test_broken_transfers_are_continued(get, publisher):
    publisher.faults = ['break', 'break', '']
    assert get().read_bytes() == CONTENT
    assert [asked for _, asked in publisher.requests] == [None, 'bytes=262144-', 'bytes=393216-']


def test_next_call_continues(get, publisher, tmp_path):
    publisher.faults = ['break'] + [503] * 3
    with pytest.raises(DownloadError, match='answered 503 .*first 262144 bytes are kept, and the'):
        get()
    assert leftovers(tmp_path) == ['net.pth.lock', 'net.pth.part']
    publisher.requests.clear()
    assert get().read_bytes() == CONTENT
    assert publisher.requests == [('/models/net.pth', 'bytes=262144-')]


def test_server_without_ranges_starts_again(get, publisher):
    publisher.ranges = False
    publisher.faults = ['break', '']
    assert get().read_bytes() == CONTENT


def test_part_that_is_complete_already(get, publisher, tmp_path):
    (tmp_path / 'cache').mkdir()
    (tmp_path / 'cache/net.pth.part').write_bytes(CONTENT)
    assert get().read_bytes() == CONTENT
    assert publisher.requests == [('/models/net.pth', 'bytes=524288-')]


@pytest.mark.parametrize('part', [b'of another file', b'x' * 700_000])
def test_part_of_another_file_is_discarded(get, part, tmp_path):
    (tmp_path / 'cache').mkdir()
    (tmp_path / 'cache/net.pth.part').write_bytes(part)
    assert get().read_bytes() == CONTENT


def test_wrong_content_is_refused_and_removed(get, publisher, tmp_path):
    publisher.faults = ['page']
    with pytest.raises(DownloadError) as error:
        get()
    (digits,) = re.findall(r'expected SHA256 (\w{8})\.\.\.', str(error.value))
    assert SHA.endswith(digits)
    for words in ('found ', '(26 bytes)', 'a page instead', 'net.pth', 'MULTITASK_CACHE'):
        assert words in str(error.value)
    assert leftovers(tmp_path) == ['net.pth.lock']
    assert get().read_bytes() == CONTENT


def test_stalled_server(get, publisher, monkeypatch):
    publisher.faults = ['stall', '']
    assert get().read_bytes() == CONTENT  # by a second connection
    assert publisher.requests[1][1] == 'bytes=262144-'


def test_server_that_always_stalls(get, publisher, monkeypatch):
    monkeypatch.setattr(download_module, '_ATTEMPTS', 2)
    publisher.faults = ['stall', 'stall']
    with pytest.raises(DownloadError, match='not downloaded: .*(no data came|timed out).* kept'):
        get()


def test_missing_file_is_not_asked_for_again(get, publisher):
    with pytest.raises(DownloadError, match='the server answered 404 Not Found.* by other means'):
        get(path='/models/moved.pth')
    assert len(publisher.requests) == 1


def test_busy_server_is_asked_again(get, publisher):
    publisher.faults = [503, 429]
    assert get().read_bytes() == CONTENT
    assert len(publisher.requests) == 3


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, '_PAUSE', 0.0)
    target = tmp_path / 'net.pth'
    with pytest.raises(DownloadError) as error:
        download_file('http://127.0.0.1:9/net.pth', target, SHA, show_progress=False)
    assert 'the server cannot be reached' in str(error.value)
    assert f'put it at {target}' in str(error.value)


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='there is no /dev/full')
def test_full_disk(get, publisher, tmp_path):
    (tmp_path / 'cache').mkdir()
    (tmp_path / 'cache/net.pth.part').symlink_to('/dev/full')
    with pytest.raises(DownloadError, match='net.pth.part: .*found No space left on device. Free'):
        get()


def test_processes_wait_for_each_other(get, publisher):
    threads = [threading.Thread(target=get) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert get().read_bytes() == CONTENT
    assert len(publisher.requests) == 1


def test_progress_counts_bytes(publisher, tmp_path, capsys):
    publisher.files['/net.pth'] = CONTENT
    download_file(f'{publisher.url}/net.pth', tmp_path / 'net.pth', SHA)
    assert re.search(r'net\.pth: 100%.*524k/524k', capsys.readouterr().err)
