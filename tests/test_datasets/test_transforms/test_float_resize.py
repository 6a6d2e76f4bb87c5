"""Sizes and values of images that are resized in float."""

import numpy as np
import pytest
from mmdet.structures.mask import BitmapMasks

from multitask_refine.datasets import FloatResize


@pytest.mark.parametrize(
    'shape, expected',
    [
        # 800 / 427 * 640 = 1199.06
        ((427, 640), (800, 1199)),
        ((640, 427), (1199, 800)),
        # 1333 / 1000 * 375 = 499.875: rounded down.
        ((375, 1000), (499, 1333)),
    ],
)
def test_sizes_are_rounded_down(shape, expected):
    results = dict(img=np.zeros((*shape, 3), np.uint8))
    results = FloatResize(scale=(1333, 800))(results)
    assert results['img_shape'] == expected
    assert results['img'].shape[:2] == expected
    assert results['scale_factor'] == (expected[1] / shape[1], expected[0] / shape[0])


def test_values_by_hand():
    """From 2 to 4 pixels: a quarter of a pixel beside the old centers, and the border's value
    outside of them."""
    image = np.array([[[0] * 3, [1] * 3]] * 2, np.uint8)
    results = FloatResize(scale=(4, 4))(dict(img=image))
    assert results['img'].dtype == np.float32
    np.testing.assert_allclose(results['img'][..., 1], [[0, 0.25, 0.75, 1]] * 4, atol=1e-6)


def test_masks_have_the_size_of_the_image():
    """499.875 is rounded down for both; mmdet's masks would have 500 rows."""
    masks = BitmapMasks(np.ones((1, 375, 1000), np.uint8), 375, 1000)
    results = dict(img=np.zeros((375, 1000, 3), np.uint8), gt_masks=masks)
    results = FloatResize(scale=(1333, 800))(results)
    assert results['gt_masks'].masks.shape == (1, 499, 1333)
