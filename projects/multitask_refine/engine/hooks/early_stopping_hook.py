"""Early stopping that counts on where an interrupted training stopped."""

from mmdet.registry import HOOKS
from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import BaseLoop, Runner

_SCORES = 'early_stopping_scores'


@HOOKS.register_module()
class ResumableEarlyStoppingHook(EarlyStoppingHook):
    """MMEngine's early stopping hook that also works for resumed trainings and for tests.

    MMEngine's own forgets the best score and the validations without improvement when a
    training is resumed. This hook keeps the scores in the message hub, of which checkpoints
    hold a copy, and counts them again: a resumed training stops where an uninterrupted one
    does. It stores the scores of validations up to the checkpoint's iteration; the validation
    of that iteration itself is repeated, and counts once.

    Arguments as in ``mmengine.hooks.EarlyStoppingHook``. The rule of AP and AR is 'greater'. The
    package also registers the hook as ``EarlyStoppingHook``.
    """

    _default_greater_keys = (*EarlyStoppingHook._default_greater_keys, '_AP', '_AR')

    def before_run(self, runner: Runner) -> None:
        """Check the training loop; MMEngine would build one, and its dataset, for a test."""
        if isinstance(runner._train_loop, BaseLoop):
            super().before_run(runner)

    def before_train(self, runner: Runner) -> None:
        """Count the scores of the checkpoint."""
        self._scores = [
            [iteration, score]
            for iteration, score in runner.message_hub.get_info(_SCORES, [])
            if iteration < runner.iter
        ]
        for _, score in self._scores:
            self._check_stop_condition(score)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Decide whether to stop, and store the score.

        Args:
            runner (Runner): The runner.
            metrics (dict[str, float]): The metrics by their names.
        """
        if not isinstance(runner._train_loop, BaseLoop):
            return
        super().after_val_epoch(runner, metrics)
        if self.monitor in metrics:
            self._scores.append([runner.iter, float(metrics[self.monitor])])
            runner.message_hub.update_info(_SCORES, self._scores)
