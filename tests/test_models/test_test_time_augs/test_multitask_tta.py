"""Test-time augmentation: symmetry, averages by hand, the tool."""

import json

import pytest
import torch
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_flip
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.structures import InstanceData

from multitask_cli import test
from multitask_refine.datasets import CocoMultitaskDataset
from multitask_refine.models import flip_tta_pipeline
from multitask_refine.models.test_time_augs.multitask_tta import View, flip_deltas, map_boxes
from tests.conftest import CONFIGS, SAMPLE_CONFIG, as_arguments, tiny_options

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 48, 80  # of the network's input, not a multiple of 32
SWAP = CocoMultitaskDataset._load_metainfo()['flip_indices']
SOFTMAX_CONFIG = CONFIGS / ('sample/multitask-rcnn_r26-w16_fpn-ms_softmax-rb-h_1xb8-500_sample.py')


def _build(config=SAMPLE_CONFIG, **options):
    """Build the augmentation of a tiny network in which every weight matters."""
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(
        {
            'model.backbone.base_channels': 4,
            'model.backbone.stem_channels': 4,
            'model.neck.in_channels': [32, 64, 128],
            'model.data_preprocessor.std': [60.0, 60.0, 60.0],
            'model.test_cfg.rpn.max_per_img': 12,
            'model.test_cfg.rcnn.max_per_img': 5,
            'model.test_cfg.rcnn.score_thr': 0.0,
            **{f'model.{name}': value for name, value in options.items()},
        }
    )
    torch.manual_seed(1)
    model = MODELS.build(dict(cfg.tta_model, module=cfg.model)).eval()
    model.module.init_weights()
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return model


def _images(count, seed=3):
    torch.manual_seed(seed)
    return list(110 + 60 * torch.randn(count, 3, HEIGHT, WIDTH))


def _sample(flip, scale=1.0):
    """Make the metainfo of an image; the original is twice as large."""
    return DetDataSample(
        metainfo={
            'img_id': 1,
            'img_shape': (int(HEIGHT * scale), int(WIDTH * scale)),
            'ori_shape': (2 * HEIGHT, 2 * WIDTH),
            'scale_factor': (0.5 * scale, 0.5 * scale),
            'flip': flip,
            'flip_direction': 'horizontal' if flip else None,
            'flip_indices': SWAP,
        }
    )


def _views(images):
    return {
        'inputs': [images, [image.flip(-1) for image in images]],
        'data_samples': [[_sample(flip) for _ in images] for flip in (False, True)],
    }


@torch.no_grad()
def _predict(model, images):
    return [each.pred_instances for each in model.test_step(_views(images))]


def _assert_flipped(one, other):
    """Compare the predictions of an image and of the flipped image."""
    width = 2 * WIDTH
    order = one.scores.argsort(descending=True)
    one, other = one[order], other[other.scores.argsort(descending=True)]
    close = {'rtol': 1e-4, 'atol': 1e-3}
    torch.testing.assert_close(one.scores, other.scores, **close)
    expected = one.bboxes[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1])
    expected = expected + torch.tensor([width, 0, width, 0])
    torch.testing.assert_close(other.bboxes, expected, **close)
    if 'masks' in one:
        assert one.masks.any()
        assert (one.masks.flip(-1) != other.masks).float().mean() < 1e-4
    if 'keypoints' in one:
        points = one.keypoints[:, SWAP]
        points[..., 0] = width - points[..., 0]
        torch.testing.assert_close(other.keypoints, points, **close)
        torch.testing.assert_close(other.keypoint_scores, one.keypoint_scores[:, SWAP], **close)


@pytest.mark.parametrize(
    'config, options',
    [
        (SAMPLE_CONFIG, {}),
        (SAMPLE_CONFIG, {'roi_head.mask_head': None}),
        (SAMPLE_CONFIG, {'roi_head.keypoint_head': None}),
        (
            SAMPLE_CONFIG,
            {'roi_head.bbox_head.num_classes': 2, 'roi_head.mask_head.num_classes': 2},
        ),
        (SOFTMAX_CONFIG, {}),
    ],
    ids=['all', 'no_masks', 'no_keypoints', 'two_classes', 'softmax'],
)
def test_flipped_image_gives_flipped_predictions(config, options):
    """An offset of a pixel in one of the views, or a keypoint on the wrong side, would fail. A
    batch gives the predictions of its images."""
    model = _build(config, **options)
    images = _images(2)
    found = _predict(model, images)
    flipped = _predict(model, [image.flip(-1) for image in images])
    for one, other in zip(found, flipped, strict=True):
        assert len(one) == len(other) == 5
        assert ('masks' in one) == model.module.with_mask
        assert ('keypoints' in one) == model.module.roi_head.with_keypoint
        _assert_flipped(one, other)
    (alone,) = _predict(model, images[:1])
    torch.testing.assert_close(alone.bboxes, found[0].bboxes, rtol=1e-4, atol=1e-3)


