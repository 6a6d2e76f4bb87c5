"""Checkpoints that are written atomically and removed only after the next one is written."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from multitask_refine.utils.errors import FileWriteError
from multitask_runtime.utils.files import atomic_write

ATOMIC = dict(backend='atomic')
_OUTDATED = 'outdated_checkpoints'
# Metrics in the order in which save_best='auto' prefers them.
_PREFERRED = ('keypoints_AP', 'segm_AP', 'bbox_AP')


def accumulative_counts(runner: Runner) -> int:
    """Return the number of iterations per optimizer step."""
    return getattr(runner.optim_wrapper, '_accumulative_counts', 1)


def is_optimizer_step(runner: Runner, done: int) -> bool:
    """Return whether no accumulated gradients are pending.

    Args:
        runner (Runner): The runner of a training.
        done (int): Number of iterations done.
    """
    return done % accumulative_counts(runner) == 0 or done == runner.max_iters


@register_backend('atomic')
class AtomicLocalBackend(LocalBackend):
    """Local file backend with atomic writes.

    A process that is killed while it writes leaves a hidden file ending in ``.part``, which
    the next write replaces.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file that appears under its name only when it is complete.

        Args:
            obj (bytes): The content.
            filepath (str | Path): The file.

        Raises:
            FileWriteError: If the file cannot be written; a former one stays as it is.
        """
        try:
            with atomic_write(filepath) as part:
                part.write_bytes(obj)
        except OSError as error:
            try:
                free = f'{shutil.disk_usage(Path(filepath).parent).free / 1e6:.1f} MB'
            except OSError:
                free = 'an unknown amount'
            raise FileWriteError(
                f'{filepath}: {len(obj) / 1e6:.1f} MB could not be written '
                f'({error.strerror}); {free} is free there. Former checkpoints '
                'are kept. Free some space, or check quota and permissions of the '
                'folder, and continue with the same command and --resume.'
            ) from None


class _DeferredRemovals:
    """File backend that records removals instead of performing them.

    The message hub records them, too, and so does the next checkpoint.
    """

    def __init__(self, backend: Any, hub: MessageHub) -> None:
        self.backend, self.hub = backend, hub
        self.outdated: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.outdated.append(path)
        self.hub.update_info(_OUTDATED, list(self.outdated))

    rmtree = remove


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's checkpoint hook with atomic writes and deferred removals.

    MMEngine removes the oldest checkpoint, and the former best one, before it writes the
    next: if that fails, on a full disk for instance, too few are left, or none. Here they are
    removed afterwards. Removals that a killed process did not get to are made up for before
    the next checkpoint is written.

    Accumulated gradients are not part of a checkpoint. One that is due between two optimizer
    steps is written after the next step.

    Arguments as in ``mmengine.hooks.CheckpointHook``.
    """

    def before_train(self, runner: Runner) -> None:
        """Use the atomic backend for local folders without a backend of their own."""
        folder = str(self.out_dir or runner.work_dir)
        if not (self.backend_args or self.file_client_args or '://' in folder):
            self.backend_args = ATOMIC
        super().before_train(runner)

    def every_n_train_iters(self, runner: Runner, n: int, start: int = 0) -> bool:
        """Return whether a checkpoint became due since the last optimizer step.

        Args:
            runner (Runner): The runner, after an iteration that is not yet counted.
            n (int): Interval in iterations.
            start (int): Number of iterations before the interval starts.
        """
        done = runner.iter + 1
        if n <= 0 or done < start or not is_optimizer_step(runner, done):
            return False
        since = max(start, done - accumulative_counts(runner) + 1)  # the first after the last step
        return any((each - start) % n == 0 for each in range(since, done + 1))

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        self._save_then_remove(runner, super()._save_checkpoint_with_step, runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not metrics:  # of a metric that only writes files
            return

        def rank(name: str) -> int:
            if not isinstance(metrics[name], (int, float)) or math.isnan(metrics[name]):
                return len(_PREFERRED) + 1  # NaN is the AP of a task without labels
            tail = name.split('/')[-1]
            return _PREFERRED.index(tail) if tail in _PREFERRED else len(_PREFERRED)

        # save_best='auto' takes the first metric.
        ordered = {name: metrics[name] for name in sorted(metrics, key=rank)}
        self._save_then_remove(runner, super()._save_best_checkpoint, runner, ordered)

    def _save_then_remove(self, runner: Runner, save: Callable, *args) -> None:
        backend, hub = self.file_backend, runner.message_hub
        # what a killed process left, from its checkpoint
        self._remove(hub.get_info(_OUTDATED, []))
        # MMEngine removes through its file backend: no other place has to change.
        self.file_backend = _DeferredRemovals(backend, hub)
        try:
            save(*args)
            outdated = self.file_backend.outdated
        finally:
            self.file_backend = backend
            hub.update_info(_OUTDATED, [])
        self._remove(outdated)  # the new checkpoint is complete now

    def _remove(self, outdated: list[str]) -> None:
        """Remove checkpoints, but not those that were written again since."""
        current = (
            self.last_ckpt,
            getattr(self, 'best_ckpt_path', None),
            *getattr(self, 'best_ckpt_path_dict', {}).values(),
        )
        for path in outdated if is_main_process() else ():
            if path in current or not self.file_backend.exists(path):
                continue
            if self.file_backend.isdir(path):
                self.file_backend.rmtree(path)
            else:
                self.file_backend.remove(path)
