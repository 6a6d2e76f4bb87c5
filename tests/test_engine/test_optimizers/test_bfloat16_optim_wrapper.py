"""Mixed precision in bfloat16 on the CPU."""

import pytest
import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.logging import MMLogger
from torch import nn

import multitask_refine  # noqa: F401


@pytest.fixture
def layer():
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 1 + 2**-9)  # 1.0 in bfloat16
    return layer


def _wrap(layer, name):
    return OPTIM_WRAPPERS.build(
        dict(type=name, optimizer=torch.optim.SGD(layer.parameters(), lr=1.0))
    )


@pytest.mark.parametrize(
    'name, output', [('OptimWrapper', 1 + 2**-9), ('Bfloat16OptimWrapper', 1.0)]
)
def test_forward_runs_in_bfloat16(layer, name, output):
    with _wrap(layer, name).optim_context(layer):
        assert layer(torch.ones(1, 1)).item() == output


def test_weights_and_their_update_stay_float32(layer):
    wrapper = _wrap(layer, 'Bfloat16OptimWrapper')
    with wrapper.optim_context(layer):
        loss = layer(torch.full((1, 1), 2**-8)).sum()
    wrapper.update_params(loss)
    # The gradient is the input, and a step of SGD takes it off the weight.
    assert layer.weight.dtype == torch.float32
    assert layer.weight.item() == 1 + 2**-9 - 2**-8


@pytest.mark.parametrize('is_fast', [True, False])
def test_warn_on_processors_without_instructions_for_bfloat16(layer, monkeypatch, is_fast):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, '_is_mkldnn_bf16_supported', lambda: is_fast)
    warnings = []
    monkeypatch.setattr(MMLogger, 'warning', lambda self, text: warnings.append(text))
    _wrap(layer, 'Bfloat16OptimWrapper')
    fields = [text.split(':')[0] for text in warnings]
    assert fields == ([] if is_fast else ['optim_wrapper.type'])
