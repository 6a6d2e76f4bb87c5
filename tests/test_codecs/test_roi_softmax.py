"""Cells by hand; decoding beside PyTorch's bicubic resize."""

import math

import pytest
import torch
import torch.nn.functional as F

from benchmarks.micro.functions import peaks_by_resize
from multitask_refine.codecs import RoISoftmaxCodec
from multitask_refine.codecs.roi_softmax import get_heatmap_maximum


def test_cells_by_hand():
    """A RoI of 8 x 4 pixels at (10, 20) with 4 x 4 cells of 2 x 1 pixels."""
    rois = torch.tensor([[10.0, 20.0, 18.0, 24.0]])
    keypoints = torch.tensor(
        [
            [
                [10.0, 20.0],  # corner of the first cell
                [13.9, 22.1],  # second column, third row
                [18.0, 24.0],  # the lower right corner belongs to the last cell
                [9.9, 21.0],  # outside
                [14.0, 24.1],  # outside
                [15.0, 21.0],  # not labeled
            ]
        ]
    )
    visible = torch.tensor([[True, True, True, True, True, False]])
    cells, valid = RoISoftmaxCodec(4).encode(keypoints, visible, rois)
    assert valid.tolist() == [[True, True, True, False, False, False]]
    assert cells.tolist() == [[0, 2 * 4 + 1, 15, 0, 0, 0]]


def test_roi_without_width_has_no_valid_keypoints():
    cells, valid = RoISoftmaxCodec(4).encode(
        torch.full((1, 1, 2), 5.0),
        torch.ones(1, 1, dtype=torch.bool),
        torch.tensor([[4.0, 5.0, 4.0, 5.0]]),
    )
    assert not valid.any() and cells.tolist() == [[0]]


def _reference(logits, roi):
    """Decode one RoI in float64 by PyTorch's bicubic resize."""
    extent = (roi[2:] - roi[:2]).clamp(min=1)
    width, height = extent.ceil().long().tolist()
    resized = F.interpolate(logits[None].double(), size=(height, width), mode='bicubic')[0]
    peaks, index = resized.flatten(1).max(1)
    cell = torch.stack([index % width, index // width], -1)
    size = torch.tensor([width, height])
    points = roi[:2] + (cell + 0.5) * extent.double() / size
    return points, peaks


ROIS = torch.tensor(
    [
        [3.2, 4.7, 43.9, 98.1],
        [10.0, 10.0, 66.0, 66.0],  # pixels equal cells
        [0.5, 0.5, 0.9, 0.6],  # smaller than a pixel
        [-7.3, 2.0, 200.4, 31.5],
        [5.0, 6.0, 25.5, 11.0],
    ]
)


def test_decoding_equals_pytorchs_resize():
    torch.manual_seed(0)
    logits = 3 * torch.randn(len(ROIS), 3, 14, 14)
    points, scores = RoISoftmaxCodec(14, score='logit').decode(logits, ROIS)
    for i, roi in enumerate(ROIS):
        expected, peaks = _reference(logits[i], roi)
        torch.testing.assert_close(points[i].double(), expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(scores[i].double(), peaks, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('max_pixels', [1, 2**14, 2**25])
def test_matrix_products_equal_pytorchs_resize(max_pixels):
    torch.manual_seed(1)
    logits = torch.randn(40, 3, 14, 14)
    pixels = torch.randint(1, 90, (40, 2))
    cells, peaks = get_heatmap_maximum(logits, pixels, max_pixels)
    expected, heights = peaks_by_resize(logits, pixels)
    assert torch.equal(cells, expected)
    torch.testing.assert_close(peaks, heights, rtol=1e-5, atol=1e-5)


def test_autocast_does_not_move_the_maximum():
    torch.manual_seed(0)
    logits, sizes = torch.randn(3, 2, 14, 14), torch.randint(20, 60, (3, 2))
    expected = get_heatmap_maximum(logits, sizes, 1)
    with torch.autocast('cpu', torch.bfloat16):
        found = get_heatmap_maximum(logits, sizes, 1)
    assert all(map(torch.equal, found, expected))
    # Devices without autocast, such as that of memory estimates.
    assert get_heatmap_maximum(logits[:0].to('meta'), sizes[:0], 1)[1].shape == (0, 2)


def test_maximum_is_decoded_at_the_center_of_its_cell():
    """A RoI of 28 x 42 pixels with 14 x 14 cells: the center of cell (5, 9) is at x = 5.5 * 2,
    y = 9.5 * 3 in the RoI. In y that is the center of a pixel; in x it lies between two pixels,
    one of which is chosen."""
    logits = torch.zeros(1, 1, 14, 14)
    logits[0, 0, 9, 5] = 5.0
    points, _ = RoISoftmaxCodec(14).decode(logits, torch.tensor([[100.0, 200.0, 128.0, 242.0]]))
    assert points[0, 0, 1].item() == pytest.approx(200 + 28.5)
    assert abs(points[0, 0, 0].item() - (100 + 11)) == pytest.approx(0.5)


def test_scores_by_hand():
    """Pixels equal cells, so the maximum of the resized logits is the logit itself: log 7 among
    8 zeros, a probability of 7 / 15."""
    logits = torch.zeros(1, 1, 3, 3)
    logits[0, 0, 1, 2] = math.log(7)
    roi = torch.tensor([[0.0, 0.0, 3.0, 3.0]])
    points, scores = RoISoftmaxCodec(3).decode(logits, roi)
    assert scores.item() == pytest.approx(7 / 15)
    assert points[0, 0].tolist() == [2.5, 1.5]
    _, scores = RoISoftmaxCodec(3, score='logit').decode(logits, roi)
    assert scores.item() == pytest.approx(math.log(7))


@pytest.mark.parametrize(
    'options, message',
    [
        ({'heatmap_size': 0}, 'heatmap_size: expected a positive number, found 0'),
        ({'heatmap_size': 4, 'score': 'sum'}, "'probability' or 'logit', found 'sum'"),
    ],
)
def test_settings_out_of_range_are_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        RoISoftmaxCodec(**options)
