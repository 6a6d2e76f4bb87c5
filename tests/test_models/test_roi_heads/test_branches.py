"""Branches: targets and losses by hand, the identity at the start, training and prediction."""

import math

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData

from multitask_refine.engine.consistency import check_consistency
from multitask_refine.models import (
    KeypointScoreBranch,
    KeypointVisibilityBranch,
    MaskGate,
    MaskScoreBranch,
)
from multitask_refine.utils.errors import ConfigError
from tests.conftest import CONFIGS
from tests.shrink import shrink, shrink_network

HEATMAP = {'type': 'RoIHeatmapCodec', 'heatmap_size': 8}
SOFTMAX = {'type': 'RoISoftmaxCodec', 'heatmap_size': 8}
SAMPLE = CONFIGS / 'sample'
REGULAR = 'multitask-rcnn_r26-w24_fpn-ms_{}_1xb4-base-500_sample-256.py'
VARIANTS = ['regular-visibility', 'regular-score', 'regular-mask-gate']


def visibility_branch(codec=HEATMAP):
    torch.manual_seed(0)
    branch = KeypointVisibilityBranch(
        num_keypoints=2, codec=codec, in_channels=4, num_convs=1, conv_channels=6
    )
    branch.init_weights()
    return branch


def build(variant, **options):
    """A narrow network of a sample config."""
    cfg = Config.fromfile(SAMPLE / REGULAR.format(variant))
    cfg.merge_from_dict(options)
    shrink_network(cfg.model)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def sampling(*indices):
    return [InstanceData(pos_assigned_gt_inds=torch.tensor(each).long()) for each in indices]


def test_visibility_starts_without_an_opinion():
    branch = visibility_branch()
    logits = branch(torch.randn(3, 4, 4, 4), torch.rand(3, 2, 8, 8))
    assert logits.shape == (3, 2, 3) and not logits.any()
    torch.testing.assert_close(branch.activate(logits), torch.full((3, 2, 3), 1 / 3))


def test_visibility_is_read_where_the_keypoint_is():
    """The heatmap's 2 x 2 cells of one cell of the feature: its logits are the keypoint's."""
    branch = visibility_branch()
    torch.nn.init.normal_(branch.pred.weight)
    feats = torch.randn(1, 6, 4, 4)
    maps = torch.zeros(1, 2, 4, 4)
    maps[0, 0, 1, 2] = 0.3
    maps[0, 1, :2, 0] = 0.1
    cells = branch.pred(feats)[0].unflatten(0, (2, 3))  # (K, 3, P, P)
    expected = torch.stack([cells[0, :, 1, 2], cells[1, :, :2, 0].mean(-1)])
    torch.testing.assert_close(branch.predict_logits(feats, maps)[0], expected)


@pytest.mark.parametrize('codec', [HEATMAP, SOFTMAX], ids=['heatmap', 'softmax'])
def test_maps_are_probabilities_and_detached(codec):
    branch = visibility_branch(codec)
    torch.nn.init.normal_(branch.pred.weight)
    preds = torch.rand(1, 2, 8, 8, requires_grad=True)
    found = branch.to_probabilities(preds)
    expected = preds if codec is HEATMAP else preds.exp() / preds.exp().sum((2, 3), keepdim=True)
    torch.testing.assert_close(found, expected)
    feats = torch.randn(1, 4, 4, 4, requires_grad=True)
    branch(feats, preds).square().sum().backward()
    assert preds.grad is None and feats.grad.abs().sum() > 0


def test_maps_of_any_size():
    branch = visibility_branch()
    assert branch(torch.randn(2, 4, 5, 5), torch.rand(2, 2, 8, 8)).shape == (2, 2, 3)


