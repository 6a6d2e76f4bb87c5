"""Find the checkpoint to resume from, and check that it belongs to this training."""

import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from mmdet.registry import HOOKS
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner

from multitask_refine.utils.errors import ResumeError

from .checkpoint_hook import accumulative_counts

_REQUIRED = ('meta', 'message_hub', 'optimizer')
_SETTINGS = 'training_settings'
# Sections of a config that affect the result of a training.
_SECTIONS = (
    'model',
    'optim_wrapper',
    'param_scheduler',
    'auto_scale_lr',
    'train_cfg',
    'train_dataloader',
    'custom_hooks',
)
# Settings in these sections that do not.
_IRRELEVANT = {
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
# Settings that the state in a checkpoint overrides.
_IN_STATE = re.compile(
    r'optim_wrapper\.(type|constructor|optimizer|paramwise_cfg)\b|'
    r'param_scheduler\b|auto_scale_lr\b'
)


def find_latest_checkpoint(path: str) -> str | None:
    """Find the newest checkpoint of a work dir that is not damaged.

    Args:
        path (str): The work dir.

    Returns:
        str or None: The checkpoint that the file ``last_checkpoint`` names, also if the folder
        was moved since, or a later one that was written when the run was killed; if those are
        damaged, the newest whole ``iter_*.pth`` or ``epoch_*.pth``. None, and a warning in the
        log, if there is none.
    """
    log, folder = MMLogger.get_current_instance(), Path(path)
    saved = [file for file in folder.glob('*.pth') if _iterations(file) >= 0]
    candidates = sorted(saved, key=os.path.getmtime, reverse=True)
    note = folder / 'last_checkpoint'
    if note.is_file():
        # MMEngine does not write it atomically: it may be empty or truncated.
        named = Path(note.read_text(errors='replace').strip())
        later = [
            file
            for file in candidates
            if os.path.getmtime(file) >= os.path.getmtime(note)
            and _iterations(file) > _iterations(named)
        ]
        candidates = [*later, folder / named.name, named, *candidates]
    for candidate in dict.fromkeys(candidates):
        if not candidate.is_file():
            continue
        try:
            # Verifying the checksums takes 0.15 s for 500 MB, less than reading them.
            with zipfile.ZipFile(candidate) as entries:
                if entries.testzip() is None:
                    return str(candidate)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError):
            pass
        log.warning(f'{candidate}: skipped, because it is damaged')
    log.warning(f'{path}: there is no checkpoint to resume from; the training starts anew')
    return None


def _iterations(file: Path) -> int:
    """Return the number of iterations or epochs in the name of a checkpoint, or -1."""
    found = re.fullmatch(r'(?:iter|epoch)_(\d+)', file.stem)
    return int(found[1]) if found else -1


@HOOKS.register_module()
class ResumeHook(Hook):
    """Check the checkpoint of a resumed training, and make up for a missed validation.

    MMEngine resumes with the weights that happen to fit, or without the state of the optimizer,
    and with the learning rates and schedule of the checkpoint whatever the config says. This
    hook stores the settings of a training in its checkpoints. Settings of optimizer and
    schedule must be the same when it is resumed; other settings take effect, and a warning
    lists those that have changed.

    MMEngine writes a checkpoint before the validation of the same iteration: if a run is
    stopped in between, that validation is made up for, as it may give the best checkpoint.

    Raises:
        ResumeError: If the checkpoint lacks the training state, is of another model, was
            trained with other settings of optimizer or schedule, holds averaged weights
            without an EMA hook in the config, or has more iterations than this training.
    """

    # Before the timer, which would count the validation as an iteration.
    priority = 'HIGH'

    def before_run(self, runner: Runner) -> None:
        """Find the checkpoint if ``resume`` is set without ``load_from``."""
        if runner._resume and runner._load_from is None and not runner._has_loaded:
            runner._load_from = find_latest_checkpoint(runner.work_dir)
            runner._resume = runner._load_from is not None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the checkpoint with model, hooks and settings of this training."""
        if not runner._resume:
            return
        missing = [part for part in _REQUIRED if part not in checkpoint]
        if missing:
            raise ResumeError(
                f'The checkpoint has no {", ".join(missing)}, only weights, like '
                'best_*.pth and published files. Resume from an '
                'iter_*.pth, or start a new training from these weights with '
                '--cfg-options load_from=FILE.'
            )
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        own = {name: value.shape for name, value in model.state_dict().items()}
        saved = {
            re.sub('^module[.]', '', name): value.shape
            for name, value in checkpoint['state_dict'].items()
        }
        names = sorted(own.keys() | saved.keys())
        differing = [name for name in names if own.get(name) != saved.get(name)]
        if differing:
            raise ResumeError(
                "The checkpoint is of another model than the config's: "
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
                'training from the averaged weights: --cfg-options load_from=FILE '
                'without --resume, and another --work-dir.'
            )
        _compare_settings(runner, checkpoint['meta'])
        counts = accumulative_counts(runner)
        if checkpoint['meta']['iter'] % counts:
            runner.logger.warning(
                'The checkpoint lies between two optimizer steps '
                f'({checkpoint["meta"]["iter"]} iterations done, '
                f'accumulative_counts={counts}). It lacks the gradients accumulated so '
                'far; the result may differ from that of an uninterrupted run.'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the settings of the training."""
        checkpoint['meta'][_SETTINGS] = collect_training_settings(runner.cfg)

    def before_train_epoch(self, runner: Runner) -> None:
        """Run the validation that is due at the iteration resumed from."""
        loop = runner.train_loop
        if (
            isinstance(loop, IterBasedTrainLoop)
            and runner.val_loop
            and loop.iter >= max(loop.val_begin, 1)
            and (loop.iter % loop.val_interval == 0 or loop.iter == loop.max_iters)
        ):
            runner.val_loop.run()


