"""Polygons of masks cover exactly the same pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage
from shapely.geometry import Polygon

from multitask_runtime.formats import mask_to_polygons, to_mask, to_rle

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)


@settings(deadline=None)
@given(arrays.arrays(bool, SHAPES, elements=st.booleans()))
def test_polygons_cover_the_mask_and_its_holes(mask):
    polygons, num_holes = mask_to_polygons(mask)
    filled = ndimage.binary_fill_holes(mask)
    found = to_mask(polygons, *mask.shape) if polygons else np.zeros_like(mask)
    assert (found == filled).all()
    # Holes are regions of the background that have no border pixel, by 4 neighbors.
    assert num_holes == ndimage.label(filled & ~mask)[1]


def test_corners_by_hand():
    mask = np.zeros((6, 7), bool)
    mask[1:5, 1:3] = True
    mask[3:5, 3:6] = True  # an L
    ((polygon,), holes) = mask_to_polygons(mask)
    corners = {tuple(each) for each in np.reshape(polygon, (-1, 2))}
    assert corners == {(1, 1), (3, 1), (3, 3), (6, 3), (6, 5), (1, 5)} and holes == 0
    assert Polygon(np.reshape(polygon, (-1, 2))).area == mask.sum()


def test_tolerance_saves_corners():
    y, x = np.mgrid[:200, :200] + 0.5
    mask = (x - 100) ** 2 / 90**2 + (y - 100) ** 2 / 50**2 < 1
    (exact,), _ = mask_to_polygons(mask)
    (rough,), _ = mask_to_polygons(mask, tolerance=1.0)
    assert len(rough) < len(exact) / 5
    difference = to_mask([rough], 200, 200) != mask
    # All pixels that differ lie at the border.
    border = ndimage.binary_dilation(mask, iterations=2) & ~ndimage.binary_erosion(
        mask, iterations=2
    )
    assert difference.sum() < 0.02 * mask.sum() and not (difference & ~border).any()


@pytest.mark.parametrize('counts', ['compressed', 'list'])
def test_masks_of_runs(counts):
    mask = np.zeros((4, 5), bool)
    mask[1:3, 2] = True
    rle = to_rle(mask) if counts == 'compressed' else dict(size=[4, 5], counts=[9, 2, 9])
    assert (to_mask(rle, 4, 5) == mask).all()
