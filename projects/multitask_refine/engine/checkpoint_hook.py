"""Checkpoints that are removed only after the next one is written."""
from typing import Any, List

from mmdet.registry import HOOKS
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner


class _LaterRemovals:
    """A file backend that only notes what is to be removed."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.noted: List[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.noted.append(path)

    def rmtree(self, path: str) -> None:
        self.noted.append(path)


@HOOKS.register_module()
class KeepingCheckpointHook(CheckpointHook):
    """MMEngine's hook, with the removals after the writing.

    MMEngine removes the oldest checkpoint, and the former best one, before it
    writes the next: if that fails, on a full disk for instance, too few are
    left, or none. Here there is one more for the time of writing.
    Arguments as in ``mmengine.hooks.CheckpointHook``.
    """

    def _save_checkpoint_with_step(self, runner: Runner, step: int,
                                   meta: dict) -> None:
        self._removing_later(super()._save_checkpoint_with_step, runner, step,
                             meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        self._removing_later(super()._save_best_checkpoint, runner, metrics)

    def _removing_later(self, save: Any, *args: Any) -> None:
        backend = self.file_backend
        self.file_backend = _LaterRemovals(backend)
        try:
            save(*args)
            outdated = self.file_backend.noted
        finally:
            self.file_backend = backend
        written = (self.last_ckpt, getattr(self, 'best_ckpt_path', None),
                   *getattr(self, 'best_ckpt_path_dict', {}).values())
        for path in outdated:
            if path not in written:
                remove = (
                    backend.rmtree
                    if backend.isdir(path) else backend.remove)
                remove(path)
