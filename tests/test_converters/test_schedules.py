"""Optimizer, schedule and training data of the converted configs against those
of Detectron2.

``golden/detectron2-schedules.npz`` holds what Detectron2's own code gave;
``make_schedule_golden.py`` wrote it. Here MMEngine builds optimizer and
schedulers from the config, and its hook steps them as in training.
"""
import functools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS, PARAM_SCHEDULERS
from mmengine.config import Config
from mmengine.hooks import ParamSchedulerHook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from tests.test_converters.networks import config_path
from tools.model_converters import detectron2_to_multitask
from tools.model_converters.conversion import match_names

GOLDEN = Path(__file__).parent / 'golden' / 'detectron2-schedules.npz'
CONSTANT = ('momentum', 'dampening', 'nesterov', 'weight_decay')
RELATIVE = 1e-9
with np.load(GOLDEN) as file:
    CURVES = file['curves']
    SOURCES = json.loads(str(file['about']))['sources']
each_config = pytest.mark.parametrize('config', SOURCES)


def _build(cfg):
    """The network, without storage, and its optimizer."""
    init_default_scope('mmdet')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    return model, build_optim_wrapper(model, cfg.optim_wrapper)


@functools.lru_cache(maxsize=None)
def _relative_rates(settings):
    """Learning rate of each iteration, relative to the one of the optimizer.

    Args:
        settings (str): Schedulers and iterations, as JSON.
    """
    schedulers, iterations = json.loads(settings)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    built = [
        PARAM_SCHEDULERS.build(dict(each), default_args=dict(
            optimizer=optimizer)) for each in schedulers
    ]
    hook, runner = ParamSchedulerHook(), SimpleNamespace(param_schedulers=built)
    rates = np.empty(iterations)
    for i in range(iterations):
        rates[i] = optimizer.param_groups[0]['lr']
        hook.after_train_iter(runner, i)
    return rates


@each_config
def test_every_parameter_learns_as_in_detectron2(config):
    """Rates of all iterations, momentum and decay of each parameter."""
    source = SOURCES[config]
    cfg = Config.fromfile(config_path(config))
    assert cfg.train_cfg.max_iters == CURVES.shape[1] == 90000
    model, optim_wrapper = _build(cfg)
    rates = _relative_rates(
        json.dumps([cfg.param_scheduler, cfg.train_cfg.max_iters]))
    names = {id(param): name for name, param in model.named_parameters()}
    found = {
        names[id(param)]: group
        for group in optim_wrapper.param_groups for param in group['params']
        if param.requires_grad
    }
    checkpoint = SimpleNamespace(
        path=config, weights=dict.fromkeys(source['parameters']))
    match = match_names(checkpoint, detectron2_to_multitask.describe(checkpoint),
                        names.values())
    assert not match.left and not match.unknown
    assert set(match.found) == set(found)
    for ours, theirs in match.found.items():
        group = source['groups'][source['parameters'][theirs]]
        assert {key: found[ours][key] for key in CONSTANT} == {
            key: group[key] for key in CONSTANT}, ours
    pairs = {(found[ours]['lr'],
              source['groups'][source['parameters'][theirs]]['curve'])
             for ours, theirs in match.found.items()}
    for rate, curve in pairs:
        np.testing.assert_allclose(
            rate * rates, CURVES[curve], rtol=RELATIVE, atol=0)
