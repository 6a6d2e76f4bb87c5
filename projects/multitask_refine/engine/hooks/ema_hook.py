"""Exponential moving average of the weights, with resume and preemption."""

from mmdet.registry import HOOKS
from mmengine.hooks import EMAHook
from mmengine.runner import BaseLoop, Runner


# Under MMEngine's name, so that configs of MMDetection get it, too.
@HOOKS.register_module(name='EMAHook')
class ResumableEMAHook(EMAHook):
    """MMEngine's hook for the moving average (EMA) of the weights, which also
    works when a run is stopped in a validation and in tests.

    A checkpoint's ``state_dict`` holds the averages, which are validated,
    tested and exported; ``ema_state_dict`` holds the weights that the
    optimizer goes on with, and a resumed training swaps the two again. Two
    cases are handled in addition:

    - During a validation the network holds the averages. A run that is
      preempted then gets its own weights back before they are saved.
    - A test has no average of its own: the checkpoint's ``state_dict`` is
      that already, so no second network is built.

    Arguments as in ``mmengine.hooks.EMAHook``.
    """

    ema_model = None
    _swapped = False

    def before_run(self, runner: Runner) -> None:
        """Copy the network, once and for a training only."""
        if self.ema_model is None and isinstance(runner._train_loop, BaseLoop):
            super().before_run(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the average from the checkpoint if there is a training."""
        if self.ema_model is not None:
            super().after_load_checkpoint(runner, checkpoint)

    def before_stop(self, runner: Runner) -> None:
        """Give the network its own weights back before it is saved."""
        if self._swapped:
            self._swap_ema_parameters()

    def _swap_ema_parameters(self) -> None:
        if self.ema_model is not None:
            super()._swap_ema_parameters()
            self._swapped = not self._swapped