@pytest.fixture(scope='module')
def model():
    return _build()


def _single_detection(model, monkeypatch, box):
    """Let the network predict one instance with the given box in every view."""
    head = model.module.roi_head

    def predict(feats, samples, rescale):
        boxes = bbox_flip(box, (HEIGHT, WIDTH)) if samples[0].flip else box
        return [InstanceData(bboxes=boxes, scores=torch.tensor([0.9]))]

    monkeypatch.setattr(model.module.rpn_head, 'predict', predict)
    monkeypatch.setattr(
        head, 'bbox_forward', lambda x, boxes: (torch.tensor([[4.0, 0.0]]), torch.zeros(1, 4))
    )
    return head


def test_heatmaps_are_averaged_with_left_and_right_swapped(model, monkeypatch):
    """Keypoint 1 is the left eye, keypoint 2 the right one; 28 cells of 2 pixels of the original
    image."""
    box = torch.tensor([[10.0, 8.0, 38.0, 36.0]])
    head = _single_detection(model, monkeypatch, box)
    plain, flipped = torch.zeros(2, 1, 17, 28, 28)
    plain[0, 1, 3, 5] = 0.6
    flipped[0, 2, 3, 28 - 1 - 5] = 0.8
    plain[0, 2, 9, 20] = 0.5  # elsewhere in the flipped image
    flipped[0, 1, 9, 28 - 1 - 24] = 0.9
    maps = iter([plain, flipped])
    monkeypatch.setattr(head.keypoint_head, 'refined_heatmaps', lambda feats: next(maps))
    (person,) = _predict(model, _images(1))
    torch.testing.assert_close(person.bboxes, 2 * box)
    assert person.keypoint_scores[0, 1:3].tolist() == pytest.approx([0.7, 0.45])
    torch.testing.assert_close(
        person.keypoints[0, 1:3],
        torch.tensor([[20 + 2 * 5.5, 16 + 2 * 3.5], [20 + 2 * 24.5, 16 + 2 * 9.5]]),
    )


def test_mask_probabilities_are_averaged(model, monkeypatch):
    """A mask of 2x2 cells of 28 pixels of the original image, interpolated between the centers of
    the cells."""
    head = _single_detection(model, monkeypatch, torch.tensor([[10.0, 8.0, 38.0, 36.0]]))
    plain = torch.tensor([[0.9, 0.4], [0.1, 0.1]])
    flipped = torch.tensor([[0.9, 0.3], [0.1, 0.7]])
    maps = iter([plain.logit()[None, None], flipped.logit()[None, None]])
    monkeypatch.setattr(head.mask_head, 'forward', lambda feats: next(maps))
    (person,) = _predict(model, _images(1))
    # The average is [[0.6, 0.65], [0.4, 0.1]].
    mask = person.masks[0, 16:72, 20:76]
    assert mask[14, 14] and mask[14, 41]
    # On the left the probability is 0.5 at 28, the border between two pixels.
    assert mask[27, 14] and not mask[28, 14]
    assert not mask[41].any()


def test_scores_and_deltas_are_averaged(model, monkeypatch):
    """4 pixels to the right in the image and 2 in the flipped image: 1 to the right."""
    box = torch.tensor([[10.0, 8.0, 30.0, 28.0]])
    head = _single_detection(model, monkeypatch, box)
    unit = 20 * 0.1  # width of the box times the coder's standard deviation
    outputs = iter([([[0.8, 0.2]], 4 / unit), ([[0.4, 0.6]], 2 / unit)])

    def bbox_forward(feats, boxes):
        probability, right = next(outputs)
        return (torch.tensor(probability).log(), torch.tensor([[right, 0, 0, 0]]))

    monkeypatch.setattr(head, 'bbox_forward', bbox_forward)
    (person,) = _predict(model, _images(1))
    assert person.scores.item() == pytest.approx(0.6)
    torch.testing.assert_close(person.bboxes, 2 * (box + torch.tensor([1.0, 0.0, 1.0, 0.0])))


