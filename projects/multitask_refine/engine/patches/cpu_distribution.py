"""Distributed runs on machines without CUDA.

MMEngine's launchers (``pytorch``, ``slurm``, ``mpi``) choose a CUDA device
for each process, which fails where there is none. Importing this module makes
them leave that out there and join the processes by gloo in place of nccl.
Every tool that reads a config of the project imports it, mim's too, before
the processes are joined. On CUDA nothing changes.
"""

import functools
from typing import Callable

import mmengine.dist.utils
import torch


def _without_cuda(join: Callable) -> Callable:
    """Let one of MMEngine's launchers work on the CPU too."""

    @functools.wraps(join)
    def wrapper(backend: str, **kwargs) -> None:
        if torch.cuda.is_available():
            join(backend, **kwargs)
            return
        choose_device = torch.cuda.set_device
        torch.cuda.set_device = lambda device: None
        try:
            join('gloo' if backend == 'nccl' else backend, **kwargs)
        finally:
            torch.cuda.set_device = choose_device

    return wrapper


for _name in ('_init_dist_pytorch', '_init_dist_slurm', '_init_dist_mpi'):
    setattr(mmengine.dist.utils, _name, _without_cuda(getattr(mmengine.dist.utils, _name)))
