"""Losses on the validation set."""

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from multitask_refine.engine.hooks.val_loss_hook import load_annotations_first
from multitask_refine.utils.errors import ConfigError
from tests.conftest import SAMPLE_CONFIG
from tests.shrink import shrink
from tests.trainings import runner, same

pytestmark = pytest.mark.slow


class Distance(BaseModel):
    """Model with a fixed weight whose loss is the squared distance to each item."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.norm = torch.nn.BatchNorm1d(1)

    def forward(self, inputs, mode):
        inputs = torch.as_tensor(inputs).float()
        self.norm(inputs[:, None, None] + torch.rand(1, 1, 3))
        if mode == 'loss':
            return dict(loss_far=((inputs - self.weight) ** 2).mean(), acc=torch.tensor(5.0))
        return [0]


def test_losses_are_averaged_over_images(tmp_path):
    """Items 1, 2 and 6, two at a time: (1 + 4 + 36) / 3."""

    def train(name, *hooks):
        items = DataLoader(
            [dict(inputs=x) for x in (1, 2, 6)], batch_size=2, collate_fn=pseudo_collate
        )
        run = runner(
            tmp_path / name,
            model=Distance(),
            randomness=dict(seed=0),
            train_dataloader=items,
            val_dataloader=items,
            train_cfg=dict(type='ReproducibleTrainLoop', max_iters=4, val_interval=2),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        )
        for hook in hooks:
            run.register_hook(dict(type=hook, dataloader=items))
        run.train()
        return run

    plain, logged = train('plain'), train('logged', 'ValLossHook')
    values = logged.message_hub.get_scalar('val/loss_far').data[0]
    assert values.tolist() == pytest.approx([41 / 3] * 2)
    assert logged.message_hub.get_scalar('val/loss').current() == values[-1]
    assert 'val/acc' not in logged.message_hub.log_scalars
    assert same(plain.model.state_dict(), logged.model.state_dict())


def test_losses_are_logged_without_effect_on_training(scene, tmp_path):
    """The losses of the network as it is then, from its own annotations in
    the resized images; masks of several sizes are padded."""

    def train(name, hooks):
        cfg = shrink(Config.fromfile(SAMPLE_CONFIG), scene)
        cfg.merge_from_dict(
            dict(
                work_dir=str(tmp_path / name),
                custom_hooks=hooks,
                experiment_name=f'val-loss-{name}',
            )
        )
        run = Runner.from_cfg(cfg)
        run.train()
        return run

    plain = train('plain', [])
    logged = train('logged', [dict(type='ValLossHook')])
    assert same(plain.model.state_dict(), logged.model.state_dict())
    curves = logged.message_hub.log_scalars
    terms = [
        curves[f'val/loss_{name}'].current()
        for name in ('rpn_cls', 'rpn_bbox', 'cls', 'bbox', 'mask', 'keypoint')
    ]
    assert all(value > 0 for value in terms)
    assert curves['val/loss'].current() == pytest.approx(sum(terms), rel=1e-5)
    assert len(curves['val/loss'].data[0]) == 2


def test_annotations_are_resized_with_the_image():
    loader = Config(
        dict(
            dataset=dict(
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='Resize'),
                    dict(type='LoadMultitaskAnnotations'),
                    dict(type='Pack'),
                ]
            )
        )
    )._cfg_dict
    assert [step.type for step in load_annotations_first(loader).dataset.pipeline] == [
        'LoadImageFromFile',
        'LoadMultitaskAnnotations',
        'Resize',
        'Pack',
    ]
    del loader.dataset.pipeline[2]
    with pytest.raises(ConfigError, match='its own dataloader'):
        load_annotations_first(loader)
