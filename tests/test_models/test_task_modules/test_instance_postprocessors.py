"""Postprocessors: figures worked out by hand, MMPose's NMS, and the RoI head that applies them."""

import math

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.structures import InstanceData
from mmpose.evaluation.functional.nms import oks_nms

from multitask_refine.models import (
    InstanceNMS,
    KeypointBoxRefiner,
    KeypointRescorer,
    MaskBoxRefiner,
)
from multitask_refine.models.roi_heads.multitask_roi_head import InstanceOutputs
from multitask_refine.models.task_modules.instance_postprocessors import pairwise_mask_iou
from multitask_refine.utils.errors import ConfigError
from tests.conftest import SAMPLE_CONFIG
from tests.shrink import shrink_network


def rectangles(*boxes, size=(16, 16)):
    """Masks (N, H, W) of boxes xyxy in whole pixels."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def test_boxes_move_toward_their_masks():
    masks = rectangles((3, 2, 10, 6), (0, 0, 0, 0), (0, 0, 16, 16))
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0]] * 3)
    found = MaskBoxRefiner(0.25)(InstanceData(bboxes=boxes, masks=masks)).bboxes
    # The second mask is empty.
    assert found.tolist() == [[0.75, 0.5, 8.5, 7.5], [0, 0, 8, 8], [0, 0, 10, 10]]


def test_boxes_are_enlarged_by_confident_keypoints():
    instances = InstanceData(
        bboxes=torch.tensor([[2.0, 2.0, 8.0, 8.0]]),
        keypoints=torch.tensor([[[1.0, 5.0], [4.0, 9.5], [20.0, 20.0]]]),
        keypoint_scores=torch.tensor([[0.9, 0.3, 0.2]]),
    )
    assert KeypointBoxRefiner(score_thr=0.3)(instances).bboxes.tolist() == [[1, 2, 8, 9.5]]


@pytest.mark.parametrize('region', ['mask', 'bbox'])
def test_keypoints_outside_of_the_region_lose_score(region):
    """The box is the rectangle of the mask, 10 x 10 pixels; a sigma of 0.1 gives a variance of
    0.04."""
    instances = InstanceData(
        bboxes=torch.tensor([[2.0, 3.0, 12.0, 13.0]]),
        masks=rectangles((2, 3, 12, 13)),
        keypoints=torch.tensor([[[5.0, 5.0], [15.0, 17.0], [2.0, 2.5]]]),
        keypoint_scores=torch.tensor([[0.5, 0.8, 1.0]]),
    )
    found = KeypointRescorer(region, sigmas=[0.1, 0.1, 0.1])(instances).keypoint_scores
    # inside; 3 and 4 outside, so 5 away; half a pixel above
    expected = [0.5, 0.8 * math.exp(-25 / 8), math.exp(-0.25 / 8)]
    torch.testing.assert_close(found[0], torch.tensor(expected))


def test_oks_nms_keeps_what_mmpose_keeps():
    generator = torch.Generator().manual_seed(0)
    people = torch.rand(4, 1, 17, 2, generator=generator) * 60
    noise = torch.rand(4, 5, 17, 2, generator=generator) * torch.linspace(0, 16, 5)[:, None, None]
    keypoints = (people + noise).flatten(0, 1)  # (20, 17, 2), more and less alike
    corners = torch.cat([keypoints.amin(1), keypoints.amax(1)], 1)
    scores = torch.rand(20, generator=generator)
    instances = InstanceData(
        bboxes=corners, keypoints=keypoints, scores=scores, labels=torch.zeros(20)
    )
    found = InstanceNMS('oks', 0.7)(instances).scores
    entries = [
        dict(
            keypoints=np.concatenate([points, np.ones((17, 1))], 1),
            score=score,
            area=np.prod(size),
        )
        for points, score, size in zip(
            keypoints.numpy(), scores.tolist(), (corners[:, 2:] - corners[:, :2]).numpy()
        )
    ]
    expected = scores[oks_nms(entries, 0.7)]
    assert 4 < len(expected) < 20
    assert torch.equal(found, expected)


def test_mask_nms_keeps_overlapping_boxes_of_disjoint_masks():
    """The second mask covers two thirds of the union with the first, the third half."""
    masks = rectangles((0, 0, 6, 6), (0, 0, 6, 4), (0, 0, 6, 3), (6, 0, 12, 6), (0, 0, 6, 6))
    instances = InstanceData(
        bboxes=torch.tensor([[0.0, 0.0, 12.0, 6.0]] * 5),
        masks=masks,
        scores=torch.tensor([0.9, 0.8, 0.7, 0.95, 0.6]),
        labels=torch.tensor([0, 0, 0, 0, 1]),
    )
    found = InstanceNMS('mask', 0.6)(instances)
    # best first; the last has another label
    assert found.scores.tolist() == pytest.approx([0.95, 0.9, 0.7, 0.6])
    ious = pairwise_mask_iou(masks[:3])
    assert ious.flatten().tolist() == pytest.approx(
        [1, 2 / 3, 1 / 2, 2 / 3, 1, 3 / 4, 1 / 2, 3 / 4, 1]
    )


@pytest.mark.parametrize(
    'build',
    [
        lambda: MaskBoxRefiner(),
        lambda: KeypointBoxRefiner(0.3),
        lambda: KeypointRescorer('mask'),
        lambda: KeypointRescorer('bbox'),
        lambda: InstanceNMS('oks', 0.5),
        lambda: InstanceNMS('mask', 0.5),
    ],
)
def test_no_instances(build):
    instances = InstanceData(
        bboxes=torch.zeros(0, 4),
        masks=rectangles(),
        keypoints=torch.zeros(0, 17, 2),
        keypoint_scores=torch.zeros(0, 17),
        scores=torch.zeros(0),
        labels=torch.zeros(0, dtype=torch.long),
    )
    assert len(build()(instances)) == 0


def make_head(**settings):
    cfg = Config.fromfile(SAMPLE_CONFIG)
    shrink_network(cfg.model)
    cfg.merge_from_dict({f'model.{name}': value for name, value in settings.items()})
    torch.manual_seed(0)
    return MODELS.build(cfg.model).roi_head.eval()


def test_roi_head_scales_rois_and_applies_all_postprocessors():
    """Each heatmap's maximum is the first cell: half a cell from the corner of the RoI."""
    head = make_head(
        **{
            'test_cfg.rcnn.roi_scale_factor': 1.5,
            'test_cfg.rcnn.postprocess': [
                dict(type='KeypointBoxRefiner', score_thr=0.5),
                dict(type='InstanceNMS', similarity='mask', threshold=0.5),
            ],
        }
    )
    box = torch.tensor([[20.0, 31.0, 60.0, 51.0]])
    side = head.keypoint_head.codec.heatmap_size
    heatmaps = torch.zeros(2, 17, side, side)
    heatmaps[..., 0, 0] = 1
    results = InstanceData(
        bboxes=box.repeat(2, 1), scores=torch.tensor([0.9, 0.8]), labels=torch.zeros(2).long()
    )
    metas = [dict(scale_factor=(2.0, 2.0), ori_shape=(40, 60), img_shape=(80, 120))]
    logits = torch.full((2, 1, 28, 28), 5.0)
    outputs = InstanceOutputs(logits, heatmaps, {})
    (found,) = head.postprocess([results], outputs, metas, rescale=True)
    # RoI: 10 to 70 by 26 to 56; in the original image 5 to 35 by 13 to 28
    keypoint = torch.tensor([5 + 0.5 * 30 / side, 13 + 0.5 * 15 / side])
    # The parabola through a single cell keeps it.
    torch.testing.assert_close(found.keypoints, keypoint.expand(1, 17, 2), atol=0.3, rtol=0)
    box = torch.cat([found.keypoints[0, 0], torch.tensor([30.0, 25.5])])
    torch.testing.assert_close(found.bboxes, box[None])
    assert found.scores.tolist() == pytest.approx([0.9])  # the masks are the same
    assert torch.equal(found.masks, rectangles((5, 13, 35, 28), size=(40, 60)))
    feats = []
    head._pool_instances = lambda x, rois: feats.append(rois)
    head.extract_instance_feats((), [torch.tensor([[20.0, 31.0, 60.0, 51.0]])])
    assert feats[0].tolist() == [[0, 10, 26, 70, 56]]


