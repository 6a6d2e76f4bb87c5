"""Two ranks with two images each have the gradients of one rank with all four."""

import pytest
import torch
from mmdet.models.dense_heads import RPNHead

from multitask_refine.models import SyncAvgFactorRPNHead
from multitask_refine.models.roi_heads import multitask_roi_head
from tests.integration.distributed.ranks import CASES, build_model, main, step
from tests.trainings import SERVER

RANKS = 2


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """Run all cases in two processes."""
    folder = tmp_path_factory.mktemp('ranks')
    processes = [SERVER.Process(target=main, args=(rank, RANKS, folder)) for rank in range(RANKS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    return [torch.load(folder / f'{rank}.pt') for rank in range(RANKS)]


@pytest.fixture(scope='module')
def model():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield build_model()
    torch.set_num_threads(threads)


def _difference(found, expected):
    """Return the largest relative difference of each gradient."""
    assert found.keys() == expected.keys()
    return {
        name: ((found[name] - value).abs().max() / value.abs().max().clamp(min=1e-6)).item()
        for name, value in expected.items()
    }


@pytest.mark.parametrize('case', CASES)
def test_gradients_are_those_of_one_rank_with_all_images(results, model, case):
    expected = step(model, case, slice(None))
    for rank in results:
        differences = _difference(rank[case]['gradients'], expected['gradients'])
        assert max(differences.values()) < 1e-6, differences
    mean = sum(rank[case]['total'] for rank in results) / RANKS
    assert mean == pytest.approx(expected['total'], rel=1e-6)


@pytest.mark.parametrize('case', CASES)
def test_ranks_agree_in_every_case(results, case):
    first, second = (rank[case] for rank in results)
    assert first['keys'] == second['keys'] == results[0]['uneven']['keys']
    for rank in (first, second):
        assert torch.isfinite(torch.tensor(rank['total']))
        for name, gradient in rank['gradients'].items():
            assert gradient is not None, name
            assert torch.isfinite(gradient).all(), name
    for name, gradient in first['gradients'].items():
        assert torch.equal(gradient, second['gradients'][name]), name


def test_own_counts_would_give_other_gradients(results):
    """The images are uneven enough for the test above to fail."""
    shared, own = (results[0][case]['gradients'] for case in ('uneven', 'own_counts'))
    differences = _difference(own, shared)
    for part in (
        'rpn_head.rpn_cls',
        'rpn_head.rpn_reg',
        'bbox_head.fc_cls',
        'bbox_head.fc_reg',
        'mask_head',
        'keypoint_head',
    ):
        assert any(value > 0.01 for name, value in differences.items() if part in name), part


def test_losses_in_one_process_are_those_of_mmdet(model, monkeypatch):
    shared = step(model, 'uneven', slice(None))
    monkeypatch.setattr(multitask_roi_head, 'sync_avg_factor', lambda losses, count: losses)
    monkeypatch.setattr(SyncAvgFactorRPNHead, 'get_targets', RPNHead.get_targets)
    plain = step(model, 'uneven', slice(None))
    assert shared['total'] == pytest.approx(plain['total'], rel=1e-9)
    assert max(_difference(shared['gradients'], plain['gradients']).values()) < 1e-9
