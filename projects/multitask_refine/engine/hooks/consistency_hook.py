"""Check model, datasets, metrics and checkpoint before the first iteration."""

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner

from multitask_refine.engine.consistency import check_consistency, list_metas
from multitask_refine.engine.runner.start_weights import check_start_weights
from multitask_refine.utils.errors import ConfigError


@HOOKS.register_module()
class ConsistencyHook(Hook):
    """Call :func:`check_consistency` before the first iteration of a run.

    The checkpoint of a test or a resumed training must have been trained with the same classes
    and keypoints. One that a training starts from (``load_from``) may differ in them, with a
    warning, but not in the architecture (:func:`check_start_weights`).

    Raises:
        ConfigError: As :func:`check_consistency` and :func:`check_start_weights`.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._saved: dict | None = None

    def before_run(self, runner: Runner) -> None:
        """Compare the parts of the loops that run."""
        # The runner's own properties would build the loops that do not run.
        loops = {split: getattr(runner, f'_{split}_loop') for split in ('train', 'val', 'test')}
        loops = {split: loop for split, loop in loops.items() if isinstance(loop, BaseLoop)}
        datasets = {
            f'{split}_dataloader.dataset': loop.dataloader.dataset for split, loop in loops.items()
        }
        self._metas = {}
        for name, dataset in datasets.items():
            self._metas.update(list_metas(dataset, name))
        if self._metas:
            evaluators = {
                split: loop.evaluator for split, loop in loops.items() if split != 'train'
            }
            check_consistency(runner.model, self._metas, datasets, evaluators)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the metainfo of the checkpoint, and compare start weights with the model."""
        self._saved = checkpoint.get('meta', {}).get('dataset_meta')
        if isinstance(runner._train_loop, BaseLoop) and not runner._resume:
            check_start_weights(runner.model, checkpoint)

    def before_train(self, runner: Runner) -> None:
        """Compare the checkpoint with the datasets; only resuming requires that they agree."""
        try:
            self._compare_checkpoint(runner)
        except ConfigError as error:
            if runner._resume:
                raise
            runner.logger.warning(f'{error} The training starts from these weights nevertheless.')

    def before_val(self, runner: Runner) -> None:
        """Compare the checkpoint with the datasets, unless a training validates."""
        if not isinstance(runner._train_loop, BaseLoop):
            self._compare_checkpoint(runner)

    def before_test(self, runner: Runner) -> None:
        """Compare the checkpoint with the datasets."""
        self._compare_checkpoint(runner)

    def _compare_checkpoint(self, runner: Runner) -> None:
        if self._saved and self._metas:
            check_consistency(runner.model, self._metas, saved=self._saved)
