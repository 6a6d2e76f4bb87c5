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
    rois, gts = zip(*both)
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
