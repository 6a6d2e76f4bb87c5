"""The whole network on tiny inputs: losses, predictions, edge cases."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.structures import InstanceData
from torch import nn

from multitask_refine.models import prepare_for_inference
from multitask_refine.ops import InferenceLinear, WinogradConv2d
from tests.config_kinds import KINDS_OF_NETWORK
from tests.conftest import CONFIGS
from tests.test_models.heads import keypoint_loss

HEIGHT, WIDTH = 64, 96


def _build(path, **options):
    """Build the network of a config with few proposals and without pretrained weights."""
    cfg = Config.fromfile(path)
    _shrink(cfg.model)
    cfg.merge_from_dict(
        {
            'model.train_cfg.rpn_proposal.max_per_img': 20,
            'model.train_cfg.rcnn.sampler.num': 8,
            'model.test_cfg.rpn.max_per_img': 8,
            'model.test_cfg.rcnn.max_per_img': 4,
            'model.test_cfg.rcnn.score_thr': 0.0,
            **options,
        }
    )
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def _shrink(model):
    """Reduce ResNet-50 to an eighth of its width, without pretrained weights."""
    heads = model.roi_head
    model.backbone.init_cfg = None
    if 'shared_head' in heads:  # its width is fixed
        heads.shared_head.init_cfg = None
    elif model.backbone.type == 'ResNet':
        model.backbone.base_channels = 8
        model.neck.in_channels = [n // 8 for n in model.neck.in_channels]
        if heads.keypoint_head:
            heads.keypoint_head.conv_channels = 32
        heads.bbox_head.fc_out_channels = 64


def _sample(num_people=2, labeled=True, crowds=0, num_keypoints=17):
    """Make an image of people side by side."""
    torch.manual_seed(num_people)
    left = torch.arange(num_people) * 40.0 + 4
    boxes = (
        torch.stack([left, left * 0 + 6, left + 32, left * 0 + 60], -1)
        if num_people
        else torch.zeros(0, 4)
    )
    keypoints = boxes[:, None, :2] + torch.rand(num_people, num_keypoints, 2) * (
        boxes[:, None, 2:] - boxes[:, None, :2]
    )
    masks = torch.zeros(num_people, HEIGHT, WIDTH, dtype=torch.uint8)
    for mask, box in zip(masks, boxes.int(), strict=True):
        mask[box[1] : box[3], box[0] : box[2]] = 1
    sample = DetDataSample(
        metainfo={
            'img_id': 1,
            'img_shape': (HEIGHT, WIDTH),
            'ori_shape': (2 * HEIGHT, 2 * WIDTH),
            'batch_input_shape': (HEIGHT, WIDTH),
            'pad_shape': (HEIGHT, WIDTH),
            'scale_factor': (0.5, 0.5),
        }
    )
    sample.gt_instances = InstanceData(
        bboxes=boxes,
        labels=torch.zeros(num_people, dtype=torch.long),
        masks=BitmapMasks(masks.numpy(), HEIGHT, WIDTH),
        keypoints=keypoints,
        keypoints_visible=torch.full((num_people, num_keypoints), 2.0 if labeled else 0.0),
    )
    sample.ignored_instances = InstanceData(
        bboxes=torch.tensor([[60.0, 0.0, 96.0, 64.0]])[:crowds]
    )
    return sample


def _images(count):
    torch.manual_seed(7)
    return 50 * torch.randn(count, 3, HEIGHT, WIDTH)


@pytest.mark.parametrize('path', KINDS_OF_NETWORK, ids=lambda path: path.stem)
def test_every_kind_of_network_trains_and_predicts(path):
    model = _build(path).train()
    samples = [_sample(2), _sample(1)]
    losses = model.loss(_images(2), samples)
    assert {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox'} <= set(losses)
    assert ('loss_mask' in losses) == model.with_mask
    assert ('loss_keypoint' in losses) == model.roi_head.with_keypoint
    total, _ = model.parse_losses(losses)
    assert torch.isfinite(total)
    total.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
    model.eval()
    with torch.no_grad():
        predicted = model.predict(_images(2), samples)[0].pred_instances
    count = len(predicted)
    assert count > 0
    if model.roi_head.with_keypoint:
        assert predicted.keypoints.shape == (count, 17, 2)
        assert predicted.keypoint_scores.shape == (count, 17)
    if model.with_mask:
        assert predicted.masks.shape == (count, 2 * HEIGHT, 2 * WIDTH)
        assert predicted.masks.dtype == torch.bool


@pytest.fixture(scope='module')
def model():
    (path,) = CONFIGS.glob('*/*r26-w16*-ms_rb-h_1xb8*_sample.py')
    return _build(path)


EDGES = {
    'people': lambda: [_sample(2), _sample(1)],
    'nobody': lambda: [_sample(0), _sample(0)],
    'nobody_in_one_image': lambda: [_sample(0), _sample(2)],
    'no_labeled_keypoint': lambda: [_sample(2, labeled=False), _sample(1, False)],
    'crowd_only': lambda: [_sample(0, crowds=1), _sample(0)],
    'crowd_and_people': lambda: [_sample(2, crowds=1), _sample(1)],
}


@pytest.mark.parametrize('edge', EDGES)
def test_edge_cases_have_all_losses_and_gradients(model, edge):
    model.train().zero_grad()
    expected = set(model.loss(_images(2), EDGES['people']()))
    losses = model.loss(_images(2), EDGES[edge]())
    assert set(losses) == expected
    total, _ = model.parse_losses(losses)
    assert torch.isfinite(total)
    model.zero_grad(set_to_none=True)
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_inputs_do_not_change(model):
    samples = [_sample(2, crowds=1), _sample(1)]
    before = copy.deepcopy(samples)
    feats = model.extract_feat(_images(2))
    proposals = model.rpn_head.predict(feats, samples, rescale=False)
    kept = copy.deepcopy(proposals)
    model.roi_head.loss(feats, proposals, samples)
    with torch.no_grad():
        model.eval().roi_head.predict(feats, proposals, samples, rescale=True)
    for old, new in zip(before, samples, strict=True):
        assert set(old.gt_instances.keys()) == set(new.gt_instances.keys())
        for name in ('bboxes', 'keypoints', 'keypoints_visible', 'labels'):
            assert torch.equal(old.gt_instances[name], new.gt_instances[name])
    for old, new in zip(kept, proposals, strict=True):
        assert set(old.keys()) == set(new.keys())
        assert torch.equal(old.bboxes, new.bboxes)


def _predict(model):
    """Predict the instances of one image."""
    with torch.no_grad():
        return model.predict(_images(1), [_sample(0)])[0].pred_instances


def test_network_prepared_for_inference_predicts_the_same(model):
    torch.manual_seed(4)
    prepared = copy.deepcopy(model).eval()
    norms = [m for m in prepared.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:  # as after training
        norm.running_mean.normal_(std=0.3)
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.3)
    prepared.roi_head.test_cfg.score_thr = 0.0
    prepared.roi_head.mask_head.conv_logits.weight.data.mul_(1000)
    before = _predict(prepared)
    prepare_for_inference(prepared)
    after = _predict(prepared)
    left = [m for m in prepared.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(left) < len(norms) / 2  # behind RefinedConv2d it stays
    assert len(before) and len(before) == len(after)
    # Rounding may flip a pixel at the threshold.
    assert (before.masks != after.masks).float().mean() < 1e-3
    for name in ('bboxes', 'scores', 'keypoints', 'keypoint_scores'):
        torch.testing.assert_close(after[name], before[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('threshold', [0.0, 1.1])
def test_prediction_without_detections_has_every_field(model, threshold):
    model.eval()
    model.roi_head.test_cfg.score_thr = threshold
    with torch.no_grad():
        people = model.predict(_images(1), [_sample(0)])[0].pred_instances
    assert (len(people) == 0) == (threshold > 1)
    assert set(people.keys()) == {
        'bboxes',
        'scores',
        'labels',
        'masks',
        'keypoints',
        'keypoint_scores',
    }
    assert people.keypoints.shape[1:] == (17, 2)
    assert people.masks.shape[1:] == (2 * HEIGHT, 2 * WIDTH)


def test_rescale_maps_predictions_to_the_original_image(model):
    model.eval()
    model.roi_head.test_cfg.score_thr = 0.0
    with torch.no_grad():
        large = model.predict(_images(1), [_sample(1)])[0].pred_instances
        small = model.predict(_images(1), [_sample(1)], rescale=False)[0].pred_instances
    torch.testing.assert_close(large.bboxes, 2 * small.bboxes)
    torch.testing.assert_close(large.keypoints, 2 * small.keypoints)


def test_mask_and_keypoint_heads_share_one_pooled_feature(model, monkeypatch):
    seen = {}
    for name in ('mask_head', 'keypoint_head'):
        head = getattr(model.roi_head, name)
        forward = head.forward
        monkeypatch.setattr(
            head,
            'forward',
            lambda feats, name=name, forward=forward: (
                seen.__setitem__(name, feats),
                forward(feats),
            )[1],
        )
    monkeypatch.setattr(model.roi_head.test_cfg, 'score_thr', 0.0)
    with torch.no_grad():
        model.eval().predict(_images(1), [_sample(1)])
    assert seen['mask_head'] is seen['keypoint_head']


def test_one_pooling_for_all_heads():
    """The box head takes the 2x2 averages of the feature of the other heads."""
    (path,) = CONFIGS.glob('*/*r26-w16*_regular_1xb8*_sample.py')
    model = _build(path, **{'model.roi_head.bbox_roi_extractor': None})
    feats = model.extract_feat(_images(1))
    rois = torch.tensor([[0.0, 4.0, 6.0, 36.0, 60.0], [0.0, 10.0, 10.0, 50.0, 50.0]])
    boxes, people = model.roi_head._pool(feats, rois, torch.tensor([0]))
    corner = people[0, :, :2, :2].mean((1, 2))
    torch.testing.assert_close(boxes[0, :, 0, 0], corner)
    assert boxes.shape[2:] == (7, 7) and len(boxes) == 2
    assert people.shape[2:] == (14, 14) and len(people) == 1
    losses = model.loss(_images(2), [_sample(2), _sample(1)])
    assert 'loss_cls' in losses and 'loss_keypoint' in losses


def test_c4_heads_share_the_last_stage():
    (path,) = CONFIGS.glob('*/*c4_regular*')
    model = _build(path)
    feats = model.extract_feat(_images(1))
    assert [f.shape[1:] for f in feats] == [(1024, HEIGHT // 16, WIDTH // 16)]
    rois = torch.tensor([[0.0, 4.0, 6.0, 36.0, 60.0], [0.0, 10.0, 10.0, 50.0, 50.0]])
    boxes, people = model.roi_head._pool(feats, rois, torch.tensor([1]))
    assert boxes.shape == (2, 2048, 7, 7)
    torch.testing.assert_close(people, boxes[1:])
    cfg = Config.fromfile(path).model.roi_head
    cfg.bbox_roi_extractor = cfg.instance_roi_extractor
    with pytest.raises(ValueError, match='bbox_roi_extractor=None'):
        MODELS.build(cfg)


def test_single_scale_anchors_cover_small_and_large_people():
    (path,) = CONFIGS.glob('*/*r50_fpn-ss_rb-h_4xb3-90k_coco.py')
    model = _build(path)
    (feats,) = model.extract_feat(_images(1))
    assert feats.shape[2:] == (HEIGHT // 16, WIDTH // 16)
    (anchors,) = model.rpn_head.prior_generator.grid_priors([(4, 6)], device='cpu')
    sides = (anchors[:, 2:] - anchors[:, :2]).prod(1).sqrt()
    assert sides.min().item() == pytest.approx(32, abs=0.1)
    assert sides.max().item() == pytest.approx(512, abs=1)


def test_one_gpu_has_a_quarter_of_the_images_and_learning_rate():
    """The report's batch of 12 and learning rate of 0.03 are those of 4 GPUs."""
    (four,) = CONFIGS.glob('*/*r50_fpn-ms_regular_4xb3*')
    (one,) = CONFIGS.glob('*/*r50_fpn-ms_regular_1xb3*')
    four, one = Config.fromfile(four), Config.fromfile(one)
    for cfg, gpus in ((four, 4), (one, 1)):
        assert cfg.train_dataloader.batch_size == 3
        assert cfg.auto_scale_lr.base_batch_size == 3 * gpus
        assert cfg.optim_wrapper.optimizer.lr == pytest.approx(0.03 * gpus / 4)


