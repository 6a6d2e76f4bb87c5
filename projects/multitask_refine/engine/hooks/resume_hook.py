"""Checkpoints to resume from: written whole, found again, and checked.

Importing this module puts the first two in MMEngine's place; the check is a
hook of ``configs/_base_/default_runtime.py``.
"""

import os
import re
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple, Union

import mmengine.runner.runner
import torch
from mmdet.registry import HOOKS
from mmengine.config import Config
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner

from multitask_refine.utils.errors import ExplainedError

from .checkpoint_hook import accumulative_counts

_STATE = ('meta', 'message_hub', 'optimizer')
SETTINGS = 'training_settings'
# Parts of a config that a training's result depends on.
_PARTS = (
    'model',
    'optim_wrapper',
    'param_scheduler',
    'auto_scale_lr',
    'train_cfg',
    'train_dataloader',
    'custom_hooks',
)
# Settings among these without influence on it.
_FREE = {
    'init_cfg',
    'test_cfg',
    'num_workers',
    'persistent_workers',
    'pin_memory',
    'prefetch_factor',
    'timeout',
    'val_interval',
    'val_begin',
    'data_root',
    'ann_file',
    'data_prefix',
    'backend_args',
}
# Settings in whose place the state in a checkpoint is loaded.
_IN_STATE = re.compile(
    r'optim_wrapper\.(type|constructor|optimizer|paramwise_cfg)\b|'
    r'param_scheduler\b|auto_scale_lr\b'
)


class ResumeError(ExplainedError, ValueError):
    """A checkpoint from which this training cannot go on."""


class FileWriteError(ExplainedError, OSError):
    """A file could not be written, for lack of space for instance."""


@register_backend('local', force=True, prefixes='')
class AtomicLocalBackend(LocalBackend):
    """Files appear under their name when they are complete.

    A process that is killed while it writes leaves a hidden file ending in
    ``.part``, which the next attempt replaces.

    Raises:
        FileWriteError: If the file cannot be written; then it is as it was.
    """

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        target = Path(filepath)
        draft = target.with_name(f'.{target.name}.part')
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(draft, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        except OSError as error:
            _remove(draft)
            raise FileWriteError(_unwritten(target, obj, error)) from None


def _remove(draft: Path) -> None:
    try:
        draft.unlink(missing_ok=True)
    except OSError:  # the folder may be what cannot be written
        pass


def _unwritten(target: Path, content: bytes, error: OSError) -> str:
    try:
        free = f'{shutil.disk_usage(target.parent).free / 1e6:.1f} MB'
    except OSError:
        free = 'an unknown space'
    return (
        f'{target}: {len(content) / 1e6:.1f} MB could not be written '
        f'({error.strerror}); {free} is free there. What was saved before '
        'is still there. Make space, or look at quota and rights of the '
        'folder; a training then goes on by the same command with '
        '--resume.'
    )


def find_latest_checkpoint(path: str) -> Optional[str]:
    """Find the checkpoint to go on from.

    Args:
        path (str): The work dir.

    Returns:
        str or None: The newest whole checkpoint: the one that the file
        ``last_checkpoint`` names, also if the folder was moved since, or a
        later one that was written when the run was killed; if those are
        damaged, the newest whole ``iter_*.pth`` or ``epoch_*.pth``. None, and
        a warning in the log, if there is none.
    """
    log = MMLogger.get_current_instance()
    for candidate in _candidates(Path(path)):
        if _is_whole(candidate):
            return str(candidate)
        log.warning(f'{candidate}: passed over, because it is not whole')
    log.warning(
        f'{path}: there is no checkpoint to resume from; the training starts at its beginning'
    )
    return None


def _is_whole(file: Path) -> bool:
    """Compare all that a checkpoint holds with its checksums.

    Reading is what takes the time; the sums take 0.15 s for 500 MB.
    """
    try:
        with zipfile.ZipFile(file) as parts:
            return parts.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError):
        return False


def _candidates(folder: Path) -> List[Path]:
    saved = [file for file in folder.glob('*.pth') if re.fullmatch(r'(iter|epoch)_\d+', file.stem)]
    files = sorted(saved, key=os.path.getmtime, reverse=True)
    note = folder / 'last_checkpoint'
    if note.is_file():
        # MMEngine writes the note in place: it may be empty or cut short.
        named = Path(note.read_text(errors='replace').strip())
        later = [
            file
            for file in files
            if os.path.getmtime(file) >= os.path.getmtime(note) and _number(file) > _number(named)
        ]
        files = [*later, folder / named.name, named, *files]
    return [file for file in dict.fromkeys(files) if file.is_file()]


def _number(file: Path) -> int:
    found = re.fullmatch(r'(?:iter|epoch)_(\d+)', file.stem)
    return int(found[1]) if found else -1


