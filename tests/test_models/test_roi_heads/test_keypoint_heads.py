"""Keypoint heads: losses by hand, initialization, shapes."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData

from tests.test_models.heads import keypoint_loss, offset_head, softmax_head


def test_offset_loss_by_hand():
    """Eq. 9 on maps of 3 x 3 cells that are 0.5 everywhere.

    So narrow a Gaussian is 1 in one cell and 0 elsewhere: the map of a keypoint costs 9 * 0.25,
    whether the keypoint is visible or not. Two keypoints: 4.5 for each RoI.
    """
    head = offset_head(size=3, sigma=0.05, loss_weight=2.0)
    head.forward = lambda feats: (
        torch.zeros(len(feats), 2, 3, 3),
        torch.zeros(len(feats), 4, 3, 3),
    )
    keypoints = torch.full((2, 2, 2), 1.5)
    visible = torch.tensor([[2.0, 0.0], [1.0, 2.0]])
    rois = torch.tensor([[0.0, 0.0, 3.0, 3.0]]).expand(2, 4)
    loss = keypoint_loss(head, torch.zeros(2, 4, 14, 14), keypoints, visible, rois)
    assert loss.item() == pytest.approx(2 * 4.5)


@pytest.mark.parametrize('supervise_occluded, expected', [(True, 0.0), (False, 1.0)])
def test_target_of_an_occluded_keypoint(supervise_occluded, expected):
    """A Gaussian or zeros. The prediction of the visible and the occluded keypoint is 1 in their
    cell and 0 elsewhere: no error, or an error of one in one cell."""
    head = offset_head(size=3, sigma=0.05, supervise_occluded=supervise_occluded)
    logits = torch.full((1, 2, 3, 3), -50.0)
    logits[:, :, 1, 1] = 50
    head.forward = lambda feats: (logits, None)
    loss = keypoint_loss(
        head,
        torch.zeros(1, 4, 14, 14),
        torch.full((1, 2, 2), 1.5),
        torch.tensor([[2.0, 1.0]]),
        torch.tensor([[0.0, 0.0, 3.0, 3.0]]),
    )
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def _two_rois():
    """Three of four keypoints are valid: one is outside its RoI."""
    keypoints = torch.tensor([[[0.5, 0.5], [1.5, 2.5]], [[1.5, 1.5], [9.0, 1.0]]])
    visible = torch.tensor([[2.0, 1.0], [2.0, 2.0]])
    return keypoints, visible, torch.tensor([[0.0, 0.0, 3.0, 3.0]]).expand(2, 4)


@pytest.mark.parametrize('loss_normalizer, divisor', [(None, 3), (8, 16)])
def test_softmax_loss_by_hand(loss_normalizer, divisor):
    """9 equal cells: each valid keypoint costs log 9. Divided by their number, or by a constant
    for each of two images."""
    head = softmax_head(size=3, loss_weight=2.0, loss_normalizer=loss_normalizer)
    head.forward = lambda feats: (torch.zeros(len(feats), 2, 3, 3), None)
    loss = keypoint_loss(head, torch.zeros(2, 4, 14, 14), *_two_rois(), num_images=2)
    assert loss.item() == pytest.approx(2 * 3 * math.log(9) / divisor)


def test_softmax_loss_is_zero_for_the_right_cells():
    head = softmax_head(size=3)
    logits = torch.full((2, 2, 3, 3), -50.0)
    logits[0, 0, 0, 0] = logits[0, 1, 2, 1] = logits[1, 0, 1, 1] = 50.0
    head.forward = lambda feats: (logits, None)
    loss = keypoint_loss(head, torch.zeros(2, 4, 14, 14), *_two_rois())
    assert loss.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    'build, num_rois',
    [(offset_head, 0), (softmax_head, 0), (softmax_head, 2)],  # the two are outside their RoI
)
def test_loss_without_valid_keypoints_is_zero_for_every_parameter(build, num_rois):
    head = build(conv_cfg={'type': 'RefinedConv2d'})
    feats = torch.randn(num_rois, 4, 14, 14, requires_grad=True)
    loss = keypoint_loss(
        head,
        feats,
        torch.full((num_rois, 2, 2), 99.0),
        torch.full((num_rois, 2), 2.0),
        torch.tensor([[0.0, 0.0, 9.0, 9.0]]).expand(num_rois, 4),
    )
    loss.backward()
    assert loss == 0
    assert feats.grad is not None
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() == 0, name


@pytest.mark.parametrize('build', [offset_head, softmax_head])
def test_batch_norm_does_not_see_an_empty_batch(build):
    head = build(norm_cfg={'type': 'BN'}).train()
    before = {name: value.clone() for name, value in head.state_dict().items()}
    head.refined_heatmaps(torch.zeros(0, 4, 14, 14))
    for name, value in head.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_shapes():
    head = offset_head(num_keypoints=5, size=56)
    logits, offsets = head(torch.randn(3, 4, 14, 14))
    assert logits.shape == (3, 5, 56, 56)
    assert offsets.shape == (3, 10, 56, 56)
    assert head.refined_heatmaps(torch.zeros(0, 4, 14, 14)).shape == (0, 5, 56, 56)
    unrefined = offset_head(num_keypoints=5, refine=False)
    assert unrefined(torch.randn(3, 4, 14, 14))[1] is None


@pytest.mark.parametrize('build', [offset_head, softmax_head])
@pytest.mark.parametrize('modulated', [False, True])
def test_refinement_is_initialized_to_the_identity(build, modulated):
    plain = build(refine=False)
    refined = build(conv_cfg={'type': 'RefinedConv2d', 'modulated': modulated})
    missing, unexpected = refined.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert missing and all('offset' in name for name in missing)
    feats = torch.randn(3, 4, 14, 14)
    torch.testing.assert_close(refined.refined_heatmaps(feats), plain.refined_heatmaps(feats))


def test_initial_probability():
    heatmaps = offset_head(init_probability=0.01).refined_heatmaps(torch.randn(2, 4, 14, 14))
    assert 0.008 < heatmaps.min() and heatmaps.max() < 0.012


def test_offsets_learn_to_point_at_the_keypoint():
    """With the heatmap's maximum one cell beside the keypoint, only the offsets can reduce the
    loss: they must learn to point to the maximum."""
    head = offset_head(num_keypoints=1, size=14)
    base = torch.full((1, 1, 14, 14), -8.0)
    cells = torch.arange(14.0)
    column, row = torch.exp(-((cells - 8) ** 2) / 2), torch.exp(-((cells - 7) ** 2) / 2)
    base[0, 0] += 16 * row[:, None] * column
    offsets = torch.zeros(1, 2, 14, 14, requires_grad=True)
    head.forward = lambda feats: (base, offsets)
    feats, roi = torch.zeros(1, 4, 14, 14), torch.tensor([[0.0, 0.0, 14.0, 14.0]])
    optimizer = torch.optim.Adam([offsets], lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        keypoint = torch.tensor([[[7.5, 7.5]]])
        keypoint_loss(head, feats, keypoint, torch.tensor([[2.0]]), roi).backward()
        optimizer.step()
    assert offsets[0, 0, 7, 7] > 0.3  # reads further right
    assert offsets[0, 1, 7, 7].abs() < 0.1
    keypoints, _ = head.codec.decode(head.refined_heatmaps(feats), roi)
    assert (keypoints - 7.5).abs().max() < 0.3


def test_softmax_refinement_reads_the_lowest_logit_outside_the_map():
    head = softmax_head(num_keypoints=1, size=3)
    logits = torch.tensor([[-4.0, -1.0, 2.0], [0.0, 1.0, 3.0], [5.0, -2.0, 4.0]])
    offsets = torch.zeros(1, 2, 3, 3)
    offsets[0, 0, 0, 0] = -1  # beyond the left border
    offsets[0, 0, 1, 1] = 0.25  # between 1 and 3
    offsets[0, 1, 2, 2] = 0.5  # half a cell beyond the lower border: between 4 and -4
    head.forward = lambda feats: (logits[None, None], offsets)
    refined = head.refined_heatmaps(torch.zeros(1, 4, 14, 14))[0, 0]
    expected = logits.clone()
    expected[0, 0] = -4
    expected[1, 1] = 1.5
    expected[2, 2] = 0
    torch.testing.assert_close(refined, expected)


@pytest.mark.parametrize('rescale, scale', [(False, 1), (True, 2)])
def test_prediction_decodes_each_images_heatmaps(rescale, scale):
    """The keypoint is in the lower left cell of a RoI of 3 x 3 pixels; the original image is twice
    as large. The second image has no detections."""
    head = softmax_head(num_keypoints=1, size=3, refine=False)
    logits = torch.zeros(1, 1, 3, 3)
    logits[0, 0, 2, 0] = 4.0
    results = [
        InstanceData(bboxes=torch.tensor([[10.0, 10.0, 13.0, 13.0]])),
        InstanceData(bboxes=torch.zeros(0, 4)),
    ]
    metas = [{'scale_factor': (0.5, 0.5)}] * 2
    one, empty = head.predict_by_feat((logits, logits[:0]), results, metas, None, rescale)
    assert one.keypoints[0, 0].tolist() == [10.5 * scale, 12.5 * scale]
    assert one.keypoint_scores.item() == pytest.approx(F.softmax(logits.flatten(), 0).max().item())
    assert one.bboxes.tolist() == [[10.0, 10.0, 13.0, 13.0]]
    assert empty.keypoints.shape == (0, 1, 2) and empty.keypoint_scores.shape == (0, 1)


def test_offsets_are_bounded():
    head = offset_head(max_offset=1.5)
    torch.nn.init.normal_(head.offset_pred.weight, std=10)
    offsets = head(torch.randn(3, 4, 14, 14))[1]
    assert 1.4 < offsets.abs().max() <= 1.5


def test_bound_does_not_change_the_gradient_at_zero_offsets():
    gradients = []
    for bound in (None, 2.0):
        head = offset_head(max_offset=bound)
        torch.manual_seed(1)
        head.refined_heatmaps(torch.rand(2, 4, 14, 14)).square().sum().backward()
        gradients.append(head.offset_pred.weight.grad)
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(*gradients)
