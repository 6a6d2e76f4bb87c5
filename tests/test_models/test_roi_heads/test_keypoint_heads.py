import pytest
import torch

from tests.test_models.heads import offset_head, softmax_head


def test_loss_by_hand():
    """Eq. 9 on maps of 3 x 3 cells that are 0.5 everywhere.

    So narrow a Gaussian is 1 in one cell and 0 elsewhere: a joint's map
    costs 9 * 0.25, whether the joint is shown or not. Two joints: 4.5 for
    each of two RoIs; the third RoI has no labelled joint. Mean 4.5.
    """
    head = offset_head(size=3, sigma=0.05, loss_weight=2.0)
    head.forward = lambda feats: (
        torch.zeros(len(feats), 2, 3, 3),
        torch.zeros(len(feats), 4, 3, 3),
    )
    joints = torch.full((3, 2, 2), 1.5)
    visible = torch.tensor([[2.0, 0.0], [1.0, 2.0], [0.0, 0.0]])
    rois = torch.tensor([[0.0, 0.0, 3.0, 3.0]]).expand(3, 4)
    loss = head.loss(torch.zeros(3, 4, 14, 14), joints, visible, rois, 1)
    assert loss['loss_keypoint'].item() == pytest.approx(2 * 4.5)


@pytest.mark.parametrize('supervise_occluded, expected', [(True, 0.0), (False, 1.0)])
def test_covered_joint_is_a_gaussian_or_the_zero_map(supervise_occluded, expected):
    """The prediction is the covered joint's one-hot map and the visible
    one's: perfect, or wrong by one in one cell."""
    head = offset_head(size=3, sigma=0.05, supervise_occluded=supervise_occluded)
    logits = torch.full((1, 2, 3, 3), -50.0)
    logits[:, :, 1, 1] = 50
    head.forward = lambda feats: (logits, None)
    loss = head.loss(
        torch.zeros(1, 4, 14, 14),
        torch.full((1, 2, 2), 1.5),
        torch.tensor([[2.0, 1.0]]),
        torch.tensor([[0.0, 0.0, 3.0, 3.0]]),
        1,
    )
    assert loss['loss_keypoint'].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    'build, num_rois, visible',
    [
        (offset_head, 0, 0.0),
        (offset_head, 2, 0.0),
        (softmax_head, 0, 0.0),
        (softmax_head, 2, 0.0),
        (softmax_head, 2, 2.0),  # labelled, but outside the RoIs
    ],
)
def test_no_joint_is_a_zero_that_reaches_every_parameter(build, num_rois, visible):
    head = build(conv_cfg=dict(type='RefinedConv2d'))
    feats = torch.randn(num_rois, 4, 14, 14, requires_grad=True)
    loss = head.loss(
        feats,
        torch.full((num_rois, 2, 2), 99.0),
        torch.full((num_rois, 2), visible),
        torch.tensor([[0.0, 0.0, 9.0, 9.0]]).expand(num_rois, 4),
        1,
    )
    loss['loss_keypoint'].backward()
    assert loss['loss_keypoint'] == 0
    assert feats.grad is not None
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() == 0, name


def test_shapes_and_channels():
    head = offset_head(num_keypoints=5, size=56)
    logits, offsets = head(torch.randn(3, 4, 14, 14))
    assert logits.shape == (3, 5, 56, 56)
    assert offsets.shape == (3, 10, 56, 56)
    unrefined = offset_head(num_keypoints=5, refine=False)
    assert unrefined(torch.randn(3, 4, 14, 14))[1] is None
    points, scores = head.predict(torch.zeros(0, 4, 14, 14), torch.zeros(0, 4))
    assert points.shape == (0, 5, 2) and scores.shape == (0, 5)


@pytest.mark.parametrize('build', [offset_head, softmax_head])
@pytest.mark.parametrize(
    'conv_cfg', [dict(type='RefinedConv2d'), dict(type='RefinedConv2d', modulated=True)]
)
def test_every_refinement_starts_as_the_unrefined_head(build, conv_cfg):
    plain = build(refine=False)
    refined = build(conv_cfg=conv_cfg)
    missing, unexpected = refined.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert missing and all('offset' in name for name in missing)
    feats = torch.randn(3, 4, 14, 14)
    torch.testing.assert_close(refined.refined_heatmaps(feats), plain.refined_heatmaps(feats))


def test_starting_probability_is_small():
    heatmaps = offset_head(init_probability=0.01).refined_heatmaps(torch.randn(2, 4, 14, 14))
    assert 0.008 < heatmaps.min() and heatmaps.max() < 0.012


def test_offsets_learn_to_point_at_the_joint():
    """With the heatmap fixed one cell beside the joint, only the offsets
    can lower the loss: they must learn to point back."""
    head = offset_head(num_keypoints=1, size=14)
    base = torch.full((1, 1, 14, 14), -8.0)
    cells = torch.arange(14.0)
    peak = torch.exp(-((cells - 7) ** 2) / 2)
    base[0, 0] += 16 * peak[:, None] * torch.exp(-((cells - 8) ** 2) / 2)
    offsets = torch.zeros(1, 2, 14, 14, requires_grad=True)
    head.forward = lambda feats: (base, offsets)
    optimizer = torch.optim.Adam([offsets], lr=0.1)
    for _ in range(50):
        loss = head.loss(
            torch.zeros(1, 4, 14, 14),
            torch.tensor([[[7.5, 7.5]]]),
            torch.tensor([[2.0]]),
            torch.tensor([[0.0, 0.0, 14.0, 14.0]]),
            1,
        )
        optimizer.zero_grad()
        loss['loss_keypoint'].backward()
        optimizer.step()
    assert offsets[0, 0, 7, 7] > 0.3  # reads further right
    assert offsets[0, 1, 7, 7].abs() < 0.1
    points, _ = head.predict(torch.zeros(1, 4, 14, 14), torch.tensor([[0.0, 0.0, 14.0, 14.0]]))
    assert (points - 7.5).abs().max() < 0.3
