"""Exceptions with messages for users, and the decorator with which tools report them."""

import difflib
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from multitask_runtime.utils.errors import ExplainedError, explain_os_error

_OUT_OF_MEMORY = (
    'CUDA is out of memory ({reason}). Try, in this order: a smaller batch '
    '(--cfg-options train_dataloader.batch_size=1 with --auto-scale-lr; '
    'test_dataloader.batch_size=1; --batch-size 1 of the demos), training '
    'with --amp, smaller images (scale of the Resize transforms in the pipelines), '
    'fewer instances (model.train_cfg.rcnn.sampler.num, '
    'model.test_cfg.rcnn.max_per_img), and no other process on the GPU '
    '(nvidia-smi lists them).'
)
_NO_CUDA_OPS = (
    'mmcv was built without CUDA operators, but the model is on CUDA '
    '({reason}). Compile mmcv where nvcc is available: make setup '
    'PYTHON=/path/to/bin/python with a CUDA build of torch '
    '(docs/installation.md), or run on the CPU: CUDA_VISIBLE_DEVICES= before the '
    'command.'
)
_UNKNOWN_TYPE = re.compile(r'(\S+) is not in the (\w+)::([\w ]+) registry')


class ConfigError(ExplainedError, ValueError):
    """Settings contradict each other, the data or a checkpoint."""


class EnvironmentMismatchError(ExplainedError, SystemExit):
    """The installed packages do not fit together.

    The package raises it while it is imported, before any tool can catch it. As a
    ``SystemExit`` it ends Python with its message and status 1; as an ``Exception`` it can
    be caught.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = message


class DamagedCheckpointError(ExplainedError, ValueError):
    """A file is not a checkpoint, or is truncated or corrupted."""


class UnsafeCheckpointError(ExplainedError, ValueError):
    """A file holds objects other than weights, arrays and training state."""


class ResumeError(ExplainedError, ValueError):
    """A training cannot be resumed from a checkpoint."""


class FileWriteError(ExplainedError, OSError):
    """A file cannot be written, on a full disk for instance."""


class LoaderWorkerError(ExplainedError, RuntimeError):
    """The workers of a data loader die again and again."""


class NonFiniteTrainingError(ExplainedError, ArithmeticError):
    """A loss of NaN or infinity ended a training."""


class TooManyBadImagesError(ExplainedError, RuntimeError):
    """More images cannot be read than a training allows."""


@contextmanager
def explained_errors() -> Iterator[None]:
    """Exit with a one-sentence message for errors that the user can fix.

    As a decorator, it wraps the ``main`` of every tool.

    Raises:
        SystemExit: With the message, for an :class:`ExplainedError`, a file that cannot be
            read or written, a component of the config that is unknown or wrongly
            configured, CUDA out of memory, or mmcv without CUDA operators. Other errors
            propagate.
    """
    try:
        yield
    except ExplainedError as error:
        raise SystemExit(str(error)) from None
    except OSError as error:
        if error.filename is None and not isinstance(error, FileNotFoundError):
            raise
        raise SystemExit(explain_os_error(error)) from None
    except torch.OutOfMemoryError as error:
        raise SystemExit(_OUT_OF_MEMORY.format(reason=_first_sentence(error))) from None
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        message = _explain_component(error)
        if not message:
            raise
        raise SystemExit(message) from None
    except RuntimeError as error:
        if 'ot compiled with GPU support' not in str(error):
            raise
        raise SystemExit(_NO_CUDA_OPS.format(reason=_first_sentence(error))) from None


def _first_sentence(error: Exception) -> str:
    """Return the message without the C++ stack that PyTorch may append."""
    return str(error).splitlines()[0].split('. ')[0].rstrip('.')


def _explain_component(error: Exception) -> str:
    """Explain why MMEngine failed to build a component of the config.

    The config is at fault if the ``__init__`` of the component, or the call of it, raised.

    Returns:
        str: Empty if the error has another cause.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [frame.f_code.co_name for frame in frames]
    if 'build_from_cfg' not in names:
        return ''
    last = len(names) - 1 - names[::-1].index('build_from_cfg')
    if set(names[last + 1 :]) - {'__init__', 'get', 'get_instance'}:
        return ''
    message = str(error.args[0]) if error.args else ''
    if unknown := _UNKNOWN_TYPE.search(message):
        import mmdet.registry  # not before the environment has been checked
        from mmengine.registry import Registry

        name, scope, kind = unknown.groups()
        registered = [
            name
            for each in vars(mmdet.registry).values()
            if isinstance(each, Registry) and each.name == kind
            for name in each.module_dict
        ]
        close = difflib.get_close_matches(name, registered, 1)
        hint = (
            f'Did you mean {close[0]!r}?'
            if close
            else 'Add its module to custom_imports.imports of the config.'
        )
        return (
            f'config: type={name!r}: expected the name of a {kind} registered by '
            f'{scope} or this project, found no such name. {hint}'
        )
    settings = frames[last].f_locals['cfg']
    if not isinstance(settings, dict) or 'type' not in settings:
        return (
            'config: expected dict(type=...) for each component, found '
            f'{str(settings)[:200]!r}. Add its type.'
        )
    return (
        f'config: type={settings["type"]!r}: {type(error).__name__}: '
        f'{message}. Correct the arguments beside this type; the docstring '
        'of the class lists them.'
    )
