"""Converted networks against the numbers of the frameworks they come from.

``golden/*.npz`` holds what Detectron2's and torchvision's own code gave with
weights drawn at random; ``make_golden.py`` wrote them and ``about`` in each
file says what is what. Here the same weights are drawn, converted, and run.
"""

import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from mmengine.hub import get_config
from PIL import Image

from multitask_refine.converters import detectron2 as detectron2_to_multitask
from multitask_refine.converters import mmdet as mmdet_to_multitask
from multitask_refine.converters import torchvision as torchvision_to_multitask
from multitask_refine.testing.synthetic_images import draw_image
from multitask_refine.testing.synthetic_weights import draw_indices, draw_weights
from tests.test_converters.networks import (
    config_path,
    load_network,
    run_full,
    run_layers,
    to_batch,
)

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / 'golden'
SOURCES = {
    'detectron2-r50-all': 'r50_fpn_detectron2',
    'detectron2-r101-kps': 'r101_fpn_detectron2-kps',
    'detectron2-r50-dconv-mask': 'r50_fpn_detectron2-rb-mask',
    'detectron2-r50-box': 'r50_fpn_detectron2-box',
    'torchvision-keypoint': 'r50_fpn_torchvision-kps',
    'torchvision-mask': 'r50_fpn_torchvision-mask',
}
MOST_MAPS = 20  # people of an image whose masks and keypoints were kept
RELATIVE = 1e-3
PIXELS = 0.5  # after resizing
# Two pixels of a random map, neighbors or far apart, may be equally high, and
# rounding decides between them: so large a share of the keypoints may be elsewhere.
TIES = 0.015


class Parity(NamedTuple):
    """A source's numbers and the network converted from it."""

    golden: dict
    about: dict
    config: str
    model: torch.nn.Module


@pytest.fixture(scope='module', params=SOURCES)
def parity(request, tmp_path_factory):
    with np.load(GOLDEN / f'{request.param}.npz') as file:
        golden = dict(file)
    about = json.loads(str(golden.pop('about')))
    weights = draw_weights(
        {name: tuple(shape) for name, shape in about['shapes'].items()}, about['seed']
    )
    folder = tmp_path_factory.mktemp(request.param)
    config = SOURCES[request.param]
    is_detectron2 = request.param.startswith('detectron2')
    torch.save(
        dict(model={k: torch.from_numpy(v) for k, v in weights.items()})
        if is_detectron2
        else {k: torch.from_numpy(v) for k, v in weights.items()},
        folder / 'source.pth',
    )
    convert = detectron2_to_multitask if is_detectron2 else torchvision_to_multitask
    convert.main(
        [str(config_path(config)), str(folder / 'source.pth'), str(folder / 'converted.pth')]
    )
    model = load_network(
        config, folder / 'converted.pth', about['settings']['detections_per_image']
    )
    return Parity(golden, about, config, model)


def _pixels(key: str, image: dict, photos: Path) -> np.ndarray:
    if key.startswith('drawn'):
        return draw_image(image['seed'], image['height'], image['width'])
    path = photos / 'val2017' / key.split(':')[1]
    return np.array(Image.open(path).convert('RGB'))


def _close(name: str, found: np.ndarray, expected: np.ndarray, scale: float) -> None:
    """Equal to 1e-3 of the values, or of their usual size near 0."""
    np.testing.assert_allclose(found, expected, rtol=RELATIVE, atol=RELATIVE * scale, err_msg=name)


def _check_layers(parity: Parity, key: str, rgb: np.ndarray) -> None:
    image = parity.about['images'][key]
    height, width = image['layer_size']
    expected = {
        name.split('/')[-1]: values
        for name, values in parity.golden.items()
        if name.startswith(f'{key}/layers/')
    }
    shapes = image['layers']['shapes']
    outputs = run_layers(parity.model, rgb[:height, :width], expected['boxes'][:MOST_MAPS])
    for i, level in enumerate(outputs['fpn']):
        _check_sampled(
            f'{key}/layers/fpn{i}', level[0].numpy(), expected['fpn'][i], shapes[f'fpn{i}']
        )
    logits = expected['proposal_scores']
    scores = outputs['proposal_scores']
    if 'detectron2' in parity.about['source']:
        scores = torch.logit(scores)
    _check_boxes('proposals', outputs['proposals'], scores, expected['proposals'], logits)
    assert abs(len(outputs['boxes']) - len(expected['boxes'])) <= 1
    _check_boxes(
        'boxes', outputs['boxes'], outputs['scores'], expected['boxes'], expected['scores']
    )
    assert ('keypoints' in expected) == ('keypoints' in outputs)
    if 'keypoints' in expected:
        _check_keypoints(outputs, expected, RELATIVE * width)
    for name in ('mask_logits', 'keypoint_logits'):
        assert (name in expected) == (name in outputs)
        if name in expected:
            _check_sampled(
                f'{key}/layers/{name}', outputs[name].numpy(), expected[name], shapes[name]
            )


def _nearest(
    boxes: torch.Tensor, scores: torch.Tensor, expected: np.ndarray, ranks: np.ndarray
) -> torch.Tensor:
    """Which of the boxes each expected one is: the order of two that are
    equally good is a matter of rounding."""
    found = torch.cat([boxes, scores[:, None]], 1)
    wanted = torch.from_numpy(np.concatenate([expected, ranks[:, None]], 1))
    nearest = (found[None] - wanted[:, None]).abs().amax(-1).argmin(1)
    assert len(nearest.unique()) == len(nearest)
    return nearest


def _check_boxes(
    name: str, boxes: torch.Tensor, scores: torch.Tensor, expected: np.ndarray, ranks: np.ndarray
) -> None:
    same = _nearest(boxes, scores, expected, ranks)
    _close(name, boxes[same].numpy(), expected, expected.std())
    _close(f'scores of {name}', scores[same].numpy(), ranks, ranks.std())
    assert (same - torch.arange(len(same))).abs().max() <= 2


