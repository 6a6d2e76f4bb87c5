import math

import numpy as np
import pytest
import torch
from mmpose.codecs.utils import generate_unbiased_gaussian_heatmaps

from multitask_refine.codecs import RoIHeatmapCodec


def _encode_one(codec, point, roi, shown=True):
    return codec.encode(torch.tensor([[point]]), torch.tensor([[shown]]), torch.tensor([roi]))[
        0, 0
    ]


def test_gaussian_by_hand():
    """A RoI of 56 pixels has cells of one pixel; cell 3 has its middle at
    3.5 pixels from the RoI's border."""
    heatmap = _encode_one(RoIHeatmapCodec(56), (10 + 3.5, 20 + 5.5), (10.0, 20.0, 66.0, 76.0))
    assert heatmap[5, 3] == 1
    assert heatmap[5, 4].item() == pytest.approx(math.exp(-0.5))
    assert heatmap[6, 4].item() == pytest.approx(math.exp(-1))
    assert heatmap[7, 3].item() == pytest.approx(math.exp(-2))


def test_axes_scale_on_their_own():
    """Cells of 2 x 0.5 image pixels."""
    heatmap = _encode_one(RoIHeatmapCodec(8), (7.0, 1.25), (0.0, 0.0, 16.0, 4.0))
    assert divmod(heatmap.argmax().item(), 8) == (2, 3)
    assert heatmap[2, 3] == 1


def test_gaussians_equal_mmpose():
    torch.manual_seed(0)
    index = 2 + 11 * torch.rand(1, 5, 2, dtype=torch.double)
    heatmaps = RoIHeatmapCodec(16, sigma=1.5).encode(
        index + 0.5, torch.ones(1, 5) > 0, torch.tensor([[0.0, 0.0, 16.0, 16.0]]).double()
    )
    expected, _ = generate_unbiased_gaussian_heatmaps(
        (16, 16), index.numpy(), np.ones((1, 5)), 1.5
    )
    # mmpose cuts the Gaussian off at three sigma.
    near = expected > 0
    np.testing.assert_allclose(heatmaps[0].numpy()[near], expected[near], rtol=1e-5)


@pytest.mark.parametrize(
    'point, shown', [((3.0, 3.0), False), ((-0.01, 3.0), True), ((3.0, 8.01), True)]
)
def test_joint_not_shown_or_outside_is_zero(point, shown):
    heatmap = _encode_one(RoIHeatmapCodec(8), point, (0.0, 0.0, 8.0, 8.0), shown=shown)
    assert heatmap.abs().max() == 0


@pytest.mark.parametrize('size', [14, 28, 56])
def test_round_trip_anywhere_in_the_box(size):
    codec = RoIHeatmapCodec(size)
    steps = torch.linspace(0.0001, 0.9999, 83)
    y, x = torch.meshgrid(steps, steps, indexing='ij')
    for roi in ([0.0, 0.0, 56.0, 56.0], [31.7, 12.2, 40.1, 333.3]):
        roi = torch.tensor([roi])
        extent = roi[:, 2:] - roi[:, :2]
        points = roi[:, None, :2] + extent * torch.stack([x.flatten(), y.flatten()], -1)[None]
        heatmaps = codec.encode(points, torch.ones(points.shape[:2]) > 0, roi)
        decoded, scores = codec.decode(heatmaps, roi)
        error = (decoded - points).abs() * size / extent
        assert error.max() < 0.01
        assert scores.min() > 0.7


def test_decoding_is_the_same_in_the_mirror():
    torch.manual_seed(1)
    codec = RoIHeatmapCodec(9)
    heatmaps = torch.rand(4, 3, 9, 9)
    roi = torch.tensor([[2.0, 3.0, 20.0, 30.0]]).expand(4, 4)
    points, scores = codec.decode(heatmaps, roi)
    mirrored, mirrored_scores = codec.decode(heatmaps.flip(-1), roi)
    torch.testing.assert_close(mirrored[..., 0], 22 - points[..., 0])
    torch.testing.assert_close(mirrored[..., 1], points[..., 1])
    torch.testing.assert_close(mirrored_scores, scores)


def test_any_heatmap_decodes_within_half_a_cell_of_its_peak():
    torch.manual_seed(2)
    heatmaps = torch.rand(50, 2, 7, 7) ** 4
    heatmaps[0] = 0  # nothing at all
    heatmaps[1] = 1  # a flat top
    roi = torch.tensor([[0.0, 0.0, 7.0, 7.0]]).expand(50, 4)
    points, scores = RoIHeatmapCodec(7).decode(heatmaps, roi)
    index = heatmaps.flatten(2).argmax(-1)
    peaks = torch.stack([index % 7, index // 7], -1) + 0.5
    assert (points - peaks).abs().max() <= 0.5 + 1e-5
    assert torch.equal(scores, heatmaps.flatten(2).amax(-1))


@pytest.mark.parametrize(
    'settings, word', [(dict(heatmap_size=2), 'size'), (dict(heatmap_size=8, sigma=0), 'sigma')]
)
def test_settings_out_of_range(settings, word):
    with pytest.raises(ValueError, match=word):
        RoIHeatmapCodec(**settings)