@pytest.mark.parametrize(
    'head, postprocessor, message',
    [
        ('mask_head', dict(type='MaskBoxRefiner'), 'MaskBoxRefiner needs masks'),
        (
            'keypoint_head',
            dict(type='InstanceNMS', similarity='oks', threshold=0.5),
            'InstanceNMS needs keypoints',
        ),
    ],
)
def test_missing_head_is_rejected(head, postprocessor, message):
    with pytest.raises(ConfigError, match=message):
        make_head(**{f'roi_head.{head}': None, 'test_cfg.rcnn.postprocess': [postprocessor]})


@pytest.mark.parametrize(
    'build, message',
    [
        (lambda: MaskBoxRefiner(1.5), 'weight: expected 0 to 1, found 1.5'),
        (lambda: KeypointRescorer('head'), "expected 'mask' or 'bbox', found 'head'"),
        (lambda: InstanceNMS('box', 0.5), "expected 'oks' or 'mask', found 'box'"),
    ],
)
def test_invalid_settings_are_rejected(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


def test_number_of_sigmas():
    instances = InstanceData(
        bboxes=torch.ones(1, 4),
        keypoints=torch.zeros(1, 14, 2),
        scores=torch.ones(1),
        labels=torch.zeros(1),
    )
    with pytest.raises(ConfigError, match='each of the 14 keypoints, found 17'):
        InstanceNMS('oks', 0.5)(instances)