@HOOKS.register_module()
class ResumeHook(Hook):
    """Check a checkpoint that is resumed, and make up for its validation.

    MMEngine alone would start with those weights that happen to fit, or
    without the optimizer's state; and it would go on with the checkpoint's
    learning rates and schedule, whatever the config says now. Here a
    checkpoint holds the settings that it was trained with. Those of the
    optimizer and the schedule must be the same; any other takes effect, and a
    warning in the log lists what has changed.

    MMEngine writes a checkpoint before the validation of that iteration: if
    the run was stopped in between, the best checkpoint would be missed.

    Raises:
        ResumeError: If the checkpoint lacks the training state, its network
            is not that of the config, its optimizer or schedule have other
            settings, it holds averaged weights and nothing averages now, or
            it has more iterations than this training.
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
                '--cfg-options load_from=FILE.'
            )
        differing = _differing_weights(runner.model, checkpoint['state_dict'])
        if differing:
            raise ResumeError(
                "The checkpoint is of another network than the config's: "
                f'{len(differing)} weights have another name or shape, such '
                f'as {", ".join(differing[:3])}. It was trained as '
                f'{checkpoint["meta"].get("experiment_name")}: resume it with '
                'that config.'
            )
        if 'ema_state_dict' in checkpoint and not any(
            isinstance(hook, EMAHook) for hook in runner.hooks
        ):
            raise ResumeError(
                'custom_hooks: expected EMAHook, with which the checkpoint '
                'was trained: its state_dict holds averaged weights, not '
                'those of the optimizer. Resume with it, or start a new '
                'training from the averages: --cfg-options load_from=FILE '
                'without --resume, and another --work-dir.'
            )
        _compare_settings(runner, checkpoint['meta'])
        counts = accumulative_counts(runner)
        if checkpoint['meta']['iter'] % counts:
            runner.logger.warning(
                'The checkpoint lies between two steps of the optimizer '
                f'({checkpoint["meta"]["iter"]} iterations done, '
                f'accumulative_counts={counts}). Gradients accumulated before '
                'are not in it; the result may not be that of an unbroken '
                'run.'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['meta'][SETTINGS] = _training_settings(runner.cfg)

    def before_train_epoch(self, runner: Runner) -> None:
        loop = runner.train_loop
        if (
            isinstance(loop, IterBasedTrainLoop)
            and runner.val_loop
            and loop.iter >= max(loop.val_begin, 1)
            and (loop.iter % loop.val_interval == 0 or loop.iter == loop.max_iters)
        ):
            runner.val_loop.run()


def _training_settings(cfg: Config) -> Dict[str, object]:
    """Return the settings that a training's result depends on.

    Args:
        cfg (Config): The config.

    Returns:
        dict[str, object]: By dotted names; numbers, texts and the like, as a
        checkpoint can hold them.
    """
    parts = {name: cfg[name] for name in _PARTS if cfg.get(name)}
    if not cfg.get('auto_scale_lr', {}).get('enable'):
        parts.pop('auto_scale_lr', None)
    return {name: value for name, value in _flatten(parts) if _FREE.isdisjoint(name.split('.'))}


def _flatten(tree: object, name: str = '') -> Iterator[Tuple[str, object]]:
    """Yield dotted name and value of each leaf; lists are as tuples."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _flatten(value, f'{name}.{key}' if name else str(key))
    elif isinstance(tree, (list, tuple)) and any(isinstance(each, dict) for each in tree):
        for index, value in enumerate(tree):
            yield from _flatten(value, f'{name}.{index}')
    elif tree is None or isinstance(tree, (bool, int, float, str)):
        yield name, tree
    else:
        yield name, str(list(tree) if isinstance(tree, tuple) else tree)


def _compare_settings(runner: Runner, meta: dict) -> None:
    """Compare a checkpoint's settings with those of this training.

    Raises:
        ResumeError: If settings differ that the checkpoint's state would
            override, or the training is to end before the checkpoint.
    """
    done = meta['iter']
    if done > runner.max_iters:
        raise ResumeError(
            f'train_cfg.max_iters: expected at least {done}, the iterations '
            f'that the checkpoint has done, found {runner.max_iters}. Raise '
            'it, or resume an earlier checkpoint.'
        )
    if SETTINGS not in meta:
        runner.logger.warning(
            'The checkpoint does not say with which settings it was trained, '
            'so they are not compared. Learning rates and schedule are those '
            'of the checkpoint, whatever the config says.'
        )
        return
    before, now = meta[SETTINGS], _training_settings(runner.cfg)
    overridden, changed = [], []
    for name in sorted(before.keys() | now.keys()):
        values = [repr(each[name]) if name in each else 'not set' for each in (before, now)]
        if values[0] != values[1]:
            lines = overridden if _IN_STATE.match(name) else changed
            lines.append(f'    {name}: {values[0]} in the checkpoint, {values[1]} now')
    if overridden:
        raise ResumeError(
            '\n'.join(
                [
                    'The checkpoint was trained with another optimizer or schedule '
                    "than this config's:",
                    *overridden,
                    'Their state is in the checkpoint, and a resumed training goes on '
                    "with it: resume with the checkpoint's settings. To use others, "
                    'start a new training from its weights: --cfg-options '
                    'load_from=FILE without --resume, and another --work-dir.',
                ]
            )
        )
    if changed:
        runner.logger.warning(
            '\n'.join(
                [
                    'The training goes on with other settings than before; its result '
                    'will not be that of an unbroken run:',
                    *changed,
                ]
            )
        )


def _differing_weights(model: torch.nn.Module, weights: dict) -> List[str]:
    model = model.module if is_model_wrapper(model) else model
    own = {name: value.shape for name, value in model.state_dict().items()}
    saved = {re.sub('^module[.]', '', name): value.shape for name, value in weights.items()}
    return sorted(name for name in own.keys() | saved.keys() if own.get(name) != saved.get(name))


mmengine.runner.runner.find_latest_checkpoint = find_latest_checkpoint
