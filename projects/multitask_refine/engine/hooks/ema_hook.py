"""Exponential moving average (EMA) of the weights that survives preemption."""

from mmdet.registry import HOOKS
from mmengine.hooks import EMAHook
from mmengine.runner import BaseLoop, Runner


@HOOKS.register_module()
class ResumableEMAHook(EMAHook):
    """MMEngine's EMA hook that also works for interrupted validations and for tests.

    A checkpoint's ``state_dict`` holds the averaged weights, which are validated, tested and
    exported; ``ema_state_dict`` holds the weights of the optimizer, and resuming swaps the two
    again. This hook adds two cases:

    - During a validation the model holds the averaged weights. When a run is preempted then,
      the weights of the optimizer are restored before the checkpoint is saved.
    - A test builds no averaged model: the checkpoint's ``state_dict`` is the average already.

    Arguments as in ``mmengine.hooks.EMAHook``. The package also registers it as ``EMAHook``.
    """

    ema_model = None
    _swapped = False

    def before_run(self, runner: Runner) -> None:
        """Copy the model, once and for training only."""
        if self.ema_model is None and isinstance(runner._train_loop, BaseLoop):
            super().before_run(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Load the averaged weights when training."""
        if self.ema_model is not None:
            super().after_load_checkpoint(runner, checkpoint)

    def before_stop(self, runner: Runner) -> None:
        """Restore the weights of the optimizer before a preempted run is saved."""
        if self._swapped:
            self._swap_ema_parameters()

    def _swap_ema_parameters(self) -> None:
        if self.ema_model is not None:
            super()._swap_ema_parameters()
            self._swapped = not self._swapped
