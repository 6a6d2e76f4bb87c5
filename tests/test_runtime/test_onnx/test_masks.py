"""Pasted masks against MMDetection."""

import numpy as np
import torch
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

from multitask_runtime.onnx.masks import paste_masks


def test_paste_masks_matches_mmdet():
    random = np.random.default_rng(0)
    corner = random.uniform(-4, 68, (60, 2))
    side = random.uniform(5, 90, (60, 2))
    side[30:] /= 18  # less than a pixel, or a few
    corner[30:] = abs(corner[30:])
    boxes = np.hstack([corner, corner + side])
    boxes[0] = [10, 10, 10, 30]  # no width
    boxes = np.float32(boxes)
    masks = np.float32(random.random((60, 7, 7)))
    for threshold in (0.5, 0.2):
        found = paste_masks(masks, boxes, (70, 100), threshold)
        for mask, box, pasted in zip(masks, boxes, found, strict=True):
            values, place = _do_paste_mask(
                torch.tensor(mask)[None, None], torch.tensor(box)[None], 70, 100
            )
            expected = np.zeros((70, 100), np.float32)
            expected[place] = values[0]
            unsure = abs(expected - threshold) < 1e-4  # differ by rounding
            assert ((expected >= threshold) == pasted)[~unsure].all()
            assert unsure.sum() <= 10