def _check_keypoints(found: dict, expected: dict, pixels: float) -> None:
    apart = np.abs(found['keypoints'].numpy() - expected['keypoints'])
    assert (apart.max(-1) > pixels).mean() <= TIES
    scores = expected['keypoint_scores']
    _close('keypoint scores', found['keypoint_scores'].numpy(), scores, scores.std())


def _check_sampled(name: str, found: np.ndarray, expected: np.ndarray, shape: list) -> None:
    assert list(found.shape) == shape, name
    indices = draw_indices(name, found.size, len(expected))
    _close(name, found.flatten()[indices], expected, expected.std())


def _check_full(parity: Parity, key: str, path: Path) -> None:
    image = parity.about['images'][key]['full']
    found, size = run_full(parity.model, parity.config, path)
    assert list(size) == image['input_size']
    assert abs(len(found) - image['persons']) <= 1
    expected = {
        name: parity.golden[f'{key}/full/{name}']
        for name in ('boxes', 'scores', 'keypoints', 'mask_areas')
        if f'{key}/full/{name}' in parity.golden
    }
    found = found[_nearest(found.bboxes, found.scores, expected['boxes'], expected['scores'])]
    np.testing.assert_allclose(found.bboxes, expected['boxes'], rtol=0, atol=PIXELS)
    np.testing.assert_allclose(found.scores, expected['scores'], atol=5 * RELATIVE)
    if 'keypoints' in expected:
        apart = np.abs(found.keypoints.numpy() - expected['keypoints'])
        assert (apart.max(-1) > PIXELS).mean() <= TIES
    if 'mask_areas' in expected and 'detectron2' in parity.about['source']:
        np.testing.assert_allclose(
            found.masks.sum((1, 2)), expected['mask_areas'], rtol=0.01, atol=3
        )


def _images(parity: Parity, kind: str) -> list:
    return [key for key in parity.about['images'] if key.startswith(kind)]


@pytest.mark.exhaustive
def test_layers_of_a_drawn_image(parity):
    key = 'drawn:1'
    _check_layers(parity, key, _pixels(key, parity.about['images'][key], None))


@pytest.mark.parametrize('parity', ['detectron2-r50-all', 'torchvision-keypoint'], indirect=True)
def test_drawn_image_after_resizing(parity, tmp_path):
    key = 'drawn:2'
    rgb = _pixels(key, parity.about['images'][key], None)
    cv2.imwrite(str(tmp_path / 'image.png'), rgb[..., ::-1])
    _check_full(parity, key, tmp_path / 'image.png')


def test_layers_of_photos(parity, tiny_coco):
    keys = _images(parity, 'photo')
    assert len(keys) == 5
    for key in keys:
        _check_layers(parity, key, _pixels(key, parity.about['images'][key], tiny_coco))


def test_photos_after_resizing(parity, tiny_coco):
    for key in _images(parity, 'photo'):
        if 'full' in parity.about['images'][key]:
            _check_full(parity, key, tiny_coco / 'val2017' / key.split(':')[1])


@torch.no_grad()
def _run_mmdets_own(model: torch.nn.Module, rgb: np.ndarray) -> tuple:
    inputs, samples = to_batch(model, rgb)
    feats = model.extract_feat(inputs)
    (proposals,) = model.rpn_head.predict(feats, samples)
    (found,) = model.roi_head.predict_bbox(
        feats, [samples[0].metainfo], [proposals], model.roi_head.test_cfg
    )
    persons = found[found.labels == 0]
    masks = model.roi_head._mask_forward(feats, bbox2roi([persons.bboxes]))
    return feats, proposals, persons, masks['mask_preds']


@pytest.mark.exhaustive
def test_mmdets_mask_rcnn(tmp_path):
    """mmdet is here: its own network beside the converted one."""
    config = 'r50_fpn_mmdet-mask'
    cfg = get_config('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py').model
    cfg.backbone.init_cfg = None
    cfg.test_cfg.rcnn.max_per_img = 1000
    own = MODELS.build(cfg).eval()
    shapes = {
        name: tuple(values.shape)
        for name, values in own.state_dict().items()
        if not name.endswith('num_batches_tracked')
    }
    own.load_state_dict(
        {name: torch.from_numpy(values) for name, values in draw_weights(shapes, 3).items()},
        strict=False,
    )
    torch.save(dict(state_dict=own.state_dict()), tmp_path / 'source.pth')
    mmdet_to_multitask.main(
        [str(config_path(config)), str(tmp_path / 'source.pth'), str(tmp_path / 'converted.pth')]
    )
    # PyTorch's and mmcv's operators on both sides.
    model = load_network(config, tmp_path / 'converted.pth', 1000, fast_cpu_ops=False)
    _compare_with_mmdet(own, model, draw_image(1, 300, 250))


def _compare_with_mmdet(
    own: torch.nn.Module, model: torch.nn.Module, rgb: np.ndarray, **tolerance: float
) -> None:
    """``tolerance`` is for what comes after the pooling."""
    feats, proposals, expected, logits = _run_mmdets_own(own, rgb)
    outputs = run_layers(model, rgb, expected.bboxes.numpy())
    for found, level in zip(outputs['fpn'], feats, strict=True):
        torch.testing.assert_close(found, level)
    torch.testing.assert_close(outputs['proposals'], proposals.bboxes)
    assert len(expected) > 5
    for name, values in (
        ('boxes', expected.bboxes),
        ('scores', expected.scores),
        ('mask_logits', logits[:, 0]),
    ):
        torch.testing.assert_close(outputs[name], values, **tolerance)