def collect_training_settings(cfg: Config) -> dict[str, object]:
    """Collect the settings that affect the result of a training.

    Args:
        cfg (Config): The config.

    Returns:
        dict[str, object]: Numbers, strings and None, which a checkpoint can hold, by dotted
        names. Lists and tuples are the same.
    """

    def flatten(tree: object, name: str) -> Iterator[tuple[str, object]]:
        if isinstance(tree, dict) and tree:
            for key, value in tree.items():
                yield from flatten(value, f'{name}.{key}')
        # Lists of transforms or hooks by their index; lists of numbers are one value.
        elif isinstance(tree, (list, tuple)) and any(isinstance(each, dict) for each in tree):
            for index, value in enumerate(tree):
                yield from flatten(value, f'{name}.{index}')
        elif tree is None or isinstance(tree, (bool, int, float, str)):
            yield name, tree
        else:
            yield name, str(list(tree) if isinstance(tree, tuple) else tree)

    settings = {}
    for section in _SECTIONS:
        if section == 'auto_scale_lr' and not cfg.get(section, {}).get('enable'):
            continue
        if cfg.get(section):
            settings.update(flatten(cfg[section], section))
    return {
        name: value for name, value in settings.items() if _IRRELEVANT.isdisjoint(name.split('.'))
    }


def _compare_settings(runner: Runner, meta: dict) -> None:
    """Compare the settings of a checkpoint with those of this training.

    Raises:
        ResumeError: If settings differ that the checkpoint's state overrides, or the training
            is to end before the checkpoint.
    """
    done = meta['iter']
    if done > runner.max_iters:
        raise ResumeError(
            f'train_cfg.max_iters: expected at least {done}, the number of iterations '
            f'of the checkpoint, found {runner.max_iters}. Increase '
            'it, or resume from an earlier checkpoint.'
        )
    if _SETTINGS not in meta:
        runner.logger.warning(
            'The checkpoint does not contain the settings of its training, '
            'so they are not compared. Learning rates and schedule are those '
            'of the checkpoint, whatever the config says.'
        )
        return
    before, now = meta[_SETTINGS], collect_training_settings(runner.cfg)
    overridden, changed = [], []
    for name in sorted(before.keys() | now.keys()):
        old, new = (repr(each[name]) if name in each else 'not set' for each in (before, now))
        if old != new:
            # Optimizer and scheduler take their settings from the checkpoint, whatever the config
            # says.
            lines = overridden if _IN_STATE.match(name) else changed
            lines.append(f'    {name}: {old} in the checkpoint, {new} now\n')
    if overridden:
        raise ResumeError(
            'The checkpoint was trained with another optimizer or schedule '
            f"than this config's:\n{''.join(overridden)}"
            'Resuming continues with their state in the checkpoint: use the '
            "checkpoint's settings. To use others, start a new training from its "
            'weights: --cfg-options load_from=FILE without --resume, and another '
            '--work-dir.'
        )
    if changed:
        runner.logger.warning(
            'The training continues with other settings than before; its result '
            f'will differ from that of an uninterrupted run:\n{"".join(changed).rstrip()}'
        )