def test_disabled_modules_do_not_exist():
    paths = [
        next(CONFIGS.glob(f'*/*r50_fpn-ms_{variant}_4xb3-90k_coco.py'))
        for variant in ('rb-h', 'rb-h-no-offset', 'rb-h-one-pool')
    ]
    full, no_offset, one_pool = (_build(path).roi_head for path in paths)
    assert full.keypoint_head.offset_pred is not None
    assert no_offset.keypoint_head.offset_pred is None
    assert full.bbox_roi_extractor is not None
    assert one_pool.bbox_roi_extractor is None


def test_configs_of_version_2_and_roi_refinement():
    (path,) = CONFIGS.glob('*/*r50_fpn-ms_rb-h-v2_4xb3*')
    refined = [m for m in _build(path).modules() if hasattr(m, 'modulated')]
    assert len(refined) == 13 + 8 and all(m.modulated for m in refined)
    (path,) = CONFIGS.glob('*/*r50_fpn-ms_rb-h-roi_4xb3*')
    head = _build(path).roi_head
    for pooling, size in ((head.bbox_roi_extractor, 7), (head.instance_roi_extractor, 14)):
        assert [layer.output_size for layer in pooling.roi_layers] == [(size, size)] * 3
        assert all(hasattr(layer, 'conv_offset') for layer in pooling.roi_layers)


