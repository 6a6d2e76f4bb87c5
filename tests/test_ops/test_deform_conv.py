"""Values by hand, mmcv's operators and numerical gradients."""

import pytest
import torch
from torch.autograd import gradcheck

from multitask_refine.ops import deform_conv_by_gather, deform_conv_by_mmcv
from multitask_refine.ops.cpu import deform_conv as cpu_deform_conv
from tests.test_ops.inputs import random_tensor

IMPLEMENTATIONS = [deform_conv_by_gather, deform_conv_by_mmcv]


@pytest.mark.parametrize('conv', IMPLEMENTATIONS)
def test_value_by_hand(conv):
    """Eq. 5 at the center of 1..9 with two nonzero kernel points."""
    x = torch.arange(1.0, 10.0, dtype=torch.double).reshape(1, 1, 3, 3)
    weight = torch.zeros(1, 1, 3, 3, dtype=torch.double)
    weight[0, 0, 1, 1], weight[0, 0, 1, 2] = 2, 10
    offset = torch.zeros(1, 18, 3, 3, dtype=torch.double)
    offset[0, 2 * 4, 1, 1] = 0.5  # the center point reads half a row lower
    offset[0, 2 * 5 + 1, 1, 1] = -0.5  # the right point half a column to the left
    args = (weight, None, (1, 1), (1, 1), (1, 1), 1, 1)
    plain = conv(x, offset, None, *args)
    assert plain[0, 0, 1, 1].item() == pytest.approx(2 * 6.5 + 10 * 5.5)
    mask = torch.ones(1, 9, 3, 3, dtype=torch.double)
    mask[0, 5] = 0.1
    modulated = conv(x, offset, mask, *args)
    assert modulated[0, 0, 1, 1].item() == pytest.approx(2 * 6.5 + 5.5)


@pytest.mark.parametrize('modulated', [False, True])
@pytest.mark.parametrize('batch', [1, 33])
def test_implementations_agree(modulated, batch):
    torch.manual_seed(2)
    x, offset = random_tensor(batch, 8, 7, 9), random_tensor(batch, 36, 4, 5, scale=2)
    mask = random_tensor(batch, 18, 4, 5) if modulated else None
    weight, bias = random_tensor(6, 4, 3, 3), random_tensor(6)
    args = (weight, bias, (2, 2), (1, 1), (1, 1), 2, 2)
    results = [conv(x, offset, mask, *args) for conv in IMPLEMENTATIONS]
    torch.testing.assert_close(*results)
    inputs = [t for t in (x, offset, mask, weight, bias) if t is not None]
    gradients = [torch.autograd.grad(y.square().sum(), inputs) for y in results]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('deform_groups', [1, 2])
def test_chunks_of_images_give_the_same(deform_groups, monkeypatch):
    """Five images, two at a time."""
    torch.manual_seed(12)
    x, weight = random_tensor(5, 4, 6, 7), random_tensor(6, 4, 3, 3)
    offset = random_tensor(5, 18 * deform_groups, 6, 7)

    def gradients():
        y = deform_conv_by_gather(
            x, offset, None, weight, None, (1, 1), (1, 1), (1, 1), 1, deform_groups
        )
        return y, *torch.autograd.grad(y.square().sum(), (x, offset, weight))

    whole = gradients()
    monkeypatch.setattr(cpu_deform_conv, '_MAX_SAMPLES', 2 * 42 * 36)
    torch.testing.assert_close(gradients(), whole)


def test_gradients():
    torch.manual_seed(3)

    def conv(*tensors):
        return deform_conv_by_gather(*tensors, (1, 1), (1, 1), (1, 1), 1, 1)

    assert gradcheck(
        conv,
        (
            random_tensor(1, 2, 3, 4),
            random_tensor(1, 18, 3, 4),
            random_tensor(1, 9, 3, 4),
            random_tensor(2, 2, 3, 3),
            random_tensor(2),
        ),
    )


def test_maps_smaller_than_the_kernel():
    """mmcv's version 1 refuses them."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 3, 2, 1), torch.randn(4, 3, 3, 3), torch.randn(4)
    settings = (1, 1), (1, 1), (1, 1), 1, 1
    zero = torch.zeros(2, 18, 2, 1)
    found = deform_conv_by_mmcv(x, zero, None, weight, bias, *settings)
    torch.testing.assert_close(found, torch.conv2d(x, weight, bias, padding=1))
    inputs = [each.requires_grad_() for each in (x, torch.randn(2, 18, 2, 1), weight, bias)]
    results = []
    for implementation in (deform_conv_by_mmcv, deform_conv_by_gather):
        y = implementation(inputs[0], inputs[1], None, *inputs[2:], *settings)
        results.append([y, *torch.autograd.grad(y.square().sum(), inputs)])
    for one, other in zip(*results):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
