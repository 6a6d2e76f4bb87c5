"""Check that the installed mmcv fits torch and mmdet.

The package checks before it imports mmcv's operators, whose own errors do not say how to
fix the installation.
"""

import importlib
import importlib.util
import sys

import torch

from .errors import EnvironmentMismatchError


def check_environment() -> None:
    """Import mmcv's operators and mmdet, and explain a failure.

    Raises:
        EnvironmentMismatchError: If a package is missing, or mmcv has no operators, was built
            for another torch, or is a version that mmdet rejects.
    """
    if problem := _find_problem():
        raise EnvironmentMismatchError(
            f'{problem} Run make setup, which compiles a matching mmcv, or make setup '
            'PYTHON=/path/to/bin/python for your own environment (docs/installation.md).'
        )


def _find_problem() -> str:
    for name in ('mmengine', 'mmcv', 'mmdet'):
        if not importlib.util.find_spec(name):
            return f'{name}: the package is not installed in {sys.prefix}.'
    mmcv = importlib.import_module('mmcv')
    installed = f'mmcv {getattr(mmcv, "__version__", "?")} in {mmcv.__path__[0]}'
    if not importlib.util.find_spec('mmcv._ext'):
        return (
            f'{installed} has no operators (mmcv._ext): expected the full mmcv, found '
            'mmcv-lite or a build without them.'
        )
    try:
        importlib.import_module('mmcv._ext')
    except ImportError as error:
        return (
            f'{installed} was built against another torch or CUDA than torch '
            f'{torch.__version__} here: {str(error).splitlines()[0]}.'
        )
    try:
        importlib.import_module('mmdet')
    except AssertionError as error:
        return f'mmdet rejects the installed versions: {error}'
    return ''
