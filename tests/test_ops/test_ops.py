"""Values worked out by hand, mmcv's operators and numerical gradients."""

import importlib

import mmcv.ops
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from multitask_refine.ops import (
    DeformRoIPool,
    RefinedConv2d,
    SeparableRoIAlign,
    deform_conv_by_mmcv,
    deform_conv_by_rows,
    deform_roi_pool_by_grid_sample,
    deform_roi_pool_by_mmcv,
    resample_heatmaps,
    resample_heatmaps_by_deform_conv,
)
from multitask_refine.ops.cpu import roi_align

# The package's attribute of that name is the function.
deform_conv_module = importlib.import_module(deform_conv_by_rows.__module__)
ONE_TO_NINE = torch.arange(1.0, 10.0, dtype=torch.double).reshape(1, 1, 3, 3)
WAYS = [resample_heatmaps, resample_heatmaps_by_deform_conv]


def _random(*shape, scale=1.0):
    return (scale * torch.randn(*shape, dtype=torch.double)).requires_grad_()


def _rois(count):
    corners = 90 * torch.rand(count, 2, dtype=torch.double) - 10
    return torch.cat(
        [
            torch.randint(0, 3, (count, 1)).double(),
            corners,
            corners + 60 * torch.rand(count, 2, dtype=torch.double),
        ],
        1,
    )


@pytest.mark.parametrize('refine', WAYS)
@pytest.mark.parametrize(
    'cell, offset, expected',
    [
        # (x, y) of the cell, (dx, dy): Eq. 2 and 3 by hand on 1..9
        ((1, 1), (0.5, -0.25), 0.25 * 2.5 + 0.75 * 5.5),
        ((0, 0), (1.0, 1.0), 5.0),
        ((0, 0), (-0.5, 0.0), 0.5 * 1),  # half of it lies outside
        ((2, 2), (0.25, 0.5), 0.75 * 0.5 * 9),
        ((0, 2), (-1.0, 0.0), 0.0),
        ((1, 1), (0.0, 7.0), 0.0),
    ],
)
def test_refined_value_by_hand(refine, cell, offset, expected):
    offsets = torch.zeros(1, 2, 3, 3, dtype=torch.double)
    offsets[0, :, cell[1], cell[0]] = torch.tensor(offset).double()
    refined = refine(ONE_TO_NINE, offsets)
    assert refined[0, 0, cell[1], cell[0]].item() == pytest.approx(expected)
    untouched = torch.ones(3, 3, dtype=torch.bool)
    untouched[cell[1], cell[0]] = False
    assert torch.allclose(refined[0, 0][untouched], ONE_TO_NINE[0, 0][untouched])


def test_both_ways_to_refine_agree():
    torch.manual_seed(0)
    heatmaps, offsets = _random(3, 4, 6, 6), _random(3, 8, 6, 6, scale=3)
    results = [refine(heatmaps, offsets) for refine in WAYS]
    torch.testing.assert_close(*results)
    gradients = [torch.autograd.grad(y.square().sum(), (heatmaps, offsets)) for y in results]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('refine', WAYS)
def test_refinement_gradients(refine):
    torch.manual_seed(1)
    assert gradcheck(refine, (_random(2, 2, 4, 4), _random(2, 4, 4, 4)))


def test_refinement_rejects_wrong_offsets():
    with pytest.raises(ValueError, match=r'\(1, 2, 3, 3\).*\(1, 3, 3, 3\)'):
        resample_heatmaps(ONE_TO_NINE, torch.zeros(1, 3, 3, 3))


