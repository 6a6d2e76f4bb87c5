"""ConvNeXt: its formula written out, shapes, and the names of MMPretrain's weights."""

import math

import pytest
import torch
import torch.nn.functional as F

from multitask_refine.models import ConvNeXt
from multitask_refine.models.backbones.convnext import ConvNeXtBlock
from multitask_refine.utils.errors import ConfigError


def test_block_is_its_formula():
    torch.manual_seed(0)
    block = ConvNeXtBlock(4, drop_path_rate=0.5, layer_scale=1.0).double().eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 4, 9, 5).double()
    y = F.conv2d(x, block.depthwise_conv.weight, block.depthwise_conv.bias, padding=3, groups=4)
    y = (y - y.mean(1, keepdim=True)) / (y.var(1, keepdim=True, correction=0) + 1e-6).sqrt()
    y = y * block.norm.weight[:, None, None] + block.norm.bias[:, None, None]
    y = torch.einsum('oc,bchw->bohw', block.pointwise_conv1.weight, y)
    y = y + block.pointwise_conv1.bias[:, None, None]
    y = y * (1 + torch.erf(y / math.sqrt(2))) / 2
    y = torch.einsum('oc,bchw->bohw', block.pointwise_conv2.weight, y)
    y = y + block.pointwise_conv2.bias[:, None, None]
    torch.testing.assert_close(block(x), x + block.gamma[:, None, None] * y)


def test_features_and_names():
    model = ConvNeXt(depths=[1, 1, 2, 1], channels=[4, 8, 12, 16], out_indices=(1, 3))
    model.init_weights()
    outputs = model(torch.randn(2, 3, 64, 96))
    assert [tuple(each.shape) for each in outputs] == [(2, 8, 8, 12), (2, 16, 2, 3)]
    # normalized over the channels of each pixel
    for each in outputs:
        torch.testing.assert_close(each.mean(1), torch.zeros_like(each[:, 0]), atol=1e-5, rtol=0)
    names = set(model.state_dict())
    block = (
        'gamma',
        *(
            f'{layer}.{kind}'
            for layer in ('depthwise_conv', 'norm', 'pointwise_conv1', 'pointwise_conv2')
            for kind in ('weight', 'bias')
        ),
    )
    expected = {
        f'stages.{stage}.{i}.{name}'
        for stage, i in ((0, 0), (1, 0), (2, 0), (2, 1), (3, 0))
        for name in block
    }
    expected |= {
        f'downsample_layers.{i}.{j}.{kind}'
        for i in range(4)
        for j in range(2)
        for kind in ('weight', 'bias')
    }
    expected |= {f'norm{i}.{kind}' for i in (1, 3) for kind in ('weight', 'bias')}
    assert names == expected


def test_stochastic_depth_grows_linearly():
    model = ConvNeXt(depths=[1, 1, 2, 1], channels=[4, 4, 4, 4], drop_path_rate=0.4)
    rates = [block.drop_path.drop_prob for stage in model.stages for block in stage]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_depths_and_channels_of_another_number_are_rejected():
    with pytest.raises(ConfigError, match='found 3 and 4'):
        ConvNeXt(depths=[1, 1, 1])
