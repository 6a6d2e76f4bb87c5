"""The rules of the simulated device, which are those of CUDA."""

import copy
from pathlib import Path

import mmcv.ops
import pytest
import torch
from mmengine.structures import InstanceData
from torch import nn

from multitask_refine.ops import deform_roi_pool_by_grid_sample
from multitask_refine.testing.simulated_device import SimulatedDevice


@pytest.fixture
def device():
    with SimulatedDevice() as simulated:
        yield simulated


def _kinds(device):
    kinds = [each.kind for each in device.synchronizations]
    device.synchronizations.clear()
    return kinds


def test_tensors_of_both_devices_do_not_mix(device):
    x = torch.arange(3.0, device=device.device)
    assert (x.device.type, x.is_cpu, x.is_cuda) == (device.device.type, False, False)
    for mixed in (
        lambda: x + torch.ones(3),
        lambda: torch.cat([x, torch.ones(3)]),
        lambda: torch.ones(3)[x.long()],
        lambda: x.index_select(0, torch.tensor([0])),
    ):
        with pytest.raises(RuntimeError, match='same device'):
            mixed()
    for detour in (x.numpy, x.__array__, lambda: torch.from_numpy(x)):
        with pytest.raises((RuntimeError, TypeError)):
            detour()
    assert (x + torch.tensor(1.0)).tolist() == [1, 2, 3]  # a scalar may be on the CPU


def test_what_the_host_waits_for(device):
    x = torch.arange(4.0, device=device.device)
    device.synchronizations.clear()
    for task, kinds in (
        (lambda: x * 2 + x.sum(), []),
        (lambda: x.masked_fill(x > 1, 0), []),
        (lambda: x[x.long()], []),
        (lambda: x.clone().__setitem__(x > 1, 0.0), []),  # is masked_fill
        (lambda: x[x > 1], ['boolean index']),
        (lambda: x.clone().__setitem__(x > 1, x[:2]), ['boolean index']),
        (lambda: x[torch.tensor([0, 1])], ['copy from host']),
        (lambda: x.max().item(), ['item']),
        (lambda: bool((x > 1).any()), ['item']),
        (lambda: x.nonzero(), ['nonzero']),
        (lambda: x.unique(), ['unique']),
        (lambda: x.masked_select(x > 1), ['masked_select']),
        (lambda: x.cpu(), ['copy to host']),
        (lambda: x.tolist(), ['copy to host']),
        (lambda: x.new_tensor([1.0, 2.0]), ['copy from host']),
        (lambda: torch.tensor([1.0], device=x.device), ['copy from host']),
        (lambda: torch.ones(2).to(x.device, non_blocking=True), []),
        (lambda: torch.full((2,), 3, device=x.device), []),
        (lambda: torch.ones(2).to(x), ['copy from host']),
    ):
        task()
        assert _kinds(device) == kinds


def test_the_place_is_the_line_that_asks(device):
    x = torch.ones(2, device=device.device)
    device.synchronizations.clear()
    [each.item() for each in x]
    (place,) = set(device.synchronizations)
    assert place.module == __name__
    assert place.function == 'test_the_place_is_the_line_that_asks'
    assert 'each.item() for each in x' in Path(__file__).read_text().splitlines()[place.line - 1]


def test_a_step_is_that_of_the_cpu(device):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 6)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(64, 2),
    )
    nets = [net, copy.deepcopy(net).to(device.device)]
    for each in nets:
        optimizer = torch.optim.AdamW(each.parameters(), 0.1)
        each(x.to(next(each.parameters()))).square().sum().backward()
        optimizer.step()
    for name, value in nets[0].state_dict().items():
        torch.testing.assert_close(nets[1].state_dict()[name].cpu(), value)


def test_operators_of_mmcv(device):
    torch.manual_seed(0)
    x, rois = torch.randn(2, 3, 8, 8), torch.tensor([[0.0, 1, 1, 6, 5], [1, 0, 2, 7, 7]])
    offsets = torch.randn(2, 2, 2, 2)
    leaves = [each.clone().requires_grad_() for each in (x, offsets)]
    expected = deform_roi_pool_by_grid_sample(leaves[0], rois, leaves[1], 2, 1.0, 2)
    grads = torch.autograd.grad(expected.square().sum(), leaves)
    there = [each.to(device.device).requires_grad_() for each in (x, offsets)]
    found = mmcv.ops.deform_roi_pool(there[0], rois.to(device.device), there[1], 2, 1.0, 2)
    torch.testing.assert_close(found.cpu(), expected)
    for one, other in zip(torch.autograd.grad(found.square().sum(), there), grads):
        torch.testing.assert_close(one.cpu(), other)
    with pytest.raises(RuntimeError, match='same device'):
        mmcv.ops.roi_align(there[0], rois, 2)
    _kinds(device)
    boxes = rois[:, 1:].to(device.device, non_blocking=True)
    mmcv.ops.nms(boxes, boxes[:, 0].contiguous(), 0.5)
    assert _kinds(device) == ['nms']


def test_instances_are_selected(device):
    x = torch.arange(3.0, device=device.device)
    data = InstanceData(scores=x, names=['a', 'b', 'c'])
    assert data[x > 0].names == ['b', 'c']
    assert data[x.long()[1:]].scores.tolist() == [1, 2]


def test_nothing_is_left_behind():
    original = mmcv.ops.nms
    with SimulatedDevice() as device:
        x = torch.ones(2, device=device.device)
    with pytest.raises(RuntimeError, match='SimulatedDevice'):
        x + 1
    assert mmcv.ops.nms is original
    boxes = torch.tensor([[0.0, 0, 1, 1]])
    assert mmcv.ops.nms(boxes, torch.ones(1), 0.5)[1].tolist() == [0]
    assert torch.tensor([1.0]).numpy() == 1