@pytest.mark.parametrize('conv', [deform_conv_by_rows, deform_conv_by_mmcv])
def test_deformable_value_by_hand(conv):
    """Eq. 5 at the middle of 1..9 with two taps that are not zero."""
    weight = torch.zeros(1, 1, 3, 3, dtype=torch.double)
    weight[0, 0, 1, 1], weight[0, 0, 1, 2] = 2, 10
    offset = torch.zeros(1, 18, 3, 3, dtype=torch.double)
    offset[0, 2 * 4, 1, 1] = 0.5  # the middle tap reads half a row lower
    offset[0, 2 * 5 + 1, 1, 1] = -0.5  # the right tap half a column left
    args = (weight, None, (1, 1), (1, 1), (1, 1), 1, 1)
    plain = conv(ONE_TO_NINE, offset, None, *args)
    assert plain[0, 0, 1, 1].item() == pytest.approx(2 * 6.5 + 10 * 5.5)
    factor = torch.ones(1, 9, 3, 3, dtype=torch.double)
    factor[0, 5] = 0.1
    modulated = conv(ONE_TO_NINE, offset, factor, *args)
    assert modulated[0, 0, 1, 1].item() == pytest.approx(2 * 6.5 + 5.5)


@pytest.mark.parametrize('modulated', [False, True])
@pytest.mark.parametrize('batch', [1, 33])
def test_both_deformable_convolutions_agree(modulated, batch):
    torch.manual_seed(2)
    x, offset = _random(batch, 8, 7, 9), _random(batch, 36, 4, 5, scale=2)
    factor = _random(batch, 18, 4, 5) if modulated else None
    weight, bias = _random(6, 4, 3, 3), _random(6)
    args = (weight, bias, (2, 2), (1, 1), (1, 1), 2, 2)
    results = [
        conv(x, offset, factor, *args) for conv in (deform_conv_by_rows, deform_conv_by_mmcv)
    ]
    torch.testing.assert_close(*results)
    inputs = [t for t in (x, offset, factor, weight, bias) if t is not None]
    gradients = [torch.autograd.grad(y.square().sum(), inputs) for y in results]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('deform_groups', [1, 2])
def test_images_in_parts(deform_groups, monkeypatch):
    """Two images at a time, of five: nothing changes."""
    torch.manual_seed(12)
    x, weight = _random(5, 4, 6, 7), _random(6, 4, 3, 3)
    offset = _random(5, 18 * deform_groups, 6, 7)

    def gradients():
        y = deform_conv_by_rows(
            x, offset, None, weight, None, (1, 1), (1, 1), (1, 1), 1, deform_groups
        )
        return y, *torch.autograd.grad(y.square().sum(), (x, offset, weight))

    whole = gradients()
    monkeypatch.setattr(deform_conv_module, '_MAX_SAMPLES', 2 * 42 * 36)
    torch.testing.assert_close(gradients(), whole)


def test_a_layer_in_place_after_it_learns_the_same():
    torch.manual_seed(13)
    conv = RefinedConv2d(3, 4, 3, padding=1).double()
    x = _random(2, 3, 5, 5)
    of_x = [
        torch.autograd.grad(F.relu(conv(x), inplace=inplace).sum(), x)[0]
        for inplace in (False, True)
    ]
    assert torch.equal(*of_x)


@pytest.mark.parametrize('bias', [True, False])
def test_a_recorded_graph_computes_the_same(bias):
    torch.manual_seed(15)
    conv = RefinedConv2d(4, 6, 3, padding=1, bias=bias)
    torch.nn.init.normal_(conv.conv_offset.weight)
    x = torch.randn(3, 4, 9, 9)
    graph = torch.jit.trace(conv, x, check_trace=False)
    torch.testing.assert_close(graph(x), conv(x))
    other = torch.randn(3, 4, 9, 9)
    torch.testing.assert_close(graph(other), conv(other))


@pytest.mark.parametrize('groups', [1, 2])
def test_mixed_precision_learns(groups):
    torch.manual_seed(14)
    conv = RefinedConv2d(8, 8, 3, padding=1, groups=groups)
    x = torch.randn(2, 8, 9, 9, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16):
        y = conv(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), conv(x), rtol=0.02, atol=0.02)
    y.float().square().sum().backward()
    mixed = x.grad.clone(), conv.weight.grad.clone(), conv.bias.grad.clone()
    x.grad = None
    conv.zero_grad()
    conv(x).square().sum().backward()
    for found, exact in zip(mixed, (x.grad, conv.weight.grad, conv.bias.grad)):
        assert (found - exact).abs().max() < 0.03 * exact.abs().max()


