"""Memory, synchronizations and graph breaks that are found without a GPU."""

import mmcv.ops
import pytest
import torch
from mmengine.config import Config

from benchmarks.cuda import compilation, memory, synchronizations
from multitask_refine.testing.simulated_device import Synchronization
from tests.conftest import CONFIGS

KIB = 1024
SAMPLE = 'sample/multitask-rcnn_r26-w16_fpn-ms_rb-h_1xb8-1500_sample.py'


def test_live_and_largest_memory_by_hand():
    with memory.MemoryTracker() as tracker:
        weight = torch.empty(256, 64, device='meta', requires_grad=True)  # 64 KiB
        x = torch.empty(64, 256, device='meta')  # 64 KiB
        assert tracker.live == 128 * KIB
        y = (x @ weight).relu()  # 16 KiB each; the gradient needs the second only
        assert (tracker.live, tracker.peak) == (144 * KIB, 160 * KIB)
        assert x[:, :4].numel() == 256 and tracker.live == 144 * KIB  # a view
        loss = y.sum()  # 512 bytes at least
        del y
        assert tracker.live == 144 * KIB + 512
        loss.backward()
        del loss
        assert tracker.live == 128 * KIB + 64 * KIB  # and the gradient of the weight
        tracker.reset_peak()
        assert tracker.peak == tracker.live


def test_buffers_of_the_deformable_convolution():
    with memory.MemoryTracker() as tracker, memory.meta_operators():
        x = torch.empty(2, 16, 32, 32, device='meta')  # 128 KiB
        offset = torch.empty(2, 18, 32, 32, device='meta')  # 144 KiB
        weight = torch.empty(32, 16, 3, 3, device='meta')  # 18 KiB
        inputs = tracker.live
        assert inputs == 290 * KIB
        y = mmcv.ops.deform_conv2d(x, offset, weight, 1, 1, 1, 1, 1, False, 2)
        # Samples (16 * 9, 2 * 32 * 32), and the output in two orders.
        assert tracker.peak - inputs == pytest.approx((1152 + 2 * 256) * KIB, abs=KIB)
        assert tracker.live - inputs == pytest.approx(256 * KIB, abs=KIB)
        assert y.shape == (2, 32, 32, 32)


@pytest.mark.exhaustive
def test_estimate_of_a_network(monkeypatch):
    monkeypatch.setitem(memory.NETWORKS, 'small', SAMPLE)
    monkeypatch.setattr(memory, 'BATCHES', (1, 2))
    monkeypatch.setattr(memory, 'HEIGHT', 96)
    monkeypatch.setattr(memory, 'WIDTH', 128)
    predict, one, two = memory.estimate('small')
    with torch.device('meta'):
        model = memory.MODELS.build(Config.fromfile(CONFIGS / SAMPLE).model)
    weights = [*model.parameters(), *model.buffers()]
    exact = sum(each.numel() * each.element_size() for each in weights)
    assert exact <= predict['weights'] <= exact + len(weights) * memory.BLOCK
    assert predict['weights'] < predict['peak']
    # AdamW: two numbers for each weight that is trained; and while they are updated, gradients.
    trained = sum(4 * each.numel() for each in model.parameters() if each.requires_grad)
    assert one['states'] == pytest.approx(2 * trained, rel=0.1)
    assert one['peak'] > one['weights'] + one['states']
    assert two['peak'] > one['peak']


def test_places_are_counted():
    place = Synchronization('item', 'a', 'f', 1)
    other = Synchronization('item', 'a', 'f', 2)
    assert synchronizations.count_places([other, place, place]) == [
        dict(kind='item', module='a', function='f', line=1, count=2),
        dict(kind='item', module='a', function='f', line=2, count=1),
    ]


def test_graph_breaks():
    def whole(x):
        return x * 2 + 1

    def broken(x):
        return x * int(x.sum()) + 1

    x = torch.ones(3)
    assert compilation.explain(whole, (x,)) == dict(graphs=1, breaks=[])
    found = compilation.explain(broken, (x,))
    assert found['graphs'] == 2
    (reason,) = found['breaks']
    assert 'item' in reason['reason'] and reason['place'].endswith('test_gpu_estimates.broken')
