"""Extreme offsets in all operators that sample by offsets."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmcv.ops import modulated_deform_conv2d

from multitask_refine.ops import deform_conv_by_gather, resample_heatmaps

_OFFSET = st.one_of(
    st.floats(-3, 3, width=32),
    st.floats(-1e3, 1e3, width=32),
    st.sampled_from(
        [0.0, -0.0, 0.5, -1.0, 1e6, -1e9, 2.0**31, -(2.0**63), 1e20, -1e30, 3e38, -3e38, 1e-38]
    ),
)


@st.composite
def _tensor(draw, *shape, value=_OFFSET):
    """Draw the values of a few elements; the others are noise."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    tensor = 2 * torch.randn(shape, generator=generator)
    for _ in range(draw(st.integers(1, 8))):
        tensor.view(-1)[draw(st.integers(0, tensor.numel() - 1))] = draw(value)
    return tensor


def _value(image, x, y):
    """Bilinear interpolation in double precision; 0 outside."""
    height, width = image.shape
    total = 0.0
    if not (-1 < x < width and -1 < y < height):
        return total
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                total += float(image[row, column]) * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


@given(st.data(), st.integers(1, 2), st.integers(1, 7), st.integers(1, 7))
def test_resampling_by_any_offsets(data, keypoints, height, width):
    """Equals the definition in double precision."""
    maps = data.draw(_tensor(1, keypoints, height, width, value=st.floats(0, 1, width=32)))
    offsets = data.draw(_tensor(1, 2 * keypoints, height, width))
    refined = resample_heatmaps(maps, offsets)
    expected = torch.tensor(
        [
            [
                [
                    _value(
                        maps[0, k],
                        x + float(offsets[0, 2 * k, y, x]),
                        y + float(offsets[0, 2 * k + 1, y, x]),
                    )
                    for x in range(width)
                ]
                for y in range(height)
            ]
            for k in range(keypoints)
        ]
    )
    torch.testing.assert_close(refined[0], expected, atol=1e-3, rtol=1e-3)


@given(st.data(), st.sampled_from([1, 3]), st.sampled_from([1, 2]), st.booleans())
def test_deform_conv_by_any_offsets(data, kernel, stride, modulated):
    """Equals mmcv's operator."""
    x = data.draw(_tensor(2, 2, 5, 6, value=st.floats(-9, 9, width=32)))
    weight = data.draw(_tensor(3, 2, kernel, kernel, value=st.floats(-1, 1, width=32)))
    size = [(side - 1) // stride + 1 for side in (5, 6)]
    points = kernel * kernel
    offset = data.draw(_tensor(2, 2 * points, *size))
    mask = torch.ones(2, points, *size)
    if modulated:
        mask = data.draw(_tensor(2, points, *size, value=st.floats(0, 2, width=32)))
    options = (None, (stride, stride), (kernel // 2, kernel // 2), (1, 1), 1, 1)
    y = deform_conv_by_gather(x, offset, mask, weight, *options)
    expected = modulated_deform_conv2d(x, offset.clamp(-1e6, 1e6), mask, weight, *options)
    torch.testing.assert_close(y, expected, atol=2e-2, rtol=1e-3)


@given(st.data())
def test_gradients_of_any_offsets_are_finite(data):
    maps = torch.rand(1, 2, 4, 5, requires_grad=True)
    offsets = data.draw(_tensor(1, 4, 4, 5)).requires_grad_()
    resample_heatmaps(maps, offsets).square().sum().backward()
    assert maps.grad.isfinite().all() and offsets.grad.isfinite().all()


@pytest.mark.parametrize('value', [3e38, -3e38, 1e30])
def test_offsets_that_overflowed(value):
    """They once gave NaN in the map and in the gradient of the offsets."""
    maps = torch.rand(1, 1, 4, 4)
    offsets = torch.full((1, 2, 4, 4), value, requires_grad=True)
    refined = resample_heatmaps(maps, offsets)
    refined.sum().backward()
    assert (refined == 0).all() and (offsets.grad == 0).all()


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_offsets_that_are_not_finite_do_not_crash(value):
    offsets = torch.full((1, 2, 4, 4), value)
    assert resample_heatmaps(torch.rand(1, 1, 4, 4), offsets).shape == (1, 1, 4, 4)
    deform_conv_by_gather(
        torch.rand(1, 1, 4, 4),
        offsets,
        None,
        torch.ones(1, 1, 1, 1),
        None,
        (1, 1),
        (0, 0),
        (1, 1),
        1,
        1,
    )