def test_deformable_gradients():
    torch.manual_seed(3)

    def conv(*tensors):
        return deform_conv_by_rows(*tensors, (1, 1), (1, 1), (1, 1), 1, 1)

    assert gradcheck(
        conv,
        (
            _random(1, 2, 3, 4),
            _random(1, 18, 3, 4),
            _random(1, 9, 3, 4),
            _random(2, 2, 3, 3),
            _random(2),
        ),
    )


@pytest.mark.parametrize('modulated', [False, True])
@pytest.mark.parametrize(
    'settings',
    [
        dict(),
        dict(stride=2, bias=False),
        dict(dilation=2, padding=2),
        dict(groups=2, deform_groups=2),
    ],
)
def test_refined_conv_starts_as_plain_conv(modulated, settings):
    torch.manual_seed(4)
    settings = {'padding': 1, **settings}
    conv = RefinedConv2d(4, 6, 3, modulated=modulated, **settings).double()
    torch.nn.init.normal_(conv.conv_offset.weight)
    conv.init_weights()
    x = torch.randn(5, 4, 8, 7, dtype=torch.double)
    plain = F.conv2d(
        x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups
    )
    torch.testing.assert_close(conv(x), plain)


@pytest.mark.parametrize('modulated', [False, True])
def test_refined_conv_moves_and_learns(modulated):
    torch.manual_seed(5)
    conv = RefinedConv2d(2, 3, 3, padding=1, modulated=modulated)
    torch.nn.init.normal_(conv.conv_offset.weight)
    x = torch.randn(2, 2, 6, 6)
    plain = F.conv2d(x, conv.weight, conv.bias, padding=1)
    y = conv(x)
    assert (y - plain).abs().max() > 0.01
    y.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in conv.parameters())


def test_refined_conv_takes_an_empty_batch():
    conv = RefinedConv2d(2, 3, 3, padding=1)
    y = conv(torch.zeros(0, 2, 5, 5))
    assert y.shape == (0, 3, 5, 5)
    y.sum().backward()
    assert all(p.grad is not None for p in conv.parameters())


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('size, ratio', [(7, 0), (7, 1), (14, 2)])
def test_separable_roi_align_equals_mmcv(size, ratio, aligned, monkeypatch):
    monkeypatch.setattr(roi_align, '_GROUP', 7)
    torch.manual_seed(6)
    x = _random(3, 4, 10, 12)
    rois = _rois(20)
    rois[0, 1:] = torch.tensor([-40.0, -40.0, 200.0, 200.0])  # far outside too
    rois[1, 1:] = torch.tensor([200.0, 200.0, 240.0, 240.0])  # nothing inside
    rois[2, 1:] = torch.tensor([20.0, 20.0, 20.0, 20.0])  # empty
    results = [
        pool(size, 1 / 8, ratio, aligned=aligned)(x, rois)
        for pool in (SeparableRoIAlign, mmcv.ops.RoIAlign)
    ]
    # mmcv rounds positions to float32.
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in results]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_separable_roi_align_by_hand():
    """A ramp whose pixel (column i, row j) is i + 100 j."""
    ramp = torch.arange(16.0) + 100 * torch.arange(16.0)[:, None]
    rois = torch.tensor([[0.0, 8.0, 16.0, 24.0, 40.0]])  # 4 x 6 pixels at 1/4
    pooled = SeparableRoIAlign(2, 0.25, 0)(ramp[None, None], rois)[0, 0]
    # The bins' middles, half a pixel up and left of their continuous place.
    columns, rows = torch.tensor([2.5, 4.5]), torch.tensor([5.0, 8.0])
    torch.testing.assert_close(pooled, columns + 100 * rows[:, None])


def test_separable_roi_align_gradients_and_no_roi():
    torch.manual_seed(7)
    rois = torch.tensor([[0.0, 9.0, 9.0, 25.0, 33.0], [1.0, -5.0, 10.0, 30.0, 20.0]])
    assert gradcheck(lambda x: SeparableRoIAlign(3, 0.25)(x, rois.double()), _random(2, 2, 12, 12))
    x = _random(2, 3, 8, 8)
    pooled = SeparableRoIAlign(7)(x, torch.zeros(0, 5))
    assert pooled.shape == (0, 3, 7, 7)
    assert torch.autograd.grad(pooled.sum(), x)[0].abs().sum() == 0


