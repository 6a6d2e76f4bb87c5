"""Errors that say all a user has to know, and how a tool says them."""

import difflib
import re
import traceback
from contextlib import contextmanager
from typing import Iterator

import torch

from multitask_runtime.utils.errors import InputError, OnnxError

_NO_MEMORY = (
    'The GPU has not enough memory ({reason}). What helps, the first before '
    'the rest: fewer images at once '
    '(--cfg-options train_dataloader.batch_size=1 with --auto-scale-lr; '
    'test_dataloader.batch_size=1; --batch-size 1 of the demos), training '
    'with --amp, smaller images (scale of the Resize steps in the pipelines), '
    'fewer people at once (model.train_cfg.rcnn.sampler.num, '
    'model.test_cfg.rcnn.max_per_img), and no other program on the same GPU '
    '(nvidia-smi lists them).'
)
_NO_CUDA_OPERATORS = (
    'mmcv was built without CUDA operators, but the network is on CUDA '
    '({reason}). Compile it where nvcc is: make setup '
    'PYTHON=/path/to/bin/python with a CUDA build of torch '
    '(docs/installation.md), or run on the CPU: CUDA_VISIBLE_DEVICES= before the '
    'command.'
)
_UNKNOWN_TYPE = re.compile(r'(\S+) is not in the (\w+)::([\w ]+) registry')


class ExplainedError(Exception):
    """An error whose message is all that a user has to know.

    Tools print the message alone and end with status 1. Another error of that
    kind only has to inherit from this class too.
    """


class ConfigError(ExplainedError, ValueError):
    """Settings that contradict each other, the data or a checkpoint."""


@contextmanager
def explained_errors() -> Iterator[None]:
    """End a tool by one sentence where the user can mend the cause.

    It is a decorator, too; every tool has it around its whole ``main``.

    Raises:
        SystemExit: With the sentence, in place of an :class:`ExplainedError`,
            a file that cannot be read or written, a component that the config
            names or configures wrongly, CUDA without memory, or mmcv without
            CUDA operators. All other errors pass.
    """
    try:
        yield
    except (ExplainedError, InputError, OnnxError) as error:
        raise SystemExit(str(error)) from None
    except OSError as error:
        if error.filename is None and not isinstance(error, FileNotFoundError):
            raise
        reason = f'{error.filename}: {error.strerror}'
        raise SystemExit(str(error) if error.filename is None else reason) from None
    except torch.OutOfMemoryError as error:
        raise SystemExit(_NO_MEMORY.format(reason=_first(error))) from None
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        sentence = _explain_component(error)
        if not sentence:
            raise
        raise SystemExit(sentence) from None
    except RuntimeError as error:
        if 'ot compiled with GPU support' not in str(error):
            raise
        raise SystemExit(_NO_CUDA_OPERATORS.format(reason=_first(error))) from None


def _explain_component(error: Exception) -> str:
    """Explain why MMEngine could not build a component of the config.

    That is the config's fault if the component's ``__init__``, or the call of
    it, raised the error.

    Returns:
        str: '' if the error is about something else.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [frame.f_code.co_name for frame in frames]
    if 'build_from_cfg' not in names:
        return ''
    last = len(names) - 1 - names[::-1].index('build_from_cfg')
    if set(names[last + 1 :]) - {'__init__', 'get', 'get_instance'}:
        return ''
    message = str(error.args[0]) if error.args else ''
    unknown = _UNKNOWN_TYPE.search(message)
    if unknown:
        name, scope, kind = unknown.groups()
        close = difflib.get_close_matches(name, _registered(kind), 1)
        hint = (
            f'Did you mean {close[0]!r}?'
            if close
            else 'Name its module in custom_imports.imports of the config.'
        )
        return (
            f'config: type={name!r}: expected the name of a {kind} that '
            f'{scope} or this project registers, found none of that name. '
            f'{hint}'
        )
    settings = frames[last].f_locals['cfg']
    if not isinstance(settings, dict) or 'type' not in settings:
        return (
            'config: expected dict(type=...) for each component, found '
            f'{str(settings)[:200]!r}. Name its type.'
        )
    return (
        f'config: type={settings["type"]!r}: {type(error).__name__}: '
        f'{message}. Correct the settings beside this type; the docstring '
        'of the class lists them.'
    )


def _registered(kind: str) -> list:
    """Names in mmdet's registries of a kind, their parents' included."""
    import mmdet.registry  # not before the environment has been checked
    from mmengine.registry import Registry

    return [
        name
        for each in vars(mmdet.registry).values()
        if isinstance(each, Registry) and each.name == kind
        for name in each.module_dict
    ]


def _first(error: Exception) -> str:
    """The first sentence of PyTorch's message, which may have a stack."""
    return str(error).splitlines()[0].split('. ')[0].rstrip('.')
