"""Early stopping, and its count in resumed trainings."""

import pytest
from mmdet.registry import HOOKS
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from multitask_refine.engine import ResumableEarlyStoppingHook
from multitask_refine.utils.safe_checkpoint import load_checkpoint_file
from tests.trainings import Dice, Scores, runner, same

pytestmark = pytest.mark.slow

STOP = dict(type='EarlyStoppingHook', monitor='coco/keypoints_AP', patience=2, min_delta=0.1)
# Of iterations 2, 4, 6 and 8: 20.05 is less than 0.1 above 20, and 19 is the second in a row
# without an improvement.
SCORES = (10, 20, 20.05, 19, 18, 17, 16)


class Interrupt(Hook):
    """Interrupt the run after some iterations; may save a checkpoint before that."""

    def __init__(self, done, file=None):
        self.done, self.file = done, file

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.done:
            if self.file:
                meta = dict(epoch=0, iter=self.done)
                runner.save_checkpoint(str(runner.work_dir), self.file, meta=meta, by_epoch=False)
            raise KeyboardInterrupt


def _run(work_dir, scores=SCORES, **options):
    options = dict(
        dict(
            custom_hooks=[STOP],
            randomness=dict(seed=0),
            train_cfg=dict(type='ReproducibleTrainLoop', max_iters=14, val_interval=2),
        ),
        **options,
    )
    return runner(work_dir, scores, **options)


def test_training_stops_after_validations_without_improvement(tmp_path):
    training = _run(tmp_path)
    training.train()
    assert training.iter == 8
    assert (tmp_path / 'iter_8.pth').is_file()


@pytest.mark.parametrize('moment', ['in a validation', 'between two', 'after one'])
def test_resumed_training_stops_in_the_same_iteration(tmp_path, moment):
    """The validation of the checkpoint's iteration is repeated, and counts once."""
    _run(tmp_path / 'unbroken').train()
    work_dir, options = tmp_path / 'stopped', {}
    if moment == 'in a validation':  # that of iteration 8
        stopped, missing = _run(work_dir, [*SCORES[:3], False]), SCORES[3:]
    else:
        stopped = _run(work_dir, checkpoint=dict(interval=6 if moment == 'between two' else 20))
        name = 'after.pth' if moment == 'after one' else None  # as before a non-finite loss
        stopped.register_hook(Interrupt(7 if moment == 'between two' else 6, name))
        missing = SCORES[2:]
        options = dict(load_from=str(work_dir / name)) if name else {}
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    resumed = _run(work_dir, missing, resume=True, **options)
    resumed.train()
    assert resumed.iter == 8
    if moment != 'in a validation':
        expected, found = (
            load_checkpoint_file(folder / 'iter_8.pth')
            for folder in (tmp_path / 'unbroken', work_dir)
        )
        for part in ('state_dict', 'optimizer'):
            assert same(expected[part], found[part]), part


def test_a_test_builds_no_training_loop(tmp_path):
    test = _run(
        tmp_path,
        test_cfg={},
        test_dataloader=DataLoader(Dice(1), collate_fn=list),
        test_evaluator=Evaluator(Scores([0])),
    )
    test.test()
    assert isinstance(test._train_loop, dict)


@pytest.mark.parametrize(
    'monitor, rule', [('coco/segm_AP75', 'greater'), ('bbox_AR100', 'greater'), ('loss', 'less')]
)
def test_rule_follows_from_the_metric(monitor, rule):
    hook = HOOKS.build(dict(type='EarlyStoppingHook', monitor=monitor))
    assert isinstance(hook, ResumableEarlyStoppingHook)
    assert hook.rule == rule
