"""Download of a file: resumed where it broke off, checked, and complete or not there."""

import re
import sys
import time
from pathlib import Path

import requests
from filelock import FileLock
from tqdm import tqdm

from multitask_refine.utils.errors import ExplainedError
from multitask_runtime.utils.files import file_digest

_TIMEOUT = (10, 30)  # seconds to connect, and without any data
_ATTEMPTS = 4
_PAUSE = 1.0  # seconds before the second attempt, then doubled
_BLOCK = 1 << 16  # bytes


class DownloadError(ExplainedError, OSError):
    """A file cannot be downloaded, or is not what its publisher says."""


def download_file(url: str, path: Path, checksum: str, show_progress: bool = True) -> None:
    """Download a file, unless it is there.

    What was received is kept in ``PATH.part`` if the transfer breaks off, and the next call
    continues it. Processes that need the same file wait for the first one.

    Args:
        url (str): Address of the file.
        path (Path): Where it appears when it is complete and checked; the folder is made.
        checksum (str): Algorithm and first digits of its digest, such as 'sha256:fc266e95'.
        show_progress (bool): Whether to show a progress bar on stderr. Defaults to True.

    Raises:
        DownloadError: If the server cannot be reached, does not have the file, breaks off again
            and again, or sends something else, or the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f'{path}.lock'):
        if path.exists():
            return
        part = path.with_name(f'{path.name}.part')
        is_continued = part.exists()
        _receive_all(url, path, part, show_progress)
        try:
            check_digest(part, checksum)
        except DownloadError as error:
            part.unlink()
            if not is_continued:
                raise DownloadError(
                    f'{url}: {error} The server may have sent a page instead of the file. '
                    f'{_by_hand(path)}'
                ) from None
            # What was there may be of another file: once more from the start.
            _receive_all(url, path, part, show_progress)
            check_digest(part, checksum)
        part.replace(path)


def check_digest(path: Path, checksum: str) -> None:
    """Compare the digest of a file with the digits that its publisher gives.

    Args:
        path (Path): The file.
        checksum (str): As in :func:`download_file`.

    Raises:
        DownloadError: If they differ.
    """
    algorithm, _, digits = checksum.partition(':')
    found = file_digest(path, algorithm)
    if not found.startswith(digits):
        raise DownloadError(
            f'{path}: expected {algorithm.upper()} {digits}..., as the publisher says, found '
            f'{found[: len(digits)]}... ({path.stat().st_size} bytes).'
        )


def _receive_all(url: str, path: Path, part: Path, show_progress: bool) -> None:
    """Receive until the part is complete, over several connections if they break off."""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE * 2 ** (attempt - 1))
        try:
            return _receive(url, part, show_progress)
        except requests.HTTPError as error:
            status = error.response.status_code
            reason = f'the server answered {status} {error.response.reason}'
            if status < 500 and status != 429:  # it will not change its mind
                break
        except requests.ConnectTimeout:
            reason = 'the server cannot be reached'
        except requests.Timeout:
            reason = f'no data came for {_TIMEOUT[1]} seconds'
        except requests.ConnectionError as error:
            # Of urllib3's chain the innermost error says why.
            reason = f'the server cannot be reached or broke off ({_innermost(error)})'
        except requests.RequestException as error:
            reason = f'the transfer broke off ({_innermost(error)})'
        except OSError as error:  # of the file, on a full disk for instance
            raise DownloadError(
                f'{part}: expected to write the download of {url}, found {error.strerror}. Free '
                'some space, or name another folder by MULTITASK_CACHE.'
            ) from None
    kept = part.stat().st_size if part.exists() else 0
    received = f' The first {kept} bytes are kept, and the next call continues.' if kept else ''
    raise DownloadError(f'{url}: not downloaded: {reason}.{received} {_by_hand(path)}')


def _receive(url: str, part: Path, show_progress: bool) -> None:
    """Append to the part what it lacks, or start again if the server sends the whole file."""
    start = part.stat().st_size if part.exists() else 0
    headers = {'Accept-Encoding': 'identity'}
    if start:
        headers['Range'] = f'bytes={start}-'
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        content_range = response.headers.get('Content-Range', '')
        if response.status_code == 416:  # nothing beyond the part
            if content_range == f'bytes */{start}':
                return None
            part.unlink()
            return _receive(url, part, show_progress)
        response.raise_for_status()
        if not re.match(rf'bytes {start}-', content_range):
            start = 0
        size = response.headers.get('Content-Length')
        total = start + int(size) if size else None
        with (
            part.open('ab' if start else 'wb') as file,
            tqdm(
                total=total,
                initial=start,
                unit='B',
                unit_scale=True,
                desc=part.stem,
                disable=not show_progress,
                mininterval=0.1 if sys.stderr.isatty() else 5.0,  # few lines in a log file
            ) as bar,
        ):
            for block in response.iter_content(_BLOCK):
                file.write(block)
                bar.update(len(block))
    return None


def _innermost(error: BaseException) -> str:
    while error.__context__ is not None:
        error = error.__context__
    return str(error) or type(error).__name__


def _by_hand(path: Path) -> str:
    return (
        f'Try again, or download it by other means and put it at {path}; MULTITASK_CACHE names '
        'another folder.'
    )
