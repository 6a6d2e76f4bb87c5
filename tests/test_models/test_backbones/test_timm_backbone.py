"""timm's models as backbones: channels first, pretrained weights, what cannot be built."""

import sys

import pytest
import torch

from multitask_refine.models import TimmBackbone
from multitask_refine.utils.errors import ConfigError


@pytest.fixture
def timm():
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another torch
        pytest.skip(f'timm cannot be imported: {error}')
    return timm


@pytest.mark.parametrize(
    'name, settings, channels',
    [
        ('resnet10t', dict(out_indices=(2, 3, 4)), [128, 256, 512]),
        # Its features are channels last.
        (
            'swin_tiny_patch4_window7_224',
            dict(img_size=(96, 64), embed_dim=12, depths=(1, 1, 1, 1)),
            [24, 48, 96],
        ),
    ],
)
def test_features(timm, name, settings, channels):
    model = TimmBackbone(name, **settings)
    model.init_weights()
    outputs = model(torch.randn(2, 3, 96, 64))
    assert [tuple(each.shape) for each in outputs] == [
        (2, width, 96 // stride, 64 // stride)
        for width, stride in zip(channels, (8, 16, 32), strict=True)
    ]
    sum(each.sum() for each in outputs).backward()


@pytest.mark.parametrize(
    'name, settings', [('resnet18x', {}), ('resnet10t', dict(out_indices=(2, 9)))]
)
def test_unknown_models_and_stages_are_rejected(timm, name, settings):
    with pytest.raises(ConfigError, match=f"model_name='{name}'"):
        TimmBackbone(name, **settings)


def test_missing_timm_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ConfigError, match='timm cannot be imported .*pip install'):
        TimmBackbone('resnet18')
