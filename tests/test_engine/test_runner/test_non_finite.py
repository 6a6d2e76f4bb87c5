"""The state before a step whose loss is not finite, on a runner with one layer."""

import json

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Runner
from mmengine.structures import BaseDataElement
from torch.utils.data import DataLoader

from multitask_refine.engine import load_checkpoint_file
from multitask_refine.engine.runner import non_finite
from multitask_refine.models.losses.finite import NonFiniteLossError


class OneLayer(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.layer(inputs)


class FifthIteration(BaseLoop):
    epoch, iter = 0, 4

    def run(self):
        raise NotImplementedError


@pytest.fixture
def runner(tmp_path):
    runner = Runner(
        OneLayer(), str(tmp_path), experiment_name=tmp_path.name, default_scope='mmdet'
    )
    runner.optim_wrapper = OptimWrapper(
        torch.optim.SGD(runner.model.parameters(), lr=0.1, momentum=0.9)
    )
    runner.param_schedulers = []
    runner._train_loop = FifthIteration(runner, DataLoader([0]))
    return runner


def _sample(**meta):
    return BaseDataElement(metainfo=meta)


def _error():
    return NonFiniteLossError(dict(loss_bbox=torch.tensor(float('nan'))))


def test_the_state_before_the_step_is_saved(runner, tmp_path, monkeypatch):
    monkeypatch.setattr(non_finite, 'command_line', lambda: 'python tools/train.py a.py')
    batch = dict(data_samples=[_sample(img_path='a.png', img_id=3), _sample(img_id=4)])
    raised = non_finite.dump_non_finite_step(runner, _error(), batch, seed=7)

    checkpoint = load_checkpoint_file(tmp_path / 'non_finite/iter_4.pth')
    for name, values in runner.model.state_dict().items():
        assert torch.equal(checkpoint['state_dict'][name], values)
    assert checkpoint['optimizer']['param_groups'][0]['momentum'] == 0.9
    record = json.loads((tmp_path / 'non_finite/iter_4.json').read_text())
    assert record.pop('terms').keys() == {'loss_bbox'}
    assert record == dict(iteration=5, seed=7, rank=0, images=['a.png', '4'])
    assert 'loss_bbox is nan in iteration 5, on rank 0, with the images a.png, 4.' in str(raised)
    last = str(raised).splitlines()[-1]
    assert last == f'    python tools/train.py a.py --resume {tmp_path}/non_finite/iter_4.pth'


def test_every_rank_saves_under_its_own_name(runner, tmp_path, monkeypatch):
    """Also where MMEngine lets only rank 0 save checkpoints."""
    for name in (f'{non_finite.__name__}.get_rank', 'mmengine.dist.utils.get_rank'):
        monkeypatch.setattr(name, lambda *args: 2)
    non_finite.dump_non_finite_step(runner, _error(), dict(data_samples=[]), seed=0)
    names = sorted(path.name for path in (tmp_path / 'non_finite').iterdir())
    assert names == ['iter_4_rank_2.json', 'iter_4_rank_2.pth']


@pytest.mark.parametrize('batch', [(torch.zeros(2, 2), None), dict(inputs=torch.zeros(2, 2))])
def test_batches_without_samples_are_described_as_such(runner, batch):
    raised = non_finite.dump_non_finite_step(runner, _error(), batch, seed=0)
    assert 'with the images of this batch.' in str(raised)
