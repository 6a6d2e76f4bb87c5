"""RPN heads: ranking by logits, NMS on the CPU."""

import pytest
import torch
from mmdet.models.dense_heads import RPNHead
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from multitask_refine.models import LogitRankedRPNHead, SyncAvgFactorRPNHead


def _head(head_type, scale, **kwargs):
    """Build a head with one anchor of 8 * scale pixels in each cell."""
    generator = dict(type='AnchorGenerator', strides=[8], ratios=[1.0], scales=[scale])
    return head_type(
        in_channels=1,
        anchor_generator=generator,
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        **kwargs,
    )


@pytest.mark.parametrize('head_type, first', [(RPNHead, 1.0), (LogitRankedRPNHead, 2.0)])
def test_large_logits_keep_their_rank(head_type, first):
    """Two anchors with logits 20 and 30 at the same place: in float32 both sigmoids are 1, and
    the first of the anchors is kept."""
    head = _head(head_type, scale=8)
    logits = torch.tensor([20.0, 30.0]).reshape(1, 1, 2)
    boxes = torch.tensor([[0.0, 0.0, 50.0, 51.0], [0.0, 0.0, 50.0, 52.0]])
    (result,) = [
        head._predict_by_feat_single(
            [logits],
            [torch.zeros(4, 1, 2)],
            [],
            [boxes],
            {'img_shape': (99, 99)},
            ConfigDict(
                nms_pre=10,
                max_per_img=5,
                min_bbox_size=0,
                nms={'type': 'nms', 'iou_threshold': 0.7},
            ),
        )
    ]
    assert result.bboxes[:, 3].tolist() == [50.0 + first]


@pytest.mark.parametrize(
    'more', [{}, {'score_threshold': 0.5}, {'type': 'soft_nms'}, {'max_num': 90}]
)
def test_nms_by_level_equals_mmdet(more):
    """Overlapping boxes of four levels: the same boxes in the same order for all settings."""
    torch.manual_seed(0)
    corners = 60 * torch.rand(300, 2)
    proposals = InstanceData(
        bboxes=torch.cat([corners, corners + 30 + 9 * torch.rand(300, 2)], 1),
        scores=torch.rand(300),
        level_ids=torch.arange(300) % 4,
    )
    cfg = ConfigDict(
        max_per_img=80, min_bbox_size=0, nms=dict({'type': 'nms', 'iou_threshold': 0.7}, **more)
    )
    found, expected = (
        head_type._bbox_post_process(object.__new__(head_type), proposals[:], cfg)
        for head_type in (SyncAvgFactorRPNHead, RPNHead)
    )
    assert len(found) == 80
    for name in ('bboxes', 'scores', 'labels'):
        assert torch.equal(found[name], expected[name])


def test_without_fast_cpu_ops_nms_is_that_of_mmdet(monkeypatch):
    used = []
    monkeypatch.setattr(
        RPNHead, '_bbox_post_process', lambda self, results, cfg, **kwargs: used.append(cfg)
    )
    head = object.__new__(SyncAvgFactorRPNHead)
    results = InstanceData(scores=torch.zeros(1))
    cfg = ConfigDict(nms={'type': 'nms', 'iou_threshold': 0.7})
    head._bbox_post_process(results, cfg)
    head.__dict__['fast_cpu_ops'] = False
    head._bbox_post_process(results, cfg)
    assert callable(used[0].nms.type) and used[0].nms.split_thr == 0
    assert used[1] is cfg


@pytest.mark.parametrize(
    'head_type, expected', [(SyncAvgFactorRPNHead, 5), (LogitRankedRPNHead, 4)]
)
def test_image_without_positive_anchors_counts_its_sampled_ones(head_type, expected):
    """Four negatives are sampled; mmdet counts a positive one that there is not."""
    sampler = {'num': 4, 'pos_fraction': 0.5, 'add_gt_as_proposals': False}
    head = _head(
        head_type,
        scale=1,
        train_cfg=ConfigDict(
            assigner={'type': 'MaxIoUAssigner', 'pos_iou_thr': 0.7, 'neg_iou_thr': 0.3},
            sampler={'type': 'RandomSampler', **sampler},
            allowed_border=-1,
            pos_weight=-1,
        ),
    )
    meta = {'img_shape': (32, 32), 'pad_shape': (32, 32)}
    anchors, flags = head.get_anchors([(4, 4)], [meta], device='cpu')
    nobody = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    *_, avg_factor = head.get_targets(anchors, flags, [nobody], [meta], [None])
    assert avg_factor == expected


def test_losses_of_a_float64_network_are_float64():
    head = _head(LogitRankedRPNHead, scale=1)
    x = torch.zeros(1, 1, 4, 4)
    assert {y.dtype for y in head.double().forward_single(x.double())} == {torch.float64}
    assert {y.dtype for y in head.bfloat16().forward_single(x.bfloat16())} == {torch.float32}
