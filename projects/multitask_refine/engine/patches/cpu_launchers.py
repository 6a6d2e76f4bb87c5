"""MMEngine's distributed launchers on machines without CUDA."""

import functools
from collections.abc import Callable
from unittest import mock

import torch


def run_on_cpu(init_dist: Callable) -> Callable:
    """Wrap one of MMEngine's launchers for machines without CUDA.

    The launchers call ``torch.cuda.set_device`` unconditionally, which fails without CUDA.
    The wrapper disables that call while a launcher runs and replaces nccl by gloo; with CUDA
    it changes nothing.

    Args:
        init_dist (Callable): Takes the backend and options of ``init_process_group``.
    """

    @functools.wraps(init_dist)
    def wrapper(backend: str, **kwargs) -> None:
        if torch.cuda.is_available():
            init_dist(backend, **kwargs)
        else:
            with mock.patch('torch.cuda.set_device'):  # a mock that accepts and ignores the call
                init_dist('gloo' if backend == 'nccl' else backend, **kwargs)

    return wrapper
