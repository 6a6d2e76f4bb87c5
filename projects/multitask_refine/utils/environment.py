"""Is the installed mmcv one that this package can run with?

The package asks before it imports mmcv's operators, whose own errors do not
say what to do.
"""

import functools
import importlib
import importlib.util
import sys
from typing import Callable

import torch

from .errors import ExplainedError

_MEND = (
    'Run make setup, which compiles one that fits, or make setup '
    'PYTHON=/path/to/bin/python for an environment of your own '
    '(docs/installation.md).'
)


class EnvironmentProblem(ExplainedError):
    """The installed packages do not fit together."""


def check_environment() -> None:
    """Import mmcv's operators and mmdet once, and explain a failure.

    Raises:
        EnvironmentProblem: If mmcv is missing, has no operators, has
            operators for another torch, or is a version that mmdet refuses.
            Uncaught, it ends Python with its message and no traceback.
    """
    problem = _find_problem()
    if problem:
        sys.excepthook = functools.partial(_say, sys.excepthook)
        raise EnvironmentProblem(f'{problem} {_MEND}')


def _find_problem() -> str:
    for name in ('mmengine', 'mmcv', 'mmdet'):
        if not importlib.util.find_spec(name):
            return f'{name}: the package is not installed in {sys.prefix}.'
    if not importlib.util.find_spec('mmcv._ext'):
        return (
            f'mmcv {_version()} in {_folder()} has no operators '
            '(mmcv._ext): expected the full mmcv, found mmcv-lite or a '
            'build without them.'
        )
    try:
        importlib.import_module('mmcv._ext')
    except ImportError as error:
        return (
            f'mmcv {_version()} in {_folder()} was built against another '
            f'torch or CUDA than torch {torch.__version__} here: '
            f'{str(error).splitlines()[0]}.'
        )
    try:
        importlib.import_module('mmdet')
    except AssertionError as error:
        return f'mmdet does not take the installed versions: {error}'
    return ''


def _version() -> str:
    return getattr(importlib.import_module('mmcv'), '__version__', '?')


def _folder() -> str:
    return importlib.util.find_spec('mmcv').submodule_search_locations[0]


def _say(otherwise: Callable, kind: type, error: BaseException, traceback: object) -> None:
    if issubclass(kind, EnvironmentProblem):
        print(error, file=sys.stderr)
    else:
        otherwise(kind, error, traceback)
