"""Safe reading and atomic writing of weight files."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from multitask_refine.engine import (
    DamagedCheckpointError,
    ExplainedError,
    UnsafeCheckpointError,
    load_arrays,
    load_checkpoint_file,
)

Weights = dict[str, Tensor]


class ConversionError(ExplainedError, ValueError):
    """A checkpoint cannot be converted."""


CAFFE2 = (
    'It is a file of Caffe2 (Detectron1): load it in Detectron2, save '
    'the model there, and convert that.'
)
_LOADERS = {
    '.pkl': load_arrays,
    '.pth': lambda path: load_checkpoint_file(path, 'cpu'),
    '.pt': lambda path: load_checkpoint_file(path, 'cpu'),
}
_SHOWN = 10


class Checkpoint(NamedTuple):
    """Content and checksum of a weight file."""

    path: str
    sha256: str
    meta: dict
    weights: Weights


def read_checkpoint(path: str) -> Checkpoint:
    """Read weights from a file of any of the sources, without running code.

    Args:
        path (str): A ``.pkl`` of numpy arrays, or PyTorch's ``.pth``/``.pt``.

    Returns:
        Checkpoint: With the names as in the file, less a ``module.`` that
        all of them begin with.

    Raises:
        ConversionError: If the file is missing, damaged or unsafe, or holds
            something else.
    """
    suffix = Path(path).suffix
    if suffix not in _LOADERS:
        raise ConversionError(f'{path}: expected a file that ends in {", ".join(_LOADERS)}')
    try:
        content = _LOADERS[suffix](path)
    except (FileNotFoundError, DamagedCheckpointError, UnsafeCheckpointError) as error:
        raise ConversionError(str(error)) from None
    meta = {}
    for key in ('model', 'state_dict'):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            meta = content.get('meta', meta)
            content = content[key]
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return Checkpoint(
        path, digest, meta if isinstance(meta, dict) else {}, _weights(path, content)
    )


def _weights(path: str, content: object) -> Weights:
    if not isinstance(content, dict) or not content:
        raise ConversionError(
            f'{path}: expected a dict of names and weights, found {str(content)[:60]}'
        )
    if 'blobs' in content:
        raise ConversionError(f'{path}: not converted. {CAFFE2}')
    weights = {str(key): _tensor(value) for key, value in content.items()}
    strange = [key for key, value in weights.items() if value is None]
    if strange:
        raise ConversionError(
            '\n'.join(
                [
                    f'{path}: expected names and weights, but these are no weights:',
                    *listed(strange),
                ]
            )
        )
    if all(key.startswith('module.') for key in weights):
        return {key[len('module.') :]: weights[key] for key in weights}
    return weights


def _tensor(value: object) -> Tensor | None:
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        # PyTorch has no other byte order than the machine's.
        return torch.from_numpy(array.astype(array.dtype.newbyteorder('=')))
    return value if isinstance(value, Tensor) else None


def save(path: str, content: dict) -> None:
    """Write a checkpoint, whole or not at all; its folder is made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f'{target.name}.{os.getpid()}.tmp')
    try:
        torch.save(content, draft)
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def listed(names: list[str]) -> list[str]:
    """Return lines with the first names and the number of the others."""
    more = len(names) - _SHOWN
    return [
        *(f'    {name}' for name in names[:_SHOWN]),
        *([f'    ... and {more} more'] if more > 0 else []),
    ]
