"""Targets of the mask head by hand and beside mmdet's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import ConfigDict

from multitask_refine.models import PersonMaskHead

HEIGHT, WIDTH = 48, 64


def samples(boxes, instances):
    return SimpleNamespace(
        pos_priors=torch.tensor(boxes).reshape(-1, 4).float(),
        pos_assigned_gt_inds=torch.tensor(instances).long(),
    )


def image(seed, num_rois):
    """Make three random masks and RoIs that may leave the image."""
    generator = np.random.default_rng(seed)
    masks = generator.random((3, HEIGHT, WIDTH)) < 0.5
    corners = generator.uniform(-9, 70, (num_rois, 2, 2))
    corners.sort(1)
    return (
        samples(corners, generator.integers(0, 3, num_rois)),
        SimpleNamespace(masks=BitmapMasks(masks.astype(np.uint8), HEIGHT, WIDTH)),
    )


@pytest.mark.parametrize('soft', [False, True])
def test_targets_equal_mmdet(soft):
    cfg = ConfigDict(mask_size=(7, 9), soft_mask_target=soft)
    both = [image(0, 20), image(1, 0), image(2, 5)]
    rois, gts = zip(*both, strict=True)
    found = PersonMaskHead().get_targets(rois, gts, cfg)
    assert found.shape == (25, 7, 9)
    assert 0.2 < found.mean() < 0.8
    # mmdet clips the RoIs in place; here they do not change.
    assert rois[0].pos_priors.min() < 0
    expected = FCNMaskHead().get_targets(rois, gts, cfg)
    assert torch.equal(found, expected)


def test_polygons():
    square = np.array([8.0, 4, 24, 4, 24, 20, 8, 20])
    gts = SimpleNamespace(masks=PolygonMasks([[square]], HEIGHT, WIDTH))
    found = PersonMaskHead().get_targets(
        [samples([[8.0, 4, 40, 20]], [0])], [gts], ConfigDict(mask_size=4)
    )
    # The RoI is twice as wide as the square, with the same upper left corner.
    assert found.tolist() == [[[1.0, 1, 0, 0]] * 4]


def test_each_roi_has_the_target_of_its_instance():
    masks = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    masks[0, :, :16], masks[1, 16:] = 1, 1
    gts = SimpleNamespace(masks=BitmapMasks(masks, HEIGHT, WIDTH))
    boxes = [[0.0, 0, 32, 32]] * 2
    found = PersonMaskHead().get_targets([samples(boxes, [1, 0])], [gts], ConfigDict(mask_size=2))
    assert found.tolist() == [[[0.0, 0], [1, 1]], [[1.0, 0], [1, 0]]]


def test_targets_that_are_not_aligned():
    """torchvision reads half a pixel further right and down: between the last column of the mask
    and the first one outside."""
    mask = np.zeros((1, 8, 8), np.uint8)
    mask[:, :, :4] = 1
    gts = SimpleNamespace(masks=BitmapMasks(mask, 8, 8))
    rois = [samples([[2.0, 0, 6, 4]], [0])]
    cfg = ConfigDict(mask_size=4, soft_mask_target=True)
    aligned = PersonMaskHead().get_targets(rois, [gts], cfg)
    assert aligned[0, 0].tolist() == [1, 1, 0, 0]
    shifted = PersonMaskHead(aligned_targets=False).get_targets(rois, [gts], cfg)
    assert shifted[0, 0].tolist() == [1, 0.5, 0, 0]


def test_polygons_are_rasterized_in_the_roi():
    """At the resolution of the target: mmdet's, without a bitmap of the image."""
    triangle = np.array([10.2, 5.1, 40.7, 9.3, 20.4, 43.6])
    gts = SimpleNamespace(masks=PolygonMasks([[triangle]], HEIGHT, WIDTH))
    rois = [samples([[8.3, 4.1, 44.9, 44.2], [15.0, 10, 30, 30]], [0, 0])]
    cfg = ConfigDict(mask_size=28)
    found = PersonMaskHead().get_targets(rois, [gts], cfg)
    assert torch.equal(found, FCNMaskHead().get_targets(rois, [gts], cfg))
    area = 0.5 * (30.5 * 38.5 - 4.2 * 10.2)  # half the cross product of two sides
    assert found[0].mean() == pytest.approx(area / (36.6 * 40.1), abs=0.03)
