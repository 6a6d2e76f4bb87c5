"""Load checkpoints with PyTorch's ``weights_only`` unpickler.

A pickle can run any code. ``torch.load(weights_only=True)`` builds tensors, plain containers
and the classes of an allow-list, to which :func:`load_checkpoint_file` adds those of
MMEngine's training state.
"""

import os.path as osp
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.logging import HistoryBuffer

from multitask_runtime.utils.files import file_sha256

from .errors import DamagedCheckpointError, UnsafeCheckpointError
from .numpy_stubs import NumericDType, PlainArray, empty_bytes, reconstruct, scalar


def _get_statistic(owner: object, name: str) -> Callable:
    """Stand-in for ``getattr``, by which log buffers pickle their own methods."""
    if owner is HistoryBuffer and name in ('min', 'max', 'mean', 'current'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f'GLOBAL builtins.getattr({owner}, {name!r})')


_ALLOWED = [
    HistoryBuffer,
    (_get_statistic, 'builtins.getattr'),
    (empty_bytes, 'builtins.bytes'),
    (NumericDType, 'numpy.dtype'),
    (PlainArray, 'numpy.ndarray'),
    *(
        (function, f'{core}.multiarray.{name}')
        for core in ('numpy.core', 'numpy._core')  # numpy 1 and 2
        for name, function in (('_reconstruct', reconstruct), ('scalar', scalar))
    ),
]
# The ending of a published file, the first eight digits of its own SHA-256, but not a date
# such as 20261126.
_CHECKSUM = re.compile(r'-(?!(?:19|20)\d\d[01]\d[0-3]\d)([0-9a-f]{8})\.pth$')


def load_checkpoint_file(
    filename: str | Path, map_location: str | torch.device | Callable | None = None
) -> dict:
    """Load a checkpoint file without running any code in it.

    Args:
        filename (str | Path): Path of the file.
        map_location (str | torch.device | Callable, optional): As in ``torch.load``.

    Returns:
        dict: The content of the file.

    Raises:
        FileNotFoundError: If the file does not exist.
        UnsafeCheckpointError: If it holds objects of other classes.
        DamagedCheckpointError: If it is not a PyTorch file, is truncated or corrupted, or its
            name ends in the checksum of another file.
    """
    filename = osp.expanduser(filename)
    restore = (
        f', or restore it by: git checkout -- {filename}'
        if osp.basename(osp.dirname(osp.abspath(filename))) == 'checkpoints'
        else ''
    )
    if not osp.isfile(filename):
        raise FileNotFoundError(
            f'{filename}: there is no such checkpoint. Correct the path, which '
            f'is relative to the working directory{restore}.'
        )
    checksum = _CHECKSUM.search(osp.basename(filename))
    found = file_sha256(filename) if checksum else ''
    if checksum and not found.startswith(checksum[1]):
        raise DamagedCheckpointError(
            f'{filename}: damaged: expected a SHA-256 that begins with '
            f'{checksum[1]}, as its name says, found {found[:8]} '
            f'({osp.getsize(filename)} bytes). Download it again{restore}, or '
            'rename it if these digits are not meant as its checksum.'
        )
    with torch.serialization.safe_globals(_ALLOWED):
        try:
            _check_archive(filename)
            return torch.load(filename, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            is_zip = zipfile.is_zipfile(filename)
            if not is_zip and 'GLOBAL' not in str(error):
                raise _damaged(filename, error) from None
            raise _unsafe(filename, _list_unsafe_classes(filename) if is_zip else []) from None
        except Exception as error:  # garbage raises nearly anything
            raise _damaged(filename, error) from None


def load_checkpoint_url(url: str, **options) -> dict:
    """Download a checkpoint, or take it from PyTorch's cache, and load it safely.

    Args:
        url (str): Address of the file.
        options: As in ``torch.hub.load_state_dict_from_url``.

    Raises:
        UnsafeCheckpointError: If it holds objects other than weights and training state.
    """
    with torch.serialization.safe_globals(_ALLOWED):
        try:
            return torch.hub.load_state_dict_from_url(url, weights_only=True, **options)
        except pickle.UnpicklingError:
            raise _unsafe(url, []) from None


def _check_archive(filename: str) -> None:
    """Refuse a zip file that would grow, as PyTorch never compresses, or with bad checksums."""
    if not zipfile.is_zipfile(filename):
        return
    with zipfile.ZipFile(filename) as file:
        declared = sum(entry.file_size for entry in file.infolist())
        if declared > osp.getsize(filename):
            raise zipfile.BadZipFile(f'its entries declare {declared} bytes')
        # PyTorch writes these checksums and does not verify them.
        if damaged := file.testzip():
            raise zipfile.BadZipFile(f'{damaged} does not match its checksum')


def _list_unsafe_classes(filename: str) -> list[str]:
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(filename))
    except Exception:  # the pickle is truncated, too
        return []


def _unsafe(name: str, classes: list[str]) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f'{name}: refused, because it holds objects that are neither '
        "weights nor MMEngine's training state"
        f'{": " if classes else ""}{", ".join(classes)}. Loading them could run any '
        'code. Expected a checkpoint saved by MMEngine or a state_dict; if '
        'you made the file, save its state_dict alone.'
    )


def _damaged(filename: str, error: Exception) -> DamagedCheckpointError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DamagedCheckpointError(
        f'{filename}: not a whole PyTorch checkpoint ({osp.getsize(filename)} bytes; '
        f'{reason}). Copy or download it again.'
    )
