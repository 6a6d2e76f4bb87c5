"""Checkpoints to resume from: written whole, found again, and checked.

Importing this module puts the first two in MMEngine's place; the check is a
hook of ``configs/_base_/default_runtime.py``.
"""
import os
import re
import zipfile
from pathlib import Path
from typing import List, Optional, Union

import mmengine.runner.runner
import torch
from mmdet.registry import HOOKS
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner

_STATE = ('meta', 'message_hub', 'optimizer')


class ResumeError(ValueError):
    """A checkpoint from which this training cannot go on."""


@register_backend('local', force=True, prefixes='')
class WholeFileBackend(LocalBackend):
    """Files appear under their name when they are complete.

    A process that is killed while it writes leaves a hidden file ending in
    ``.part``, which the next attempt replaces.
    """

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        target = Path(filepath)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f'.{target.name}.part')
        with open(draft, 'wb') as file:
            file.write(obj)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)


def find_latest_checkpoint(path: str) -> Optional[str]:
    """Find the checkpoint to go on from.

    Args:
        path (str): The work dir.

    Returns:
        str or None: The checkpoint that the file ``last_checkpoint`` names,
        also if the folder was moved since; if that is missing or damaged,
        the newest whole ``iter_*.pth`` or ``epoch_*.pth``. None, and a
        warning in the log, if there is none.
    """
    log = MMLogger.get_current_instance()
    for candidate in _candidates(Path(path)):
        if zipfile.is_zipfile(candidate):
            return str(candidate)
        log.warning(f'{candidate}: passed over, because it is not whole')
    log.warning(f'{path}: there is no checkpoint to resume from; the training '
                'starts at its beginning')
    return None


def _candidates(folder: Path) -> List[Path]:
    saved = [
        file for file in folder.glob('*.pth')
        if re.fullmatch(r'(iter|epoch)_\d+', file.stem)
    ]
    files = sorted(saved, key=os.path.getmtime, reverse=True)
    note = folder / 'last_checkpoint'
    if note.is_file():
        named = Path(note.read_text().strip())
        files = [folder / named.name, named, *files]
    return [file for file in dict.fromkeys(files) if file.is_file()]


@HOOKS.register_module()
class ResumeHook(Hook):
    """Check a checkpoint that is resumed, and make up for its validation.

    MMEngine alone would start with those weights that happen to fit, or
    without the optimizer's state. And it writes a checkpoint before the
    validation of that iteration: if the run was stopped in between, the best
    checkpoint would be missed.

    Raises:
        ResumeError: If the checkpoint lacks the training state, or its
            network is not that of the config.
    """

    # Before the timer, which would count the validation as an iteration.
    priority = 'HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if not runner.cfg.get('resume'):
            return
        lacks = [part for part in _STATE if part not in checkpoint]
        if lacks:
            raise ResumeError(
                f'The checkpoint has no {", ".join(lacks)}, only weights, as '
                'the files best_*.pth and published ones. Resume from an '
                'iter_*.pth, or start a new training from these weights by '
                '--cfg-options load_from=FILE.')
        differing = _differing_weights(runner.model, checkpoint['state_dict'])
        if differing:
            raise ResumeError(
                'The checkpoint is of another network than the config\'s: '
                f'{len(differing)} weights have another name or shape, such '
                f'as {", ".join(differing[:3])}. It was trained as '
                f'{checkpoint["meta"].get("experiment_name")}: resume it with '
                'that config.')

    def before_train_epoch(self, runner: Runner) -> None:
        loop = runner.train_loop
        if (isinstance(loop, IterBasedTrainLoop) and runner.val_loop
                and loop.iter >= max(loop.val_begin, 1)
                and (loop.iter % loop.val_interval == 0
                     or loop.iter == loop.max_iters)):
            runner.val_loop.run()


def _differing_weights(model: torch.nn.Module, weights: dict) -> List[str]:
    model = model.module if is_model_wrapper(model) else model
    own = {name: value.shape for name, value in model.state_dict().items()}
    saved = {
        re.sub('^module[.]', '', name): value.shape
        for name, value in weights.items()
    }
    return sorted(
        name for name in own.keys() | saved.keys()
        if own.get(name) != saved.get(name))


mmengine.runner.runner.find_latest_checkpoint = find_latest_checkpoint
