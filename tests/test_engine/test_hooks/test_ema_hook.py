"""Exponential moving average of the weights."""

import math
import os
import signal

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import EMAHook
from torch.utils.data import DataLoader

from multitask_refine.engine import ResumeError
from multitask_refine.utils.safe_checkpoint import load_checkpoint_file
from tests.conftest import CONFIGS
from tests.trainings import Dice, OneNumber, Scores, runner, same

pytestmark = pytest.mark.slow

RECIPE = (
    CONFIGS / 'multitask_refine/multitask-rcnn_r50-tnr-pre_fpn-ms_rb-h_8xb2-adamw-ema-270k_coco.py'
)
# The values of the recipe would hardly average over few steps.
MOMENTUM, GAMMA = 0.1, 2


def _ema():
    (cfg,) = [hook for hook in Config.fromfile(RECIPE).custom_hooks if hook.type == 'EMAHook']
    return dict(cfg, momentum=MOMENTUM, gamma=GAMMA)


def _run(work_dir, steps=3, **options):
    options = dict(
        dict(
            custom_hooks=[_ema()],
            randomness=dict(seed=0),
            train_cfg=dict(type='ReproducibleTrainLoop', max_iters=steps, val_interval=2),
        ),
        **options,
    )
    return runner(work_dir, **options)


class Slope(OneNumber):
    """Falls by the learning rate in every step; notes what is validated."""

    def forward(self, *items, mode='tensor'):
        if mode == 'loss':
            return dict(loss=self.weight.sum())
        self.validated = self.weight.item()
        return [0]


def _load(file):
    return load_checkpoint_file(file)


def test_average_of_three_steps(tmp_path):
    """Weights 0.9, 0.8, 0.7; the average starts with the first. It is validated, saved as
    ``state_dict`` and kept as the best checkpoint."""
    model = Slope()
    torch.nn.init.ones_(model.weight)
    run = _run(
        tmp_path,
        model=model,
        scores=[0.1, 0.2],
        checkpoint=dict(interval=3, published_keys=['meta', 'state_dict']),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
    )
    run.train()
    average = 0.9
    for updates, weight in ((1, 0.8), (2, 0.7)):
        share = (1 - MOMENTUM) * math.exp(-(1 + updates) / GAMMA) + MOMENTUM
        average = (1 - share) * average + share * weight
    expected = pytest.approx(average, abs=1e-6)
    assert model.validated == expected
    assert model.weight.item() == pytest.approx(0.7, abs=1e-6)
    last = _load(tmp_path / 'iter_3.pth')
    (best,) = tmp_path.glob('best*iter_3.pth')
    (published,) = tmp_path.glob('iter_3-*.pth')
    # MMEngine names the file after the checksum of its pickle, which is not that of the file.
    published = published.rename(tmp_path / 'published.pth')
    for state in (last, _load(best), _load(published)):
        assert state['state_dict']['weight'].item() == expected
    assert last['ema_state_dict']['module.weight'].item() == pytest.approx(0.7, abs=1e-6)
    assert _load(published).keys() == {'meta', 'state_dict'}


class SignalInSecond(Scores):
    """SIGTERM in the second validation."""

    def process(self, data_batch, data_samples):
        super().process(data_batch, data_samples)
        self.calls = getattr(self, 'calls', 0) + 1
        if self.calls == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_resume_after_a_stop_in_a_validation_is_exact(tmp_path):
    """The network holds the average when the signal comes."""
    _run(tmp_path / 'unbroken', steps=6).train()
    handler = signal.getsignal(signal.SIGTERM)
    work_dir = tmp_path / 'stopped'
    try:
        with pytest.raises(SystemExit):
            _run(
                work_dir,
                steps=6,
                checkpoint=dict(interval=9),
                val_evaluator=Evaluator(SignalInSecond([0] * 9)),
            ).train()
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert (work_dir / 'iter_4.pth').is_file()
    _run(work_dir, steps=6, resume=True).train()
    unbroken, resumed = [_load(tmp_path / name / 'iter_6.pth') for name in ('unbroken', 'stopped')]
    for part in ('state_dict', 'ema_state_dict', 'optimizer'):
        assert same(unbroken[part], resumed[part]), part


def test_resume_without_the_hook_is_refused(tmp_path):
    _run(tmp_path, steps=2).train()
    with pytest.raises(ResumeError, match='custom_hooks: expected EMAHook'):
        _run(tmp_path, resume=True, custom_hooks=[]).train()


def test_testing_uses_the_average_without_a_second_model(tmp_path):
    """Weights that are loaded before the test, as tools/test.py does."""
    torch.save(
        dict(
            state_dict=dict(weight=torch.tensor([0.8])),
            ema_state_dict={'module.weight': torch.tensor([0.7])},
        ),
        tmp_path / 'trained.pth',
    )
    model = Slope()
    test = _run(
        tmp_path,
        model=model,
        test_cfg={},
        test_dataloader=DataLoader(Dice(1), collate_fn=list),
        test_evaluator=Evaluator(Scores([0])),
    )
    test.load_checkpoint(str(tmp_path / 'trained.pth'), strict=True)
    test.test()
    assert model.validated == pytest.approx(0.8)
    (hook,) = [each for each in test.hooks if isinstance(each, EMAHook)]
    assert hook.ema_model is None
