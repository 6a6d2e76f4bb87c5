"""Atomic writes and file hashes, with the standard library alone."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 1 << 16  # bytes read at once


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], part: Path | None = None) -> Iterator[Path]:
    """Write a file that appears under its name complete or not at all.

    A process that is killed leaves a hidden ``.NAME.part``, which the next write
    replaces. Two processes must not write the same file at the same time, unless each has a
    temporary path of its own.

    Args:
        path (str | os.PathLike): The file; missing folders are made.
        part (Path, optional): Temporary path in the same folder. Defaults to ``.NAME.part``.

    Yields:
        Path: Temporary path in the same folder, to be written in the ``with`` block.

    Raises:
        OSError: If the file cannot be written; a former one stays as it is.

    Examples:
        >>> with atomic_write('metrics.json') as part:
        ...     part.write_text('{}')
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = part or partial_path(target)
    try:
        yield part
        with part.open('rb') as file:
            os.fsync(file.fileno())  # else a power cut can leave an empty file
        part.replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):  # the error of the write says more
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(part):
            error.filename = str(target)  # the name that the user knows
        raise


def partial_path(path: Path) -> Path:
    """Return where :func:`atomic_write` writes a file until it is complete."""
    return path.with_name(f'.{path.name}.part')


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Compute the SHA-256 of a file: 64 hexadecimal digits."""
    return file_digest(path, 'sha256')


def file_digest(path: str | os.PathLike[str], algorithm: str) -> str:
    """Compute the digest of a file.

    Args:
        path (str | os.PathLike): The file.
        algorithm (str): Name of the algorithm in ``hashlib``, such as 'sha256'.

    Returns:
        str: Hexadecimal digits.

    Raises:
        OSError: If the file cannot be read.
    """
    digest = hashlib.new(algorithm)
    with open(path, 'rb') as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
