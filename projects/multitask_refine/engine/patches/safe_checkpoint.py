"""Checkpoints are loaded by PyTorch's safe loader, and by nothing else.

A pickle can run any code. ``torch.load(weights_only=True)`` builds tensors,
plain containers and the classes of an allow-list; MMEngine's checkpoints
need a few more than PyTorch's own list has. Importing this module adds those
and puts the safe loader in MMEngine's place for files and web addresses.
"""

import os.path as osp
import pickle
import re
import zipfile
from typing import Callable, List

import mmengine.runner.checkpoint
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from multitask_refine.evaluation.predictions import file_sha256
from multitask_refine.utils.errors import ExplainedError

from .numpy_stubs import DType, PlainArray, new_array, no_bytes, scalar


def _statistic(owner: object, name: str) -> Callable:
    """What MMEngine's log buffers need of ``getattr``: their own methods."""
    if owner is HistoryBuffer and name in ('min', 'max', 'mean', 'current'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f'GLOBAL builtins.getattr({owner}, {name!r})')


_ALLOWED = [
    HistoryBuffer,
    (_statistic, 'builtins.getattr'),
    (no_bytes, 'builtins.bytes'),
    (DType, 'numpy.dtype'),
    (PlainArray, 'numpy.ndarray'),
]
for _core in ('numpy.core', 'numpy._core'):  # numpy 1 and 2
    _ALLOWED += [
        (new_array, f'{_core}.multiarray._reconstruct'),
        (scalar, f'{_core}.multiarray.scalar'),
    ]

# The ending of a published file: eight digits of its own SHA-256. A date such
# as 20261126 is none.
_CHECKSUM = re.compile(r'-(?!(?:19|20)\d\d[01]\d[0-3]\d)([0-9a-f]{8})\.pth$')


class UnsafeCheckpointError(ExplainedError, ValueError):
    """A checkpoint that holds more than weights and training state."""


class DamagedCheckpointError(ExplainedError, ValueError):
    """A file that is no checkpoint, or not a whole one."""


def load_checkpoint_file(filename: str, map_location=None) -> dict:
    """Load a checkpoint without running anything that it holds.

    Args:
        filename (str): Path of the file.
        map_location: As in ``torch.load``.

    Returns:
        dict: What the file holds.

    Raises:
        FileNotFoundError: If there is no such file.
        UnsafeCheckpointError: If it holds objects of other classes.
        DamagedCheckpointError: If it is not a PyTorch file, is cut short or
            was changed, or its name ends in the checksum of another file.
    """
    filename = osp.expanduser(filename)
    if not osp.isfile(filename):
        raise FileNotFoundError(
            f'{filename}: there is no such checkpoint. Correct the path, which '
            'counts from the folder of the command if it is relative'
            f'{_restore(filename)}.'
        )
    _check_name(filename)
    try:
        _check_parts(filename)
        return torch.load(filename, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise _explain(filename, error) from None
    except Exception as error:  # garbage raises nearly anything
        raise DamagedCheckpointError(_damaged(filename, error)) from None


def _check_name(filename: str) -> None:
    """Compare a published file with the checksum in its name.

    Raises:
        DamagedCheckpointError: If the file has another one.
    """
    name = _CHECKSUM.search(osp.basename(filename))
    if not name:
        return
    found = file_sha256(filename)
    if not found.startswith(name[1]):
        raise DamagedCheckpointError(
            f'{filename}: damaged: expected a SHA-256 that begins with '
            f'{name[1]}, as the name says, found {found[:8]} '
            f'({osp.getsize(filename)} bytes). Download it again'
            f'{_restore(filename)}, or rename it if these digits are not '
            'meant as its checksum.'
        )


def _restore(filename: str) -> str:
    """Say how to get back a file that the repository has."""
    folder = osp.basename(osp.dirname(osp.abspath(filename)))
    if folder != 'checkpoints':
        return ''
    return f', or restore it by: git checkout -- {filename}'


def _check_parts(filename: str) -> None:
    """Refuse a zip file that would grow, as PyTorch does not compress, or
    whose parts differ from their checksums."""
    if not zipfile.is_zipfile(filename):
        return
    with zipfile.ZipFile(filename) as file:
        declared = sum(entry.file_size for entry in file.infolist())
        if declared > osp.getsize(filename):
            raise zipfile.BadZipFile(f'its parts say that they have {declared} bytes')
        # PyTorch does not compare the checksums that it writes.
        damaged = file.testzip()
    if damaged:
        raise zipfile.BadZipFile(f'{damaged} is not what its checksum says')


def _explain(filename: str, error: pickle.UnpicklingError) -> ValueError:
    is_zip = zipfile.is_zipfile(filename)
    if not is_zip and 'GLOBAL' not in str(error):
        return DamagedCheckpointError(_damaged(filename, error))
    names = _unsafe_names(filename) if is_zip else []
    return UnsafeCheckpointError(_refused(filename, names))


def _unsafe_names(filename: str) -> List[str]:
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(filename))
    except Exception:  # a pickle that is not whole, either
        return []


def _refused(name: str, held: List[str]) -> str:
    return (
        f'{name}: refused, because it holds objects that are neither '
        "weights nor MMEngine's training state"
        f'{": " if held else ""}{", ".join(held)}. Loading them could run any '
        'code. Expected a checkpoint saved by MMEngine or a state_dict; if '
        'you made the file, save its state_dict alone.'
    )


def _damaged(filename: str, error: Exception) -> str:
    size = osp.getsize(filename)
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return (
        f'{filename}: not a whole PyTorch checkpoint ({size} bytes; '
        f'{reason}). Copy or download it again.'
    )


def _load_url(url: str, **options) -> dict:
    """Download a checkpoint, or find it in PyTorch's cache, and load it."""
    try:
        return torch.hub.load_state_dict_from_url(url, weights_only=True, **options)
    except pickle.UnpicklingError:
        raise UnsafeCheckpointError(_refused(url, [])) from None


torch.serialization.add_safe_globals(_ALLOWED)
CheckpointLoader.register_scheme(prefixes='', loader=load_checkpoint_file, force=True)
# MMEngine's downloads (http, open-mmlab:// and others) all end in this call.
mmengine.runner.checkpoint.load_url = _load_url
