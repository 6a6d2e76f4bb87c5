"""Options of a training together: EMA, bfloat16, gradient accumulation and early stopping."""

import re

import pytest
import torch

from multitask_refine.utils.safe_checkpoint import load_checkpoint_file
from tests.conftest import SAMPLE_CONFIG
from tests.trainings import Training, same

CONFIG = f"""
_base_ = {str(SAMPLE_CONFIG)!r}
optim_wrapper = dict(type='Bfloat16OptimWrapper', accumulative_counts=2)
custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.1, gamma=2, priority=49),
    dict(type='EarlyStoppingHook', monitor='coco/keypoints_AP', patience=3),
]
"""
# The AP of a network that is not trained is 0: the first of the validations after 2, 4, 6 and 8
# iterations is the best one, and the three after it do not improve.
LAST = 'iter_8.pth'
RUNS = ('unbroken', 'stopped')


def _train(scene, work_dir, *argv):
    work_dir.mkdir(exist_ok=True)
    config = work_dir.parent / 'config.py'
    config.write_text(CONFIG)
    options = {'train_cfg.val_interval': 2, 'default_hooks.checkpoint.interval': 2}
    return Training(scene, work_dir, *argv, config=config, **options)


@pytest.mark.exhaustive
def test_resume_with_all_options_is_bit_exact(scene, tmp_path):
    unbroken = _train(scene, tmp_path / 'unbroken')
    stopped = _train(scene, tmp_path / 'stopped')
    moment = stopped.kill()
    unbroken.end_with(0)
    log = _train(scene, tmp_path / 'stopped', '--resume').end_with(0)
    assert re.search('did not improve in the last 3 records', log)
    expected, found = (load_checkpoint_file(tmp_path / name / LAST) for name in RUNS)
    for part in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        assert same(expected[part], found[part]), (part, moment)
    for name in RUNS:
        assert not list((tmp_path / name).glob('iter_1*.pth'))
    average = expected['state_dict']['backbone.conv1.weight']
    weight = expected['ema_state_dict']['module.backbone.conv1.weight']
    assert weight.dtype == average.dtype == torch.float32
    assert not torch.equal(weight, average)
