"""Gaussians by hand and beside mmpose's; round trips."""

import math

import numpy as np
import pytest
import torch
from mmpose.codecs.utils import generate_unbiased_gaussian_heatmaps

from multitask_refine.codecs import RoIHeatmapCodec


def _encode_one(codec, keypoint, roi, visible=True):
    heatmaps = codec.encode(
        torch.tensor([[keypoint]]), torch.tensor([[visible]]), torch.tensor([roi])
    )
    return heatmaps[0, 0]


def test_gaussian_by_hand():
    """A RoI of 56 pixels has cells of one pixel; the center of cell 3 is 3.5 pixels from the
    RoI's border."""
    heatmap = _encode_one(RoIHeatmapCodec(56), (10 + 3.5, 20 + 5.5), (10.0, 20.0, 66.0, 76.0))
    assert heatmap[5, 3] == 1
    assert heatmap[5, 4].item() == pytest.approx(math.exp(-0.5))
    assert heatmap[6, 4].item() == pytest.approx(math.exp(-1))
    assert heatmap[7, 3].item() == pytest.approx(math.exp(-2))


def test_axes_have_their_own_scale():
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
    # mmpose truncates the Gaussian at three sigma.
    near = expected > 0
    np.testing.assert_allclose(heatmaps[0].numpy()[near], expected[near], rtol=1e-5)


@pytest.mark.parametrize(
    'keypoint, visible', [((3.0, 3.0), False), ((-0.01, 3.0), True), ((3.0, 8.01), True)]
)
def test_keypoint_not_visible_or_outside_is_zero(keypoint, visible):
    heatmap = _encode_one(RoIHeatmapCodec(8), keypoint, (0.0, 0.0, 8.0, 8.0), visible)
    assert heatmap.abs().max() == 0


@pytest.mark.parametrize('size', [14, 28, 56])
def test_round_trip_anywhere_in_the_box(size):
    codec = RoIHeatmapCodec(size)
    steps = torch.linspace(0.0001, 0.9999, 83)
    y, x = torch.meshgrid(steps, steps, indexing='ij')
    for roi in ([0.0, 0.0, 56.0, 56.0], [31.7, 12.2, 40.1, 333.3]):
        roi = torch.tensor([roi])
        extent = roi[:, 2:] - roi[:, :2]
        keypoints = roi[:, None, :2] + extent * torch.stack([x.flatten(), y.flatten()], -1)[None]
        heatmaps = codec.encode(keypoints, torch.ones(keypoints.shape[:2]) > 0, roi)
        decoded, scores = codec.decode(heatmaps, roi)
        error = (decoded - keypoints).abs() * size / extent
        assert error.max() < 0.01
        assert scores.min() > 0.7


def test_decoding_is_symmetric():
    torch.manual_seed(1)
    codec = RoIHeatmapCodec(9)
    heatmaps = torch.rand(4, 3, 9, 9)
    roi = torch.tensor([[2.0, 3.0, 20.0, 30.0]]).expand(4, 4)
    keypoints, scores = codec.decode(heatmaps, roi)
    flipped, flipped_scores = codec.decode(heatmaps.flip(-1), roi)
    torch.testing.assert_close(flipped[..., 0], 22 - keypoints[..., 0])
    torch.testing.assert_close(flipped[..., 1], keypoints[..., 1])
    torch.testing.assert_close(flipped_scores, scores)


def test_any_heatmap_decodes_within_half_a_cell_of_its_maximum():
    torch.manual_seed(2)
    heatmaps = torch.rand(50, 2, 7, 7) ** 4
    heatmaps[0] = 0  # empty
    heatmaps[1] = 1  # constant
    roi = torch.tensor([[0.0, 0.0, 7.0, 7.0]]).expand(50, 4)
    keypoints, scores = RoIHeatmapCodec(7).decode(heatmaps, roi)
    index = heatmaps.flatten(2).argmax(-1)
    maxima = torch.stack([index % 7, index // 7], -1) + 0.5
    assert (keypoints - maxima).abs().max() <= 0.5 + 1e-5
    assert torch.equal(scores, heatmaps.flatten(2).amax(-1))


@pytest.mark.parametrize(
    'settings, word', [(dict(heatmap_size=2), 'size'), (dict(heatmap_size=8, sigma=0), 'sigma')]
)
def test_settings_out_of_range_are_rejected(settings, word):
    with pytest.raises(ValueError, match=word):
        RoIHeatmapCodec(**settings)
