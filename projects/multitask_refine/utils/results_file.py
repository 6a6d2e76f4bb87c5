"""Results files: metrics of a run and their provenance."""

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

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size

from multitask_runtime.onnx.session import is_exported, load_session
from multitask_runtime.utils.files import atomic_write, file_sha256
from multitask_runtime.utils.processor import describe_processor, read_processor

from .config import list_evaluators
from .safe_checkpoint import load_checkpoint_file

_ROOT = Path(__file__).resolve().parents[3]
_PACKAGES = ('mmcv', 'mmengine', 'mmdet', 'mmpose', 'pycocotools', 'numpy')


def describe_run(cfg: Config, checkpoint: str, num_images: int, seconds: float) -> dict:
    """Describe how the metrics of a test were obtained.

    Args:
        cfg (Config): The config as it ran.
        checkpoint (str): The checkpoint file.
        num_images (int): Number of images evaluated.
        seconds (float): Wall time.

    Returns:
        dict: Command, config, checkpoint and its SHA-256, the training that made it, data,
        commit, machine and versions.
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
    """Read from a checkpoint how it was trained.

    Args:
        checkpoint (str): The checkpoint file, or an exported file.

    Returns:
        dict: ``trained_with`` (name of the config), ``seed``, ``iteration`` and
        ``training_commit``; None where the checkpoint lacks them, one of weights alone for
        instance. Of an exported file also ``exported_from``, ``exported_from_sha256``, and
        ``quantization``, None if there is none.
    """
    if is_exported(checkpoint):
        metadata = load_session(checkpoint).metadata
        return dict(
            trained_with=Path(metadata['config']).stem,
            seed=None,
            iteration=None,
            training_commit=None,
            exported_from=metadata['checkpoint'],
            exported_from_sha256=metadata['checkpoint_sha256'],
            quantization=metadata.get('quantization', metadata.get('quantisation')),
        )
    meta = load_checkpoint_file(checkpoint, 'cpu').get('meta', {})
    # MMEngine appends the time to the config's name, and the commit of the working directory
    # to its own version.
    name = re.fullmatch(r'(.+)_\d{8}_\d{6}', meta.get('experiment_name', ''))
    commit = re.search('[0-9a-f]{40}$', meta.get('mmengine_version', ''))
    return dict(
        trained_with=name and name[1],
        seed=meta.get('seed'),
        iteration=meta.get('iter'),
        training_commit=commit and commit[0][:12],
    )


def describe_machine() -> dict:
    """Describe device and versions.

    Returns:
        dict: GPU, or processor with its instruction sets, cores and threads; the instruction
        sets alone; platform, Python and packages.
    """
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        device = (
            f'CPU ({describe_processor()}), {os.cpu_count()} cores, '
            f'{torch.get_num_threads()} threads'
        )
    return dict(
        device=device,
        instructions=list(read_processor().instructions),
        platform=platform.platform(terse=True),
        python=platform.python_version(),
        torch=torch.__version__,
        **{name: version(name) for name in _PACKAGES},
    )


def describe_command() -> dict:
    """Describe the running command.

    Returns:
        dict: Command, commit, date, machine and versions.
    """
    return dict(
        command=command_line(),
        commit=current_commit(),
        date=time.strftime('%Y-%m-%d'),
        machine=describe_machine(),
    )


def write_results(path: str, metrics: dict[str, float], run: dict | None = None) -> None:
    """Write metrics and their provenance as JSON, atomically.

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
    _write_json(path, content)


def write_record(path: str, content: dict) -> None:
    """Write a measurement and its provenance as JSON, atomically.

    Args:
        path (str): The file; missing folders are made.
        content (dict): A JSON object. ``run`` is added: command, commit, date, machine and
            versions.
    """
    _write_json(path, dict(content, run=describe_command()))


def _write_json(path: str, content: dict) -> None:
    with atomic_write(path) as part:
        part.write_text(json.dumps(content, indent=2) + '\n')


def command_line() -> str:
    """Return the running command, for a shell at the project's root."""
    spec = sys.modules['__main__'].__spec__
    # A module run by `python -m` has a spec; the name of a package ends in '.__main__'.
    program = f'-m {spec.name.removesuffix(".__main__")}' if spec else _relative(sys.argv[0])
    return ' '.join(['python', program, *(shlex.quote(_relative(part)) for part in sys.argv[1:])])


def _relative(path: str) -> str:
    """Make paths inside the project relative to its root."""
    return path.removeprefix(f'{_ROOT}{os.sep}')


def current_commit() -> str | None:
    """Return the commit, marked if tracked files were changed since; None outside git.

    Changed results files do not count: a series of benchmarks writes some before the next
    begins.
    """
    git = ['git', '-C', str(_ROOT)]
    exclude = ['--untracked-files=no', '--', ':/', ':(top,exclude)docs/results']
    try:
        commit = subprocess.check_output(
            [*git, 'rev-parse', '--short=12', 'HEAD'], text=True, stderr=subprocess.DEVNULL
        ).strip()
        changed = subprocess.check_output([*git, 'status', '--porcelain', *exclude], text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ('+changes' if changed.strip() else '')