def test_each_of_two_classes_is_averaged(monkeypatch):
    """One RoI of 20 pixels: in the image the first class has a probability of 0.6, in the flipped
    image the second one of 0.7."""
    model = _build(**{'roi_head.bbox_head.num_classes': 2, 'roi_head.mask_head.num_classes': 2})
    box = torch.tensor([[10.0, 8.0, 30.0, 28.0]])
    head = _single_detection(model, monkeypatch, box)
    unit = 20 * 0.1  # width of the box times the coder's standard deviation
    outputs = iter(
        [([0.6, 0.3, 0.1], [4, 0, 0, 0, 3, 0, 0, 0]), ([0.2, 0.7, 0.1], [2, 0, 0, 0, -3, 0, 0, 0])]
    )

    def bbox_forward(feats, boxes):
        probability, shift = next(outputs)
        return (torch.tensor([probability]).log(), torch.tensor([shift]) / unit)

    monkeypatch.setattr(head, 'bbox_forward', bbox_forward)
    (found,) = _predict(model, _images(1))
    assert found.labels.tolist() == [1, 0]
    assert found.scores.tolist() == pytest.approx([0.5, 0.4])
    # To the right by (3 + 3) / 2 and by (4 - 2) / 2.
    torch.testing.assert_close(
        found.bboxes, 2 * (box + torch.tensor([[3.0, 0.0, 3.0, 0.0], [1.0, 0.0, 1.0, 0.0]]))
    )
    assert found.masks.shape == (2, 2 * HEIGHT, 2 * WIDTH)


def test_proposals_of_all_views_are_merged_by_score(model, monkeypatch):
    boxes = torch.tensor(
        [
            [0.0, 0.0, 20.0, 20.0],
            [40.0, 0.0, 60.0, 20.0],
            [1.0, 0.0, 21.0, 20.0],
            [30.0, 20.0, 50.0, 40.0],
        ]
    )
    # Only in double precision the third score is higher than the first.
    scores = torch.tensor([0.7, 0.9, 0.7 + 1e-12, 0.5], dtype=torch.float64)
    plain = InstanceData(bboxes=boxes[:2], scores=scores[:2])
    flipped = InstanceData(bboxes=bbox_flip(boxes[2:], (HEIGHT, WIDTH)), scores=scores[2:])
    views = [View((), [plain], [_sample(False)]), View((), [flipped], [_sample(True)])]
    (merged,) = model._merge_proposals(views, views[0])
    assert torch.equal(merged, boxes[[1, 2, 3]])
    monkeypatch.setitem(model.module.test_cfg.rpn, 'max_per_img', 2)
    (merged,) = model._merge_proposals(views, views[0])
    assert torch.equal(merged, boxes[[1, 2]])


def test_flipped_deltas_decode_to_flipped_boxes():
    coder = DeltaXYWHBBoxCoder((0.0,) * 4, (0.1, 0.1, 0.2, 0.2))
    boxes = torch.tensor([[10.0, 20.0, 30.0, 70.0], [0.0, 0.0, 40.0, 10.0]])
    deltas = torch.tensor([[1.0, -2.0, 0.5, 0.3], [-0.4, 0.2, -1.0, 2.0]])
    torch.testing.assert_close(
        coder.decode(bbox_flip(boxes, (100, 100)), flip_deltas(deltas)),
        bbox_flip(coder.decode(boxes, deltas), (100, 100)),
    )


def test_boxes_are_mapped_between_views_of_other_size_and_flip():
    """An image of width 100, and flipped at half its width."""
    plain = {'img_shape': (40, 100), 'scale_factor': (1.0, 1.0), 'flip': False}
    small = {'img_shape': (40, 50), 'scale_factor': (0.5, 1.0), 'flip': True}
    boxes = torch.tensor([[10.0, 5.0, 30.0, 35.0]])
    there = map_boxes(boxes, plain, small)
    assert there.tolist() == [[35.0, 5.0, 45.0, 35.0]]
    torch.testing.assert_close(map_boxes(there, small, plain), boxes)