def test_config_of_zero_maps_for_occluded_keypoints():
    (path,) = CONFIGS.glob('*/*r50_fpn-ms_rb-h-zero-map_4xb3*')
    (full,) = CONFIGS.glob('*/*r50_fpn-ms_rb-h_4xb3-90k_coco.py')
    losses = []
    for config, visible in ((path, 2.0), (path, 1.0), (full, 1.0)):
        torch.manual_seed(1)
        head = _build(config).roi_head.keypoint_head
        losses.append(
            keypoint_loss(
                head,
                torch.zeros(1, 256, 14, 14),
                torch.full((1, 17, 2), 20.0),
                torch.full((1, 17), visible),
                torch.tensor([[0.0, 0.0, 40.0, 40.0]]),
            ).item()
        )
    # For maps that are 0.01 everywhere, 17 Gaussians cost more than zeros.
    assert losses[0] > losses[1]
    assert losses[1] == pytest.approx(0.05 * 17 * 56 * 56 * 0.01**2, rel=0.01)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


def test_activation_checkpointing_gives_the_same_gradients():
    (path,) = CONFIGS.glob('*/*r26-w16*-ms_rb-h_1xb8*_sample.py')
    gradients = []
    for with_cp in (False, True):
        model = _build(path, **{'model.backbone.with_cp': with_cp}).train()
        torch.manual_seed(5)
        total, _ = model.parse_losses(model.loss(_images(2), [_sample(2), _sample(1)]))
        total.backward()
        gradients.append([p.grad for p in model.backbone.parameters()])
    torch.testing.assert_close(*gradients)


