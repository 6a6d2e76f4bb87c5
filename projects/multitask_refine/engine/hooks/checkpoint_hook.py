"""Checkpoints that are removed only after the next one is written."""

import math
from typing import Any, Dict, List

from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub
from mmengine.runner import Runner

NOTE = 'outdated_checkpoints'


def accumulative_counts(runner: Runner) -> int:
    """Return how many iterations make an optimizer step."""
    return getattr(runner.optim_wrapper, '_accumulative_counts', 1)


def is_whole_step(runner: Runner, done: int) -> bool:
    """Return whether no gradients wait for the next iterations.

    Args:
        runner (Runner): Of a training.
        done (int): Number of iterations done.
    """
    return done % accumulative_counts(runner) == 0 or done == runner.max_iters


class _LaterRemovals:
    """A file backend that only notes what is to be removed, also in what the
    next checkpoint says."""

    def __init__(self, backend: Any, hub: MessageHub) -> None:
        self.backend, self.hub = backend, hub
        self.noted: List[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.noted.append(path)
        self.hub.update_info(NOTE, list(self.noted))

    rmtree = remove


def _by_importance(metrics: Dict[str, float]) -> Dict[str, float]:
    """Metrics with those first that ``save_best='auto'`` prefers: MMEngine
    takes the first one."""
    tails = ('keypoints_AP', 'segm_AP', 'bbox_AP')

    def rank(name: str) -> int:
        value = metrics[name]
        if not isinstance(value, (int, float)) or math.isnan(value):
            return len(tails) + 1  # NaN, of a task without labels, never wins
        return next((i for i, tail in enumerate(tails) if name.split('/')[-1] == tail), len(tails))

    return {name: metrics[name] for name in sorted(metrics, key=rank)}


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's hook, with the removals after the writing.

    MMEngine removes the oldest checkpoint, and the former best one, before it
    writes the next: if that fails, on a full disk for instance, too few are
    left, or none. Here there is one more for the time of writing. What a
    process that was killed in between has left is removed before the next is
    written.

    While gradients are accumulated over several iterations, they are in no
    checkpoint. One that falls due in between is written after the iteration
    that uses them.

    Arguments as in ``mmengine.hooks.CheckpointHook``.
    """

    def every_n_train_iters(self, runner: Runner, n: int, start: int = 0) -> bool:
        """Return whether a checkpoint fell due since the last optimizer step
        and this iteration makes one.

        Args:
            runner (Runner): After an iteration that is not yet counted.
            n (int): The interval, in iterations.
            start (int): Iterations before the interval counts.
        """
        done = runner.iter + 1
        if n <= 0 or done < start or not is_whole_step(runner, done):
            return False
        return any(
            (each - start) % n == 0
            for each in range(max(start, done - accumulative_counts(runner) + 1), done + 1)
        )

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        self._removing_later(runner, super()._save_checkpoint_with_step, runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not metrics:  # of a metric that only writes files
            return
        self._removing_later(
            runner, super()._save_best_checkpoint, runner, _by_importance(metrics)
        )

    def _removing_later(self, runner: Runner, save: Any, *args: Any) -> None:
        backend, hub = self.file_backend, runner.message_hub
        self._remove(hub.get_info(NOTE, []))
        self.file_backend = _LaterRemovals(backend, hub)
        try:
            save(*args)
            outdated = self.file_backend.noted
        finally:
            self.file_backend = backend
            hub.update_info(NOTE, [])
        self._remove(outdated)

    def _remove(self, outdated: List[str]) -> None:
        written = (
            self.last_ckpt,
            getattr(self, 'best_ckpt_path', None),
            *getattr(self, 'best_ckpt_path_dict', {}).values(),
        )
        for path in outdated if is_main_process() else ():
            if path not in written and self.file_backend.exists(path):
                remove = (
                    self.file_backend.rmtree
                    if self.file_backend.isdir(path)
                    else self.file_backend.remove
                )
                remove(path)