def test_no_detections(model, monkeypatch):
    monkeypatch.setitem(model.module.roi_head.test_cfg, 'score_thr', 1.1)
    for people in _predict(model, _images(2)):
        assert len(people) == 0
        assert people.keypoints.shape == (0, 17, 2)
        assert people.keypoint_scores.shape == (0, 17)
        assert people.masks.shape == (0, 2 * HEIGHT, 2 * WIDTH)


def test_no_proposals(model, monkeypatch):
    monkeypatch.setattr(
        model.module.rpn_head,
        'predict',
        lambda feats, samples, rescale: [
            InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0))
        ],
    )
    (people,) = _predict(model, _images(1))
    assert len(people) == 0 and 'masks' in people and 'keypoints' in people


def test_views_of_several_sizes(model):
    """As a tta_pipeline of a config may have them."""
    (image,) = _images(1)
    data = _views([image])
    data['inputs'].insert(0, [image[:, ::2, ::2].flip(-1)])
    data['data_samples'].insert(0, [_sample(True, scale=0.5)])
    with torch.no_grad():
        (sample,) = model.test_step(data)
    assert sample.flip is False and sample.img_shape == (HEIGHT, WIDTH)
    people = sample.pred_instances
    assert len(people) == 5 and people.masks.shape[1:] == sample.ori_shape
    assert people.bboxes[:, 2].max() <= 2 * WIDTH


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda sample: delattr(sample, 'flip_indices'), 'flip_indices'),
        (lambda sample: delattr(sample, 'flip'), "'flip'"),
        (lambda sample: sample.set_metainfo({'flip_direction': 'vertical'}), 'vertical'),
    ],
)
def test_views_that_cannot_be_averaged_are_rejected(model, change, message):
    data = _views(_images(1))
    for view in data['data_samples']:
        change(view[0])
    with pytest.raises(ValueError, match=message):
        model.test_step(data)


def test_flipped_views_only_are_rejected(model):
    data = {name: views[1:] for name, views in _views(_images(1)).items()}
    with pytest.raises(ValueError, match='flipped views only'):
        model.test_step(data)


@pytest.mark.parametrize('name', ['coco', 'detectron2', 'torchvision'])
def test_flip_tta_pipeline_applies_the_transforms_of_the_config_to_both_images(name, scene):
    dataset = 'coco_multitask' + ('' if name == 'coco' else f'_{name}')
    cfg = Config.fromfile(CONFIGS / f'_base_/datasets/{dataset}.py')
    plain = cfg.test_dataloader.dataset.pipeline
    dataset = CocoMultitaskDataset(
        data_root=f'{scene}/',
        ann_file='annotations/person_keypoints_val2017.json',
        data_prefix={'img': 'val2017/'},
        test_mode=True,
        pipeline=[],
    )
    info = dataset.get_data_info(0)
    expected = Compose(plain)(dict(info))
    views = Compose(flip_tta_pipeline(plain))(dict(info))
    first, second = views['inputs']
    assert torch.equal(first, expected['inputs'])
    assert torch.equal(second, expected['inputs'].flip(-1))
    samples = views['data_samples']
    assert [each.flip for each in samples] == [False, True]
    assert samples[1].flip_direction == 'horizontal'
    assert list(samples[0].flip_indices) == SWAP
    torch.testing.assert_close(
        samples[0].gt_instances.keypoints, expected['data_samples'].gt_instances.keypoints
    )
    assert plain[-1].type == 'PackMultitaskInputs'
    assert 'flip' not in plain[-1].meta_keys


def test_tool_evaluates_with_augmentation(scene, tmp_path):
    options = tiny_options(scene)
    cfg = Config.fromfile(SAMPLE_CONFIG)
    cfg.merge_from_dict(options)
    torch.manual_seed(0)
    network = MODELS.build(cfg.model)
    torch.save(network.state_dict(), tmp_path / 'weights.pth')
    assert (
        test.main(
            [
                str(SAMPLE_CONFIG),
                str(tmp_path / 'weights.pth'),
                '--tta',
                '--work-dir',
                str(tmp_path),
                '--show-dir',
                str(tmp_path / 'images'),
                *as_arguments({**options, 'test_dataloader.batch_size': 2}),
            ]
        )
        == 0
    )
    results = json.loads((tmp_path / 'metrics.json').read_text())
    assert {'bbox_AP', 'segm_AP', 'keypoints_AP'} <= set(results)
    assert results['run']['num_images'] == 3
    assert len(list((tmp_path / 'images').iterdir())) == 3
