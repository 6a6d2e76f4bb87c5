"""Decoding by MMPose's DARK and UDP: Gaussians, flat maps, the frame of a RoI."""

import pytest
import torch

from multitask_refine.codecs import DarkRoIHeatmapCodec
from multitask_refine.utils.errors import ConfigError

METHODS = ['dark', 'udp']


@pytest.mark.parametrize('method', METHODS)
def test_a_gaussian_is_decoded_to_its_center(method):
    """A blurred Gaussian is a Gaussian, whose logarithm is its own expansion of second order."""
    codec = DarkRoIHeatmapCodec(heatmap_size=28, sigma=2.0, method=method)
    roi = torch.tensor([[31.7, 12.2, 40.1, 333.3]])
    cells = 9 + 10 * torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(0))
    size = (roi[:, 2:] - roi[:, :2]) / 28
    keypoints = roi[:, None, :2] + cells * size
    heatmaps = codec.encode(keypoints, torch.ones(1, 50) > 0, roi)
    decoded, scores = codec.decode(heatmaps, roi)
    assert ((decoded - keypoints) / size).abs().max() < 0.02
    assert torch.equal(scores, heatmaps.flatten(2).amax(-1))


@pytest.mark.parametrize('method', METHODS)
def test_any_heatmap_is_decoded_into_the_roi(method):
    heatmaps = torch.rand(20, 2, 9, 9, generator=torch.Generator().manual_seed(1)) ** 4
    heatmaps[0] = 0  # empty
    heatmaps[1] = 1  # constant
    before = heatmaps.clone()
    codec = DarkRoIHeatmapCodec(heatmap_size=9, method=method, blur_kernel_size=3)
    keypoints, _ = codec.decode(heatmaps, torch.tensor([[1.0, 2.0, 10.0, 29.0]]).expand(20, 4))
    low, high = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 29.0])
    assert ((keypoints >= low - 1e-4) & (keypoints <= high + 1e-4)).all()
    assert torch.equal(heatmaps, before)


def test_without_rois():
    codec = DarkRoIHeatmapCodec(heatmap_size=9, method='udp')
    keypoints, scores = codec.decode(torch.zeros(0, 2, 9, 9), torch.zeros(0, 4))
    assert keypoints.shape == (0, 2, 2) and scores.shape == (0, 2)


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(method='taylor'), "expected 'dark' or 'udp', found 'taylor'"),
        (dict(method='dark', blur_kernel_size=4), 'odd number from 3, found 4'),
    ],
)
def test_invalid_settings_are_rejected(settings, message):
    with pytest.raises(ConfigError, match=message):
        DarkRoIHeatmapCodec(heatmap_size=9, **settings)
