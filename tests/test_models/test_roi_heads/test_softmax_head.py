import math

import pytest
import torch
import torch.nn.functional as F

from tests.test_models.heads import softmax_head


def _two_rois():
    """Three of four joints count: one is outside its RoI."""
    joints = torch.tensor([[[0.5, 0.5], [1.5, 2.5]], [[1.5, 1.5], [9.0, 1.0]]])
    visible = torch.tensor([[2.0, 1.0], [2.0, 2.0]])
    return joints, visible, torch.tensor([[0.0, 0.0, 3.0, 3.0]]).expand(2, 4)


@pytest.mark.parametrize('loss_normalizer, divisor', [(None, 3), (8, 16)])
def test_loss_by_hand(loss_normalizer, divisor):
    """9 equal cells: each joint that counts costs log 9. Divided by their
    number, or by a number for each of two images."""
    head = softmax_head(size=3, loss_weight=2.0, loss_normalizer=loss_normalizer)
    head.forward = lambda feats: (torch.zeros(len(feats), 2, 3, 3), None)
    loss = head.loss(torch.zeros(2, 4, 14, 14), *_two_rois(), 2)
    assert loss['loss_keypoint'].item() == pytest.approx(2 * 3 * math.log(9) / divisor)


def test_loss_asks_for_the_joints_own_cell():
    head = softmax_head(size=3)
    logits = torch.full((2, 2, 3, 3), -50.0)
    logits[0, 0, 0, 0] = logits[0, 1, 2, 1] = logits[1, 0, 1, 1] = 50.0
    head.forward = lambda feats: (logits[: len(feats)], None)
    loss = head.loss(torch.zeros(2, 4, 14, 14), *_two_rois(), 1)
    assert loss['loss_keypoint'].item() == pytest.approx(0, abs=1e-6)


def test_outside_the_map_is_as_unlikely_as_the_least_likely_cell():
    head = softmax_head(num_keypoints=1, size=3)
    logits = torch.tensor([[-4.0, -1.0, 2.0], [0.0, 1.0, 3.0], [5.0, -2.0, 4.0]])
    offsets = torch.zeros(1, 2, 3, 3)
    offsets[0, 0, 0, 0] = -1  # beyond the left border
    offsets[0, 0, 1, 1] = 0.25  # between 1 and 3
    offsets[0, 1, 2, 2] = 0.5  # half way to beyond the lower border
    head.forward = lambda feats: (logits[None, None], offsets)
    refined = head.refined_heatmaps(torch.zeros(1, 4, 14, 14))[0, 0]
    expected = logits.clone()
    expected[0, 0] = -4
    expected[1, 1] = 1.5
    expected[2, 2] = 0
    torch.testing.assert_close(refined, expected)


def test_prediction_is_the_codecs_of_the_refined_maps():
    head = softmax_head(num_keypoints=1, size=3, refine=False)
    logits = torch.zeros(1, 1, 3, 3)
    logits[0, 0, 2, 0] = 4.0
    head.forward = lambda feats: (logits, None)
    points, scores = head.predict(
        torch.zeros(1, 4, 14, 14), torch.tensor([[10.0, 10.0, 13.0, 13.0]])
    )
    assert points[0, 0].tolist() == [10.5, 12.5]
    expected = F.softmax(logits.flatten(), 0).max()
    assert scores.item() == pytest.approx(expected.item())