def test_moved_bin_by_hand():
    """A ramp whose pixel (column i, row j) is i + 100 j: a bin's value is its
    middle, and half a pixel less than the middle's position."""
    ramp = torch.arange(16.0) + 100 * torch.arange(16.0)[:, None]
    x = ramp.double()[None, None]
    rois = torch.tensor([[0.0, 8.0, 16.0, 24.0, 40.0]]).double()  # 4 x 6 at 1/4
    offsets = torch.zeros(1, 2, 2, 2, dtype=torch.double)
    offsets[0, 0, 1, 0] = 3.0  # the lower left bin: 0.1 * 4 * 3 to the right
    offsets[0, 1, 0, 1] = -2.0  # the upper right bin: 0.1 * 6 * 2 upwards
    y = deform_roi_pool_by_grid_sample(x, rois, offsets, 2, 0.25, 2)[0, 0]
    columns, rows = (2 + 1 - 0.5, 2 + 3 - 0.5), (4 + 1.5 - 0.5, 4 + 4.5 - 0.5)
    expected = torch.tensor(
        [
            [columns[0] + 100 * rows[0], columns[1] + 100 * (rows[0] - 1.2)],
            [columns[0] + 1.2 + 100 * rows[1], columns[1] + 100 * rows[1]],
        ]
    )
    torch.testing.assert_close(y, expected.double())


def test_all_bins_moved_is_roi_align_of_the_moved_roi():
    torch.manual_seed(8)
    x, rois = _random(3, 4, 10, 12), _rois(20)
    offsets = torch.randn(20, 2, 1, 1, dtype=torch.double).expand(-1, -1, 7, 7)
    y = deform_roi_pool_by_grid_sample(x, rois, offsets, 7, 1 / 8, 2, 0.3)
    moved = rois.clone()
    step = 0.3 * (rois[:, 3:] - rois[:, 1:3]) * offsets[:, :, 0, 0]
    moved[:, 1:] += step.repeat(1, 2)
    expected = mmcv.ops.RoIAlign(7, 1 / 8, 2)(x, moved)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


def test_moved_bin_gradients():
    torch.manual_seed(9)
    rois = torch.tensor([[0.0, 9.0, 9.0, 25.0, 33.0], [1.0, 5.0, 10.0, 30.0, 20.0]])

    def pool(x, offsets):
        return deform_roi_pool_by_grid_sample(x, rois.double(), offsets, 3, 0.25, 2)

    assert gradcheck(pool, (_random(2, 2, 12, 12), _random(2, 2, 3, 3)))


def test_refined_roi_align_starts_as_roi_align_and_learns():
    torch.manual_seed(10)
    x, rois = _random(3, 4, 10, 12), _rois(6)
    pool = DeformRoIPool(14, 4, 1 / 8).double()
    plain = SeparableRoIAlign(14, 1 / 8, 2)(x, rois)
    torch.testing.assert_close(pool(x, rois), plain)
    pool(x, rois).square().sum().backward()
    assert pool.conv_offset.weight.grad.abs().sum() > 0
    torch.nn.init.normal_(pool.conv_offset.weight)
    assert (pool(x, rois) - plain).abs().max() > 0.01
    with pytest.raises(ValueError, match='sampling_ratio'):
        DeformRoIPool(14, 4, sampling_ratio=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
def test_moved_bins_equal_mmcv_on_cuda():
    torch.manual_seed(11)
    x, rois = _random(3, 4, 10, 12), _rois(20)
    offsets = _random(20, 2, 7, 7)
    ours = deform_roi_pool_by_grid_sample(x, rois, offsets, 7, 1 / 8, 2)
    theirs = deform_roi_pool_by_mmcv(
        x.cuda().float(), rois.cuda().float(), offsets.cuda().float(), 7, 1 / 8, 2
    )
    torch.testing.assert_close(ours.float(), theirs.cpu(), rtol=1e-4, atol=1e-4)
