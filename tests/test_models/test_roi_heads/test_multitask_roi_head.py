"""The RoI head beside its heads: RoIs without labels, degenerate boxes."""

from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.structures import InstanceData

from multitask_refine.models import MultitaskRoIHead
from tests.conftest import SAMPLE_CONFIG
from tests.shrink import shrink_network


@pytest.mark.parametrize('min_bbox_size, kept', [(0, 2), (0.01, 1)])
def test_boxes_clipped_to_nothing_are_dropped(min_bbox_size, kept):
    boxes = torch.tensor([[0.0, 0.0, 5.0, 5.0], [0.0, 3.0, 5.0, 3.005], [8.0, 0.0, 8.0, 5.0]])
    result = InstanceData(bboxes=boxes, scores=torch.ones(3))
    head = SimpleNamespace(
        bbox_head=SimpleNamespace(predict_by_feat=lambda *args, **kwargs: [result]),
        test_cfg={'min_bbox_size': min_bbox_size},
    )
    (found,) = MultitaskRoIHead.predict_bbox(
        head, torch.zeros(3, 2), torch.zeros(3, 4), [boxes], [{}]
    )
    assert torch.equal(found.bboxes, boxes[:kept])


def test_keypoint_loss_is_that_of_rois_with_a_labeled_keypoint():
    """Of two images' RoIs the second and third have one; the others do not change the loss and
    get no gradient."""
    cfg = Config.fromfile(SAMPLE_CONFIG)
    shrink_network(cfg.model)
    torch.manual_seed(0)
    head = MODELS.build(cfg.model).roi_head.eval()
    boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0], [5.0, 5.0, 45.0, 45.0]])
    visible = torch.zeros(2, 17)
    visible[1, 3] = 2
    gts = [InstanceData(keypoints=torch.full((2, 17, 2), 20.0), keypoints_visible=visible)] * 2
    samples = [
        SimpleNamespace(
            pos_priors=boxes[each], pos_assigned_gt_inds=each, pos_gt_labels=torch.zeros_like(each)
        )
        for each in (torch.tensor([0, 1]), torch.tensor([1, 0]))
    ]
    channels = head.instance_roi_extractor.out_channels
    feats = torch.randn(4, channels, 14, 14, requires_grad=True)
    labeled = head._find_labeled(samples, gts)['keypoint']
    loss = head._forward_keypoint(feats, samples, gts, labeled)['loss_keypoint']
    (grad,) = torch.autograd.grad(loss, feats)
    assert (grad.flatten(1).abs().sum(1) > 0).tolist() == [False, True, True, False]
    chosen = [InstanceData(pos_priors=boxes[1:], pos_assigned_gt_inds=torch.tensor([1]))] * 2
    expected = head.keypoint_head.loss_and_target(
        head.keypoint_head.refined_heatmaps(feats[1:3]), chosen, gts, None
    )['loss_keypoint']['loss_keypoint']
    torch.testing.assert_close(loss, expected)
