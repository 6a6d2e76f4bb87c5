"""Results files: the numbers of a run and how they were obtained."""

import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Dict, Optional

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size

from multitask_refine.engine.patches.safe_checkpoint import load_checkpoint_file
from multitask_refine.engine.runner.launch import list_evaluators
from multitask_refine.evaluation.predictions import file_sha256
from multitask_runtime.onnx.session import is_onnx, load_session

_ROOT = Path(__file__).resolve().parents[3]
_PACKAGES = ('mmcv', 'mmengine', 'mmdet', 'mmpose', 'pycocotools', 'numpy')


def describe_run(cfg: Config, checkpoint: str, num_images: int, seconds: float) -> dict:
    """Say how a result came about.

    Args:
        cfg (Config): The config as it ran.
        checkpoint (str): The weights' file.
        num_images (int): Images that were evaluated.
        seconds (float): Wall time.

    Returns:
        dict: Command, config, checkpoint and its SHA-256, the training that
        it comes from, data, commit, machine and versions.
    """
    return dict(
        command=command_line(),
        config=Path(cfg.filename).name,
        checkpoint=Path(checkpoint).name,
        checkpoint_sha256=file_sha256(checkpoint),
        **describe_training(checkpoint),
        annotations=_relative(list_evaluators(cfg)[0].ann_file),
        num_images=num_images,
        commit=current_commit(),
        date=time.strftime('%Y-%m-%d'),
        seconds=round(seconds, 1),
        processes=get_world_size(),
        machine=describe_machine(),
    )


def describe_training(checkpoint: str) -> dict:
    """What a checkpoint says of the training that made it.

    Args:
        checkpoint (str): The weights' file.

    Returns:
        dict: ``trained_with`` (name of the config), ``seed``, ``iteration``
        and ``training_commit``; None where the checkpoint does not say, one
        of weights alone for instance. Of an ONNX file also
        ``exported_from`` and ``exported_from_sha256``, the checkpoint, and
        ``quantisation``, None if there is none.
    """
    if is_onnx(checkpoint):
        return _describe_export(checkpoint)
    meta = load_checkpoint_file(checkpoint, 'cpu').get('meta', {})
    # MMEngine adds the time to the config's name, and the commit of the
    # working directory to its version number.
    name = re.fullmatch(r'(.+)_\d{8}_\d{6}', meta.get('experiment_name', ''))
    commit = re.search('[0-9a-f]{40}$', meta.get('mmengine_version', ''))
    return dict(
        trained_with=name and name[1],
        seed=meta.get('seed'),
        iteration=meta.get('iter'),
        training_commit=commit and commit[0][:12],
    )


def _describe_export(path: str) -> dict:
    _, description = load_session(path)
    return dict(
        trained_with=Path(description['config']).stem,
        seed=None,
        iteration=None,
        training_commit=None,
        exported_from=description['checkpoint'],
        exported_from_sha256=description['checkpoint_sha256'],
        quantisation=description.get('quantization', description.get('quantisation')),
    )


def describe_machine() -> dict:
    """Device, cores and versions that a number depends on."""
    device = f'CPU ({_processor()}), {os.cpu_count()} cores, {torch.get_num_threads()} threads'
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    return dict(
        device=device,
        platform=platform.platform(terse=True),
        python=platform.python_version(),
        torch=torch.__version__,
        **{name: version(name) for name in _PACKAGES},
    )


def _processor() -> str:
    """The processor's name, where the system tells it, and the instructions
    that torch uses."""
    name = re.search(r'^model name\s*:\s*(.+)$', _read('/proc/cpuinfo'), re.MULTILINE)
    name = name[1].strip() if name else platform.processor()
    instructions = torch.backends.cpu.get_cpu_capability()
    return ', '.join(filter(None, [name, instructions]))


def _read(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ''


def write_results(path: str, metrics: Dict[str, float], run: Optional[dict] = None) -> None:
    """Write metrics and their origin as JSON, whole or not at all.

    Args:
        path (str): The file; missing folders are made.
        metrics (dict[str, float]): Numbers in percent; NaN becomes null.
        run (dict, optional): From :func:`describe_run`.
    """
    content = {
        name: None if math.isnan(value) else round(value, 4) for name, value in metrics.items()
    }
    if run:
        content['run'] = run
    _write_whole(path, content)


def write_record(path: str, content: dict) -> None:
    """Write what a measurement found and its origin as JSON, whole.

    Args:
        path (str): The file; missing folders are made.
        content (dict): What JSON can hold. ``run`` is added: command,
            commit, date, machine and versions.
    """
    _write_whole(path, dict(content, run=describe_command()))


def describe_command() -> dict:
    """Command, commit, date, machine and versions of what runs."""
    return dict(
        command=command_line(),
        commit=current_commit(),
        date=time.strftime('%Y-%m-%d'),
        machine=describe_machine(),
    )


def _write_whole(path: str, content: dict) -> None:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(target.name + '.tmp')
    draft.write_text(json.dumps(content, indent=2) + '\n')
    draft.replace(target)


def command_line() -> str:
    """str: The command that runs, for a shell at the project's root."""
    spec = sys.modules['__main__'].__spec__
    # A module run by `python -m` has a spec; the name of a package ends in '.__main__'.
    program = f'-m {spec.name.removesuffix(".__main__")}' if spec else _relative(sys.argv[0])
    return ' '.join(['python', program, *(shlex.quote(_relative(part)) for part in sys.argv[1:])])


def _relative(path: str) -> str:
    """Paths inside the project are written from its root."""
    prefix = f'{_ROOT}{os.sep}'
    return path[len(prefix) :] if path.startswith(prefix) else path


def current_commit() -> Optional[str]:
    """The commit, marked when files were changed since; None outside git.

    Changed results files do not count: a series of benchmarks writes some
    before the next begins.
    """
    try:
        git = ['git', '-C', str(_ROOT)]
        commit = subprocess.check_output(
            [*git, 'rev-parse', '--short=12', 'HEAD'], text=True, stderr=subprocess.DEVNULL
        ).strip()
        changed = subprocess.check_output(
            [
                *git,
                'status',
                '--porcelain',
                '--untracked-files=no',
                '--',
                ':/',
                ':(top,exclude)docs/results',
            ],
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ('+changes' if changed.strip() else '')