def test_visibility_loss_by_hand():
    """Two images. Keypoints that a category lacks do not count: -log of the probabilities of
    visible, absent and occluded, averaged over three."""
    branch = visibility_branch()
    branch.loss_weight = 0.5
    gts = [
        InstanceData(keypoints_visible=torch.tensor([[2, 0], [1, 1]])),
        InstanceData(keypoints_visible=torch.tensor([[1, -1]])),
    ]
    logits = torch.log(
        torch.tensor([[[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]], [[0.2, 0.6, 0.2], [0.9, 0.05, 0.05]]])
    )
    losses = branch.loss_and_target(logits, None, None, sampling([0], [0]), gts, None)
    expected = -0.5 * (math.log(0.7) + math.log(0.5) + math.log(0.6)) / 3
    assert losses['loss_visibility'].item() == pytest.approx(expected)


def score_branch(**options):
    torch.manual_seed(0)
    branch = KeypointScoreBranch(
        num_keypoints=3,
        codec=HEATMAP,
        sigmas=[0.05, 0.05, 0.1],
        in_channels=4,
        num_convs=1,
        conv_channels=6,
        **options,
    )
    branch.init_weights()
    return branch


def test_scores_start_equal():
    """So a ranking by them is that by the box score."""
    branch = score_branch()
    logits = branch(torch.randn(2, 4, 4, 4), torch.rand(2, 3, 8, 8))
    assert branch.activate(logits).tolist() == [0.5, 0.5]


@pytest.mark.parametrize('area_from', ['mask', 'box', 'empty mask'])
def test_oks_target_by_hand(area_from):
    """A box of 80 x 80 pixels on 8 x 8 cells. Of a mask of 4000 pixels, or 0.625 of the box, the
    first keypoint is 10 pixels off and the second 30; the third is not labeled. Variances of OKS
    are 4000 * (2 * 0.05)^2 = 40."""
    branch = score_branch(area_per_box=0.625)
    rois = torch.tensor([[10.0, 20.0, 90.0, 100.0]])
    heatmaps = torch.zeros(1, 3, 8, 8)
    for keypoint, (row, column) in enumerate([(2, 2), (4, 5), (7, 7)]):
        heatmaps[0, keypoint, row, column] = 0.9
    # centers of the cells (x, y) are at 35, 45; 65, 65; 85, 95
    gt = InstanceData(
        bboxes=torch.tensor([[0.0, 0.0, 5.0, 5.0], [10.0, 20.0, 90.0, 100.0]]),
        keypoints=torch.tensor([[[0.0, 0.0]] * 3, [[35.0, 55.0], [35.0, 65.0], [0.0, 0.0]]]),
        keypoints_visible=torch.tensor([[2, 2, 2], [2, 1, 0]]),
    )
    masks = np.zeros((2, 120, 120), np.uint8)
    masks[1, 20:70, 10:90] = area_from == 'mask'
    if area_from != 'box':
        gt.masks = BitmapMasks(masks, 120, 120)
    sample = InstanceData(pos_priors=rois, pos_assigned_gt_inds=torch.tensor([1]))
    found = branch.get_targets(heatmaps, None, [sample], [gt])
    expected = (math.exp(-100 / 80) + math.exp(-900 / 80)) / 2
    assert found.tolist() == pytest.approx([expected], rel=1e-4)


def test_mask_iou_target_by_hand():
    """A RoI of 8 x 8 pixels on 4 x 4 cells covers the left half of a mask of 8 x 16 pixels: 16 of
    its 32 cells. The head finds 12 of them and 2 wrong ones elsewhere, in another RoI all."""
    branch = MaskScoreBranch(in_channels=4, num_convs=1, conv_channels=6)
    masks = np.zeros((1, 20, 30), np.uint8)
    masks[0, 4:12, 4:20] = 1
    gt = InstanceData(masks=BitmapMasks(masks, 20, 30))
    rois = torch.tensor([[4.0, 4.0, 12.0, 12.0], [0.0, 0.0, 24.0, 16.0]])
    targets = torch.zeros(2, 4, 4)
    targets[0] = 1
    targets[1, 1:3, 1:3] = 1  # a cell is 6 x 4 pixels: the mask has 128 / 24 cells
    preds = torch.full((2, 1, 4, 4), -1.0)
    preds[0, 0, :3] = 2.0
    preds[1, 0, 1:3, 1:3] = 2.0
    preds[1, 0, 3, :2] = 2.0
    sample = InstanceData(pos_priors=rois, pos_assigned_gt_inds=torch.tensor([0, 0]))
    found = branch.get_targets(preds, targets, [sample], [gt])
    assert found.tolist() == pytest.approx([12 / 32, 4 / (6 + 128 / 24 - 4)])


