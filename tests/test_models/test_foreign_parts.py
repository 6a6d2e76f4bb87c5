"""What other frameworks' networks need: box head, anchors, ranking, resize."""

import math

import numpy as np
import pytest
import torch
from mmdet.models.dense_heads import RPNHead
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from multitask_refine.datasets import FloatResize
from multitask_refine.models import (
    LogitRankedRPNHead,
    PersonBBoxHead,
    SyncAvgFactorRPNHead,
    TorchvisionAnchorGenerator,
)
from multitask_refine.models.roi_heads.multitask_roi_head import _drop_small


def test_persons_score_is_its_share_of_all_classes():
    """Logits log 1, 2, 3, 4 of person, two others and the background."""
    head = PersonBBoxHead(num_other_classes=2, num_classes=1, in_channels=1, fc_out_channels=1)
    with torch.no_grad():
        head.fc_cls.weight.zero_()
        head.fc_cls.bias.copy_(torch.arange(1.0, 5.0).log())
    logits, deltas = head(torch.zeros(5, 1, 7, 7))
    assert logits.shape == (5, 2) and deltas.shape == (5, 4)
    torch.testing.assert_close(logits.softmax(1)[0], torch.tensor([0.1, 0.9]))


def test_many_told_classes_are_refused():
    with pytest.raises(ValueError, match='must be 1, the person, but is 80'):
        PersonBBoxHead(num_other_classes=79, num_classes=80)


def test_anchors_by_hand():
    """An image of 32 x 96: 8 x 24 cells at stride 4, then 4 x 12, and a
    third map of odd size, 3 wide: 96 // 3 is 32, but of 1 row: 32 // 1."""
    generator = TorchvisionAnchorGenerator(strides=[4, 8, 64], ratios=[2.0], scales=[8])
    fine, middle, coarse = generator.grid_priors([(8, 24), (4, 12), (1, 3)], device='cpu')
    assert [len(a) for a in (fine, middle, coarse)] == [192, 48, 3]
    # 32 / sqrt(2) = 22.6 wide, 45.3 high: half of it, rounded.
    base = torch.tensor([-11.0, -23.0, 11.0, 23.0])
    assert fine[0].tolist() == base.tolist()
    assert fine[1].tolist() == (base + torch.tensor([4.0, 0, 4, 0])).tolist()
    assert fine[24].tolist() == (base + torch.tensor([0.0, 4, 0, 4])).tolist()
    half = 512 / math.sqrt(2) / 2, 512 * math.sqrt(2) / 2
    assert coarse[2].tolist() == [
        64.0 - round(half[0]),
        -round(half[1]),
        64.0 + round(half[0]),
        round(half[1]),
    ]


@pytest.mark.parametrize('head_type, first', [(RPNHead, 1.0), (LogitRankedRPNHead, 2.0)])
def test_ranking_tells_large_logits_apart(head_type, first):
    """Two anchors with the logits 20 and 30 on one place: the sigmoid of
    both is 1 in float32, and the one listed first wins."""
    head = head_type(
        in_channels=1,
        anchor_generator=dict(type='AnchorGenerator', strides=[8], ratios=[1.0], scales=[8]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
    )
    logits = torch.tensor([20.0, 30.0]).reshape(1, 1, 2)
    boxes = torch.tensor([[0.0, 0.0, 50.0, 51.0], [0.0, 0.0, 50.0, 52.0]])
    (result,) = [
        head._predict_by_feat_single(
            [logits],
            [torch.zeros(4, 1, 2)],
            [],
            [boxes],
            dict(img_shape=(99, 99)),
            ConfigDict(
                nms_pre=10, max_per_img=5, min_bbox_size=0, nms=dict(type='nms', iou_threshold=0.7)
            ),
        )
    ]
    assert result.bboxes[:, 3].tolist() == [50.0 + first]


@pytest.mark.parametrize(
    'more', [{}, dict(score_threshold=0.5), dict(type='soft_nms'), dict(max_num=90)]
)
def test_suppression_by_level_keeps_what_mmdet_keeps(more):
    """Boxes of four levels over each other: the same, in the same order, by
    what the user has set."""
    torch.manual_seed(0)
    corners = 60 * torch.rand(300, 2)
    proposals = InstanceData(
        bboxes=torch.cat([corners, corners + 30 + 9 * torch.rand(300, 2)], 1),
        scores=torch.rand(300),
        level_ids=torch.arange(300) % 4,
    )
    cfg = ConfigDict(
        max_per_img=80, min_bbox_size=0, nms=dict(dict(type='nms', iou_threshold=0.7), **more)
    )
    found, expected = (
        head_type._bbox_post_process(object.__new__(head_type), proposals[:], cfg)
        for head_type in (SyncAvgFactorRPNHead, RPNHead)
    )
    assert len(found) == 80
    for name in ('bboxes', 'scores', 'labels'):
        assert torch.equal(found[name], expected[name])


def test_boxes_of_which_nothing_is_left_are_dropped():
    boxes = torch.tensor([[0.0, 0.0, 5.0, 5.0], [8.0, 0.0, 8.0, 5.0], [0.0, 3.0, 5.0, 3.005]])
    result = InstanceData(bboxes=boxes, scores=torch.ones(3))
    assert len(_drop_small(result, 0)) == 2
    assert _drop_small(result, 0.01).bboxes.tolist() == [[0.0, 0.0, 5.0, 5.0]]


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


def test_resizing_in_float_by_hand():
    """A row of 2 pixels to 4: a quarter of a pixel beside the centres, and
    the border's value outside of them."""
    image = np.array([[[0] * 3, [1] * 3]] * 2, np.uint8)
    results = FloatResize(scale=(4, 4))(dict(img=image))
    assert results['img'].dtype == np.float32
    np.testing.assert_allclose(results['img'][..., 1], [[0, 0.25, 0.75, 1]] * 4, atol=1e-6)
