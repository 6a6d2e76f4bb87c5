"""All replacements inside other libraries, in one table.

Importing ``multitask_refine`` calls :func:`apply` once. They are global because mim and
MMDetection's own tools know this project only by ``custom_imports`` of the config.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import mmengine.dist.utils
import mmengine.runner.checkpoint
from mmdet.registry import HOOKS, OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.fileio import register_handler
from mmengine.runner import CheckpointLoader

from multitask_refine.engine.hooks.early_stopping_hook import ResumableEarlyStoppingHook
from multitask_refine.engine.hooks.ema_hook import ResumableEMAHook
from multitask_refine.engine.optimizers import OffsetOptimWrapperConstructor
from multitask_refine.utils.safe_checkpoint import load_checkpoint_file, load_checkpoint_url
from multitask_refine.utils.safe_pickle import SafePickleHandler, SafeYamlHandler

from .cpu_launchers import run_on_cpu

__all__ = ['PATCHES', 'Patch', 'apply']


class Patch(NamedTuple):
    """One replacement inside another library."""

    targets: tuple[str, ...]
    """Dotted names of the attributes, or of the entries of a registry."""
    replacement: str
    reason: str
    upstream: str
    """Upstream code or issue; of MMEngine 0.10.7."""
    remove_when: str
    install: Callable[[], None]


def _patch_launchers() -> None:
    for name in ('_init_dist_pytorch', '_init_dist_slurm', '_init_dist_mpi'):
        launcher = getattr(mmengine.dist.utils, name)
        setattr(mmengine.dist.utils, name, run_on_cpu(launcher))


def _patch_load_url() -> None:
    # Downloads of all schemes (http, open-mmlab:// and others) end in this call.
    mmengine.runner.checkpoint.load_url = load_checkpoint_url


PATCHES = (
    Patch(
        targets=(
            'mmengine.dist.utils._init_dist_pytorch',
            'mmengine.dist.utils._init_dist_slurm',
            'mmengine.dist.utils._init_dist_mpi',
        ),
        replacement='cpu_launchers.run_on_cpu around each',
        reason='Distributed runs on machines without CUDA, by gloo.',
        upstream='mmengine/dist/utils.py calls torch.cuda.set_device unconditionally',
        remove_when='MMEngine joins processes without choosing a CUDA device.',
        install=_patch_launchers,
    ),
    Patch(
        targets=("mmengine.runner.checkpoint.CheckpointLoader._schemes['']",),
        replacement='utils.safe_checkpoint.load_checkpoint_file',
        reason='Files cannot run code, and MMEngine checkpoints load in torch >= 2.6.',
        upstream='https://github.com/open-mmlab/mmengine/pull/1650 (weights_only=False)',
        remove_when='MMEngine loads its own checkpoints with weights_only=True.',
        install=lambda: CheckpointLoader.register_scheme('', load_checkpoint_file, force=True),
    ),
    Patch(
        targets=('mmengine.runner.checkpoint.load_url',),
        replacement='utils.safe_checkpoint.load_checkpoint_url',
        reason='The same for downloads.',
        upstream='https://github.com/open-mmlab/mmengine/pull/1650 (weights_only=False)',
        remove_when='MMEngine loads its own checkpoints with weights_only=True.',
        install=_patch_load_url,
    ),
    Patch(
        targets=(
            "mmengine.fileio.handlers.file_handlers['pkl']",
            "mmengine.fileio.handlers.file_handlers['pickle']",
        ),
        replacement='utils.safe_pickle.SafePickleHandler',
        reason="mmdet's tools read predictions and proposals, and pickles can run code.",
        upstream='mmengine/fileio/handlers/pickle_handler.py calls pickle.load',
        remove_when='MMEngine reads pickles with a restricted unpickler.',
        install=lambda: register_handler(['pkl', 'pickle'])(SafePickleHandler),
    ),
    Patch(
        targets=(
            "mmengine.fileio.handlers.file_handlers['yaml']",
            "mmengine.fileio.handlers.file_handlers['yml']",
        ),
        replacement='utils.safe_pickle.SafeYamlHandler',
        reason='YAML with tags of Python objects can run code.',
        upstream='mmengine/fileio/handlers/yaml_handler.py uses the unsafe yaml.Loader',
        remove_when='MMEngine uses yaml.SafeLoader.',
        install=lambda: register_handler(['yaml', 'yml'])(SafeYamlHandler),
    ),
    Patch(
        targets=("mmdet.registry.HOOKS['EMAHook']",),
        replacement='engine.hooks.ResumableEMAHook',
        reason="MMDetection's configs resume exactly, also after a stop in a validation.",
        upstream='mmengine/hooks/ema_hook.py swaps weights without noting it',
        remove_when='EMAHook restores the weights when a validation is interrupted.',
        install=lambda: HOOKS.register_module('EMAHook', module=ResumableEMAHook),
    ),
    Patch(
        targets=("mmdet.registry.HOOKS['EarlyStoppingHook']",),
        replacement='engine.hooks.ResumableEarlyStoppingHook',
        reason='A resumed training stops where an uninterrupted one does.',
        upstream='mmengine/hooks/early_stopping_hook.py keeps its count out of checkpoints',
        remove_when='EarlyStoppingHook saves its count with the checkpoint.',
        install=lambda: HOOKS.register_module(
            'EarlyStoppingHook', module=ResumableEarlyStoppingHook
        ),
    ),
    Patch(
        targets=("mmdet.registry.OPTIM_WRAPPER_CONSTRUCTORS['DefaultOptimWrapperConstructor']",),
        replacement='engine.optimizers.OffsetOptimWrapperConstructor',
        reason='dcn_offset_lr_mult acts on all offset layers without a setting.',
        upstream="mmengine/optim/optimizer/default_constructor.py knows mmcv's layers alone",
        remove_when='MMEngine lets a layer declare its offset parameters.',
        install=lambda: OPTIM_WRAPPER_CONSTRUCTORS.register_module(
            'DefaultOptimWrapperConstructor', module=OffsetOptimWrapperConstructor
        ),
    ),
)


@functools.cache
def apply() -> None:
    """Install all replacements, once per process."""
    for patch in PATCHES:
        patch.install()