def test_score_loss_is_lowest_at_the_quality():
    branch = score_branch()
    quality = torch.tensor([0.2, 0.7])
    branch.get_targets = lambda *args: quality
    values = {}
    for shift in (-0.1, 0.0, 0.1):
        logits = (quality + shift).logit()
        loss = branch.loss_and_target(logits, quality, None, [], [], None)['loss_pose_score']
        values[shift] = loss.item()
    expected = -sum(q * math.log(q) + (1 - q) * math.log(1 - q) for q in (0.2, 0.7)) / 2
    assert values[0.0] == pytest.approx(expected, rel=1e-5)
    assert min(values.values()) == values[0.0]


def test_wrong_number_of_sigmas():
    with pytest.raises(ConfigError, match='sigmas: expected 2, one for each keypoint, found 1'):
        KeypointScoreBranch(num_keypoints=2, codec=HEATMAP, sigmas=[0.1])


def test_mask_gate_by_hand():
    """Masks are averaged to the cells of the feature: 0.75, and 0 where their logits are low."""
    gate = MaskGate(in_channels=2)
    gate.weight.data[:] = torch.tensor([0.0, 2.0])
    masks = torch.full((1, 1, 4, 4), math.log(3))  # the sigmoid of which is 0.75
    masks[..., 2:] = -50.0
    feats = torch.full((1, 2, 2, 2), 10.0)
    found = gate(feats, masks)
    assert found[0, 0].tolist() == [[10.0, 10.0]] * 2
    torch.testing.assert_close(found[0, 1], torch.tensor([[25.0, 10.0]] * 2))


def test_mask_gate_sends_no_gradient_to_the_masks():
    gate = MaskGate(in_channels=2)
    masks = torch.randn(1, 1, 4, 4, requires_grad=True)
    gate(torch.ones(1, 2, 2, 2), masks).sum().backward()
    assert masks.grad is None and (gate.weight.grad != 0).all()


def test_mask_gate_changes_the_keypoints_only():
    """Once it has learned something."""
    plain, model = build('regular-mask-gate'), build('regular-mask-gate')
    model.roi_head.mask_gate.weight.data[:] = 3.0
    found, expected = (_predict(each) for each in (model, plain))
    for name in ('bboxes', 'scores', 'masks'):
        assert torch.equal(found[name], expected[name]), name
    assert not torch.equal(found.keypoint_scores, expected.keypoint_scores)


def test_without_rois_every_parameter_gets_a_zero_gradient():
    branch = visibility_branch()
    logits = branch(torch.zeros(0, 4, 4, 4), torch.zeros(0, 2, 8, 8))
    gts = [InstanceData(keypoints_visible=torch.zeros(0, 2))]
    losses = branch.loss_and_target(logits, None, None, sampling([]), gts, None)
    loss = sum(losses.values())
    loss.backward()
    assert loss.item() == 0
    assert all(each.grad is not None and not each.grad.any() for each in branch.parameters())


def test_flipped_probabilities_swap_left_and_right():
    values = torch.rand(2, 3, 3)
    flipped = visibility_branch().flip(values, [0, 2, 1])
    assert torch.equal(flipped, values[:, [0, 2, 1]])


@pytest.mark.parametrize('variant', VARIANTS)
def test_branches_change_no_prediction_at_the_start(variant):
    """With the weights of the network without them."""
    plain, model = build('regular'), build(variant)
    missing = model.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert missing.missing_keys and all('roi_head.' in key for key in missing.missing_keys)
    found, expected = (_predict(each) for each in (model, plain))
    assert len(expected) > 0
    for name, values in expected.items():
        assert torch.equal(found[name], values), name


