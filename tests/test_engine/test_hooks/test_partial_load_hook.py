"""Skipping modules of the weights that a training starts from."""

import pytest
import torch
from torch import nn

from multitask_refine.engine import ConfigError
from tests.trainings import OneNumber, runner


def _start(tmp_path, checkpoint, skip):
    """Train one step in which no module but the number itself learns."""
    torch.save(checkpoint, tmp_path / 'start.pth')
    model = OneNumber()
    model.neck = nn.ModuleDict(dict(fpn=nn.Linear(1, 1), last=nn.Linear(1, 1)))
    model.necks = nn.Linear(1, 1)
    for layer in (model.neck.fpn, model.neck.last, model.necks):
        nn.init.constant_(layer.weight, 2)
    loop = dict(type='ReproducibleTrainLoop', max_iters=1, val_begin=10)
    hooks = [dict(type='PartialLoadHook', skip=skip)]
    start = str(tmp_path / 'start.pth')
    runner(tmp_path, model=model, load_from=start, train_cfg=loop, custom_hooks=hooks).train()
    return model


@pytest.mark.parametrize('is_plain', [False, True], ids=['checkpoint', 'state_dict'])
def test_skipped_modules_start_as_initialized(tmp_path, is_plain):
    """Even one of another shape; a module whose name begins alike is loaded."""
    weights = {'neck.fpn.weight': torch.ones(3, 3), 'necks.weight': torch.full((1, 1), 5.0)}
    checkpoint = weights if is_plain else dict(meta={}, state_dict=weights)
    model = _start(tmp_path, checkpoint, ['neck'])
    assert model.neck.fpn.weight.item() == 2
    assert model.necks.weight.item() == 5


def test_a_part_of_a_module_is_skipped(tmp_path):
    weights = {f'neck.{name}.weight': torch.full((1, 1), 5.0) for name in ('fpn', 'last')}
    model = _start(tmp_path, dict(state_dict=weights), ['neck.last'])
    assert model.neck.fpn.weight.item() == 5
    assert model.neck.last.weight.item() == 2


@pytest.mark.parametrize(
    ('skip', 'expected'),
    [('nek', 'backbone, neck.'), ('neck.las', 'backbone.weight, neck.fpn, neck.last.')],
)
def test_unknown_modules_are_refused(tmp_path, skip, expected):
    """The message lists the modules of the same depth."""
    names = ('neck.fpn.weight', 'neck.last.weight', 'backbone.weight')
    weights = {name: torch.ones(1, 1) for name in names}
    with pytest.raises(ConfigError, match=f"found '{skip}'; the checkpoint has {expected}"):
        _start(tmp_path, dict(state_dict=weights), ['neck', skip])
