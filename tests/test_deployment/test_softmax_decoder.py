"""The decoder that is exported with a loop, against torch's interpolation."""

import pytest
import torch
import torch.nn.functional as F

from multitask_refine.codecs import RoISoftmaxCodec
from multitask_refine.deployment.softmax_decoder import (
    LoopedSoftmaxCodec,
    bicubic_matrix,
    heatmap_maxima,
)


def _logits(rois, keypoints, side):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rois, keypoints, side, side, generator=generator)


@pytest.mark.parametrize('side, size', [(4, 4), (4, 9), (7, 3), (5, 1)])
def test_matrix_is_torchs_bicubic_interpolation(side, size):
    rows = _logits(1, 3, side)[0]  # (3, S, S)
    expected = F.interpolate(
        rows[None], size=(side, size), mode='bicubic', align_corners=False
    )  # (1, 3, S, size)
    matrix = bicubic_matrix(torch.tensor(size), side)
    assert matrix.shape == (size, side + 4)
    found = F.pad(rows[None], (2, 2, 0, 0), mode='replicate') @ matrix.T
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    # The weights of a pixel are those of an average.
    torch.testing.assert_close(matrix.sum(1), torch.ones(size), atol=1e-6, rtol=0)


def test_maxima_of_rois_of_their_own_sizes():
    logits, sizes = _logits(3, 2, 6), torch.tensor([[13, 5], [1, 1], [6, 40]])
    found = heatmap_maxima(F.pad(logits, (2, 2, 2, 2), mode='replicate'), sizes)
    assert found.shape == (3, 2, 3)
    for roi, (width, height) in enumerate(sizes.tolist()):
        resized = F.interpolate(
            logits[roi, None], size=(height, width), mode='bicubic', align_corners=False
        )[0]
        for keypoint, pixels in enumerate(resized):
            y, x = divmod(int(pixels.argmax()), width)
            assert found[roi, keypoint, :2].tolist() == [x, y]
            assert found[roi, keypoint, 2] == pytest.approx(float(pixels.max()), abs=1e-5)


def test_a_map_of_the_rois_size_keeps_its_maximum():
    logits = torch.zeros(1, 1, 5, 5)
    logits[0, 0, 3, 1] = 2.5
    found = heatmap_maxima(F.pad(logits, (2, 2, 2, 2), mode='replicate'), torch.tensor([[5, 5]]))
    torch.testing.assert_close(found, torch.tensor([[[1.0, 3.0, 2.5]]]))


@pytest.mark.parametrize('score', ['probability', 'logit'])
def test_decoding_is_that_of_the_codec(score):
    rois = torch.tensor([[0.0, 0.0, 30.0, 20.0], [10.5, 4.25, 17.0, 40.0], [3.0, 3.0, 3.2, 3.1]])
    logits = _logits(3, 4, 7)
    expected = RoISoftmaxCodec(7, score=score).decode(logits, rois)
    for found, each in zip(LoopedSoftmaxCodec(7, score=score).decode(logits, rois), expected):
        torch.testing.assert_close(found, each, atol=1e-5, rtol=1e-5)


def test_without_rois_there_are_no_keypoints():
    keypoints, scores = LoopedSoftmaxCodec(7).decode(_logits(0, 4, 7), torch.zeros(0, 4))
    assert keypoints.shape == (0, 4, 2) and scores.shape == (0, 4)
