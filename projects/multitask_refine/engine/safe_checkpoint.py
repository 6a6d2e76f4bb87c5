"""Checkpoints are loaded by PyTorch's safe loader, and by nothing else.

A pickle can run any code. ``torch.load(weights_only=True)`` builds tensors,
plain containers and the classes of an allow-list; MMEngine's checkpoints
need a few more than PyTorch's own list has. Importing this module adds those
and puts the safe loader in MMEngine's place for files and web addresses.
"""
import functools
import os.path as osp
import pickle
import zipfile
from typing import Callable

import mmengine.runner.checkpoint
import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader


def _statistic(owner: object, name: str) -> Callable:
    """What MMEngine's log buffers need of ``getattr``: their own methods."""
    if owner is HistoryBuffer and name in ('min', 'max', 'mean', 'current'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f'GLOBAL builtins.getattr({owner}, {name!r})')


_ALLOWED = [
    HistoryBuffer, np.ndarray, np.dtype, np._core.multiarray._reconstruct,
    np._core.multiarray.scalar,
    *{type(np.dtype(code)) for code in '?bhilqBHILQefd'}
]
_ALIASES = [
    (_statistic, 'builtins.getattr'),
    # Files written under numpy 1 name its core differently.
    (np._core.multiarray._reconstruct, 'numpy.core.multiarray._reconstruct'),
    (np._core.multiarray.scalar, 'numpy.core.multiarray.scalar')
]


class UnsafeCheckpointError(ValueError):
    """A checkpoint that holds more than weights and training state."""


class DamagedCheckpointError(ValueError):
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
        DamagedCheckpointError: If it is not a PyTorch file or is cut short.
    """
    filename = osp.expanduser(filename)
    if not osp.isfile(filename):
        raise FileNotFoundError(f'{filename}: there is no such checkpoint')
    try:
        return torch.load(
            filename, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise _explain(filename, error) from None
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise DamagedCheckpointError(_damaged(filename, error)) from None


def _explain(filename: str, error: pickle.UnpicklingError) -> ValueError:
    if not zipfile.is_zipfile(filename) and 'GLOBAL' not in str(error):
        return DamagedCheckpointError(_damaged(filename, error))
    held = ''
    if zipfile.is_zipfile(filename):
        names = torch.serialization.get_unsafe_globals_in_checkpoint(filename)
        held = f': {", ".join(sorted(names))}' if names else ''
    return UnsafeCheckpointError(
        f'{filename}: refused, because it holds objects that are neither '
        f'weights nor MMEngine\'s training state{held}. Loading them could '
        'run any code. Expected a checkpoint saved by MMEngine or a '
        'state_dict; if you made the file, save its state_dict alone.')


def _damaged(filename: str, error: Exception) -> str:
    size = osp.getsize(filename)
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return (f'{filename}: not a whole PyTorch checkpoint ({size} bytes; '
            f'{reason}). Copy or download it again.')


torch.serialization.add_safe_globals(_ALLOWED + _ALIASES)
CheckpointLoader.register_scheme(
    prefixes='', loader=load_checkpoint_file, force=True)
# MMEngine's downloads (http, open-mmlab:// and others) all end in this call.
mmengine.runner.checkpoint.load_url = functools.partial(
    torch.hub.load_state_dict_from_url, weights_only=True)