@torch.no_grad()
def _predict(model):
    torch.manual_seed(1)
    image = torch.rand(3, 64, 96) * 255
    meta = {'img_shape': (64, 96), 'ori_shape': (64, 96), 'scale_factor': (1.0, 1.0)}
    model.eval().roi_head.test_cfg.score_thr = 0.0
    batch = {'inputs': [image], 'data_samples': [DetDataSample(metainfo=meta)]}
    return model.test_step(batch)[0].pred_instances


@pytest.mark.parametrize('variant', VARIANTS)
def test_training_step_and_prediction(variant, scene):
    """All losses are finite, and all parameters of the branches learn from the second step on."""
    cfg = shrink(Config.fromfile(SAMPLE / REGULAR.format(variant)), scene)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    batch = model.data_preprocessor(pseudo_collate([dataset[0], dataset[0]]), True)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        loss, terms = model.parse_losses(model(**batch, mode='loss'))
        assert all(value.isfinite() for value in terms.values())
        loss.backward()
        optimizer.step()
    for part in filter(None, (model.roi_head.branches, model.roi_head.mask_gate)):
        for name, parameter in part.named_parameters():
            assert parameter.grad.abs().sum() > 0, name
    found = _predict(model)
    count = len(found)
    assert count > 0
    if 'visibility' in variant:
        probs = found.keypoints_visible_probs
        torch.testing.assert_close(probs.sum(-1), torch.ones(count, 17))
        assert torch.equal(found.keypoints_visible, probs.argmax(-1))
    elif 'score' in variant:
        for scores in (found.pose_scores, found.mask_scores):
            assert scores.shape == (count,) and ((scores >= 0) & (scores <= 1)).all()


def test_sigmas_of_other_data_are_refused():
    meta = {'classes': ('person',), 'num_keypoints': 17, 'sigmas': [0.1] * 17}
    with pytest.raises(ConfigError, match='branches.pose_score.sigmas: expected those of the me'):
        check_consistency(build('regular-score'), {'test_dataloader.dataset': meta})


def test_augmented_tests_average_the_branches():
    """Two views that are not flipped and the same give what one gives."""
    cfg = Config.fromfile(SAMPLE / REGULAR.format('regular-visibility'))
    model = build('regular-visibility')
    torch.nn.init.normal_(model.roi_head.branches.visibility.pred.weight)
    expected = _predict(model)
    augmented = MODELS.build(dict(cfg.tta_model, module=model)).eval()
    torch.manual_seed(1)
    image = torch.rand(3, 64, 96) * 255
    meta = {'img_shape': (64, 96), 'ori_shape': (64, 96), 'scale_factor': (1.0, 1.0)}
    meta.update(flip=False, flip_direction=None, flip_indices=list(range(17)))
    views = [[DetDataSample(metainfo=meta)] for _ in range(2)]
    with torch.no_grad():
        batch = {'inputs': [[image], [image]], 'data_samples': views}
        found = augmented.test_step(batch)[0].pred_instances
    assert len(found) > 0
    # The proposals of both views are merged by another NMS: the best boxes are the same.
    torch.testing.assert_close(found.bboxes[0], expected.bboxes[0])
    torch.testing.assert_close(
        found.keypoints_visible_probs[0], expected.keypoints_visible_probs[0]
    )


@pytest.mark.parametrize(
    'options, message',
    [
        (
            {'model.roi_head.keypoint_head': None},
            'branches.visibility: expected a keypoint_head, whose output it reads, found none',
        ),
        (
            {'model.roi_head.branches.visibility.type': 'PersonMaskHead'},
            "branches.visibility.type: expected a branch such as .*, found 'PersonMaskHead'",
        ),
        (
            {'model.roi_head.branches.other': {'in_channels': 64}},
            'branches.other.type: expected a branch such as .*, found None',
        ),
        (
            {'model.roi_head.mask_gate': {'type': 'MaskGate'}, 'model.roi_head.mask_head': None},
            'roi_head.mask_gate: expected a mask_head, whose output it reads, found none',
        ),
    ],
)
def test_branches_without_their_head_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build('regular-visibility', **options)