def test_network_without_keypoint_head():
    (path,) = CONFIGS.glob('*/*r26-w16*-ms_rb-h_1xb8*_sample.py')
    model = _build(path, **{'model.roi_head.keypoint_head': None})
    losses = model.loss(_images(1), [_sample(2)])
    assert 'loss_mask' in losses and 'loss_keypoint' not in losses
    with torch.no_grad():
        people = model.eval().predict(_images(1), [_sample(1)])[0].pred_instances
    assert 'masks' in people and 'keypoints' not in people


@pytest.mark.parametrize('modulated', [False, True])
def test_refined_network_is_initialized_to_the_regular_one(modulated):
    """With the weights of the regular network RB+H predicts the same."""
    (path,) = CONFIGS.glob('*/*r26-w16*-ms_rb-h_1xb8*_sample.py')
    conv = {'type': 'RefinedConv2d', 'modulated': modulated}
    refined = _build(
        path, **{'model.backbone.dcn': conv, 'model.roi_head.keypoint_head.conv_cfg': conv}
    ).eval()
    regular = _build(path.with_name(path.name.replace('rb-h', 'regular'))).eval()
    missing, unexpected = refined.load_state_dict(regular.state_dict(), strict=False)
    assert not unexpected and missing
    assert all('conv_offset' in name for name in missing)
    with torch.no_grad():
        torch.testing.assert_close(
            refined.extract_feat(_images(1)),
            regular.extract_feat(_images(1)),
            rtol=1e-4,
            atol=1e-4,
        )
        a, b = (
            net.predict(_images(1), [_sample(1)])[0].pred_instances for net in (refined, regular)
        )
    torch.testing.assert_close(a.scores, b.scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(a.keypoints, b.keypoints, rtol=1e-3, atol=1e-2)


def test_config_of_refinement():
    (path,) = CONFIGS.glob('*/*r50_fpn-ms_rb-h_4xb3-90k_coco.py')
    model = _build(path)
    refined = [name for name, module in model.named_modules() if hasattr(module, 'conv_offset')]
    blocks = {2: 4, 3: 6, 4: 3}
    expected = [
        f'backbone.layer{layer}.{i}.conv2' for layer, count in blocks.items() for i in range(count)
    ] + [f'roi_head.keypoint_head.convs.{i}.conv' for i in range(8)]
    assert refined == expected


@pytest.mark.parametrize('pyramid', ['fpn', 'fpn-ss', 'c4'])
def test_refinement_is_the_same_with_every_pyramid(pyramid):
    """13 convolutions in conv3 to conv5 and 8 in the keypoint head."""
    model = _build(next(CONFIGS.glob(f'*/*r50_{pyramid}_rb-h_4xb3-90k_coco.py')))
    refined = [name for name, module in model.named_modules() if hasattr(module, 'modulated')]
    assert len(refined) == 4 + 6 + 3 + 8
    assert sum('layer4' in name for name in refined) == 3


@pytest.mark.parametrize(
    'name', ['r26-w16_fpn-ms_rb-h_1xb8-1500', 'r50_fpn-ms_rb-h-slow-offset_1xb16-6k']
)
def test_offset_layers_have_a_tenth_of_the_learning_rate(name):
    path = CONFIGS / f'sample/multitask-rcnn_{name}_sample.py'
    settings = Config.fromfile(path).optim_wrapper
    model = _build(path)
    rates = {
        id(parameter): group['lr']
        for group in build_optim_wrapper(model, settings).param_groups
        for parameter in group['params']
    }
    for key, parameter in model.named_parameters():
        slow = 'conv_offset' in key or 'offset_pred' in key
        assert rates[id(parameter)] == pytest.approx(
            settings.optimizer.lr * (0.1 if slow else 1)
        ), key


def test_fast_cpu_ops_are_switched_by_the_config():
    (path,) = CONFIGS.glob('*/*r26-w16*-ms_rb-h_1xb8*_sample.py')
    fast = _build(path).eval()
    plain = _build(path, **{'model.fast_cpu_ops': False}).eval()
    for network, enabled in ((fast, True), (plain, False)):
        switches = [m.fast_cpu_ops for m in network.modules() if hasattr(m, 'fast_cpu_ops')]
        assert len(switches) > 10 and set(switches) == {enabled}
    plain.load_state_dict(fast.state_dict())
    # mmcv's deformable convolution rejects maps that are smaller than the kernel.
    images = 50 * torch.randn(1, 3, 2 * HEIGHT, 2 * WIDTH)
    with torch.no_grad():
        expected, found = (
            network.predict(images, [_sample(0)])[0].pred_instances for network in (plain, fast)
        )
    assert len(expected) == len(found) > 0
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.bboxes, expected.bboxes, rtol=1e-4, atol=1e-3)
    prepare_for_inference(plain)
    assert not any(isinstance(m, (InferenceLinear, WinogradConv2d)) for m in plain.modules())
