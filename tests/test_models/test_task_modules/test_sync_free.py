"""The results are mmdet's, to the bit."""

import pytest
import torch
from mmdet.models.task_modules.assigners import BboxOverlaps2D, MaxIoUAssigner
from mmdet.models.task_modules.samplers import RandomSampler
from mmengine.structures import InstanceData

from multitask_refine.models import (
    FewSyncRandomSampler,
    SyncFreeBboxOverlaps2D,
    SyncFreeMaxIoUAssigner,
)

FIELDS = ('gt_inds', 'max_overlaps', 'labels')


def _draw(seed, num_boxes, num_priors=300):
    generator = torch.Generator().manual_seed(seed)
    corner, extent = (torch.rand(num_boxes + num_priors, 2, generator=generator) for _ in 'ab')
    boxes = torch.cat([corner, corner + extent], 1).mul(40).round()  # ties, and boxes of no size
    gts = InstanceData(
        bboxes=boxes[:num_boxes], labels=torch.randint(0, 3, (num_boxes,), generator=generator)
    )
    return InstanceData(priors=boxes[num_boxes:]), gts


@pytest.mark.parametrize('mode', ['iou', 'iof'])
@pytest.mark.parametrize('num_boxes', [0, 1, 7])
def test_overlaps(mode, num_boxes):
    priors, gts = _draw(0, num_boxes)
    boxes = (gts.bboxes, priors.priors)
    found = SyncFreeBboxOverlaps2D()(*boxes, mode)
    assert torch.equal(found, BboxOverlaps2D()(*boxes, mode))


@pytest.mark.parametrize(
    'options',
    [
        dict(pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=False),
        dict(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3, ignore_iof_thr=0.5),
        dict(pos_iou_thr=0.6, neg_iou_thr=(0.1, 0.4), min_pos_iou=0.0),
        dict(pos_iou_thr=0.9, neg_iou_thr=0.2, min_pos_iou=0.2, gt_max_assign_all=False),
    ],
)
@pytest.mark.parametrize('num_boxes', [0, 1, 12])
def test_assignment(options, num_boxes):
    priors, gts = _draw(1, num_boxes)
    ignored = InstanceData(bboxes=priors.priors[:2] + 1)
    expected, found = (
        kind(**options).assign(priors, gts, ignored)
        for kind in (MaxIoUAssigner, SyncFreeMaxIoUAssigner)
    )
    for field in FIELDS:
        assert torch.equal(getattr(found, field), getattr(expected, field)), field
    if num_boxes > 1:
        assert set(found.gt_inds.sign().tolist()) >= {0, 1}


@pytest.mark.parametrize(
    'options',
    [
        dict(num=256, pos_fraction=0.5, add_gt_as_proposals=False),  # fewer than asked for
        dict(num=16, pos_fraction=0.25),
        dict(num=64, pos_fraction=0.25, neg_pos_ub=2),
    ],
)
@pytest.mark.parametrize('num_boxes', [0, 12])
def test_sampling(options, num_boxes):
    results = []
    for kind in (RandomSampler, FewSyncRandomSampler):
        priors, gts = _draw(2, num_boxes)
        assigned = MaxIoUAssigner(0.3, 0.3, 0.3).assign(priors, gts)
        torch.manual_seed(3)
        results.append(kind(**options).sample(assigned, priors, gts))
    expected, found = (vars(each) for each in results)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        same = torch.equal if isinstance(value, torch.Tensor) else lambda a, b: a == b
        assert same(found[name], value), name
