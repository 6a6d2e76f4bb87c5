"""Exported ONNX files against PyTorch, on the CPU."""

import copy
import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from packaging.version import Version

from multitask_refine.deployment import ExportError, export
from multitask_refine.deployment.export import load_model
from multitask_refine.deployment.parity import (
    TOLERANCES,
    compare_outputs,
    predict_outputs,
    raise_if_different,
)
from multitask_refine.testing.synthetic_images import draw_image
from multitask_refine.testing.synthetic_weights import draw_weights
from multitask_runtime.onnx.session import Session, load_session
from multitask_runtime.utils.errors import OnnxError
from tests.conftest import CONFIGS, SAMPLE_CONFIG
from tests.test_runtime.onnx_files import EVERY_BACKEND

pytestmark = pytest.mark.slow

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')

if Version(onnxruntime.__version__) < Version('1.25'):
    pytest.skip(
        'deformable convolutions need onnxruntime 1.25, which needs Python 3.11',
        allow_module_level=True,
    )

HEAD = 'model.roi_head.'
DETECTRON2 = {
    'model.rpn_head.type': 'LogitRankedRPNHead',
    'model.rpn_head.bbox_coder.add_ctr_clamp': True,
    'model.rpn_head.bbox_coder.ctr_clamp': 1000000,
    f'{HEAD}bbox_head.type': 'PersonBBoxHead',
    f'{HEAD}bbox_head.num_other_classes': 79,
    f'{HEAD}bbox_roi_extractor.roi_layer.sampling_ratio': 0,
    f'{HEAD}instance_roi_extractor.roi_layer.sampling_ratio': 0,
}
TORCHVISION = {
    **DETECTRON2,
    'model.rpn_head.anchor_generator.type': 'TorchvisionAnchorGenerator',
    'model.data_preprocessor.bgr_to_rgb': True,
    'model.data_preprocessor.std': [58.395, 57.12, 57.375],
    'model.test_cfg.rpn.min_bbox_size': 0.001,
    'model.test_cfg.rcnn.min_bbox_size': 0.01,
    f'{HEAD}keypoint_head.codec.score': 'logit',
    **{
        f'{HEAD}{name}_roi_extractor.roi_layer.{key}': value
        for name in ('bbox', 'instance')
        for key, value in dict(sampling_ratio=2, aligned=False).items()
    },
}
CHANNELS = dict(in_channels=64, conv_channels=64)
SIGMAS = Config.fromfile(CONFIGS / '_base_/coco_sigmas.py').sigmas
ROI_LAYER = dict(type='DeformRoIPool', in_channels=64, sampling_ratio=2)
# name: the config and what is changed in it
VARIANTS = {
    'regular': ('fpn-ms_regular_1xb8-1500', {}),
    'rb-h': ('fpn-ms_rb-h_1xb8-1500', {}),
    'rb-h-v2': (
        'fpn-ms_rb-h_1xb8-1500',
        {
            'model.backbone.dcn.modulated': True,
            f'{HEAD}keypoint_head.conv_cfg.modulated': True,
            f'{HEAD}keypoint_head.conv_cfg.deform_groups': 2,
        },
    ),
    'rb-h-kps': ('fpn-ms_rb-h-kps_1xb4-1500', {}),
    'no-keypoints': ('fpn-ms_rb_1xb4-1500', {f'{HEAD}keypoint_head': None}),
    'branches': (
        'fpn-ms_regular_1xb8-1500',
        {
            f'{HEAD}branches': dict(
                visibility=dict(type='KeypointVisibilityBranch', **CHANNELS),
                pose_score=dict(type='KeypointScoreBranch', sigmas=SIGMAS, **CHANNELS),
                mask_score=dict(type='MaskScoreBranch', **CHANNELS),
            ),
            f'{HEAD}mask_gate': dict(type='MaskGate', in_channels=64),
        },
    ),
    'single-scale': ('fpn-ss_rb-h_1xb4-1500', {}),
    'one-pool': ('fpn-ms_regular_1xb8-1500', {f'{HEAD}bbox_roi_extractor': None}),
    'roi': (
        'fpn-ms_regular_1xb8-1500',
        {
            f'{HEAD}{name}_roi_extractor.roi_layer': dict(
                ROI_LAYER, output_size=size, _delete_=True
            )
            for name, size in (('bbox', 7), ('instance', 14))
        },
    ),
    'softmax-rb-h': ('fpn-ms_softmax-rb-h_1xb8-500', {}),
    'detectron2': ('fpn-ms_softmax_1xb8-1500', DETECTRON2),
    'torchvision': ('fpn-ms_softmax_1xb8-1500', TORCHVISION),
}
# Drawn heads amplify rounding: this share of the keypoints, or of their
# scores, differs in PyTorch's own float64, too.
KEYPOINT_TIES = 0.08
SIZES = ((150, 203), (97, 64), (131, 250), (17, 23), (1, 1))


def make_config(variant: str) -> Config:
    name, options = VARIANTS[variant]
    cfg = Config.fromfile(CONFIGS / f'sample/multitask-rcnn_r26-w16_{name}_sample.py')
    cfg.merge_from_dict(options)
    return cfg


def save_drawn(cfg: Config, folder: Path) -> Path:
    """A checkpoint with synthetic weights like a trained model's."""
    model = MODELS.build(copy.deepcopy(cfg.model)).eval()
    state = model.state_dict()
    names = {
        name.replace('.bn.', '.norm.'): name
        for name in state
        if not name.endswith(('num_batches_tracked', 'mask_gate.weight'))
    }
    shapes = {key: tuple(state[name].shape) for key, name in names.items()}
    for key, values in draw_weights(shapes, 3).items():
        # Large offsets and logits would amplify every rounding.
        share = 0.2 if re.search('offset|logits|heatmap', key) else 1.0
        state[names[key]].copy_(share * torch.from_numpy(values))
    if model.roi_head.mask_gate is not None:
        model.roi_head.mask_gate.weight.data.fill_(0.5)
    calibrate(model)
    torch.save(dict(state_dict=state), folder / 'drawn.pth')
    return folder / 'drawn.pth'


def calibrate(model: torch.nn.Module) -> None:
    """Let each batch norm see what it normalizes, as in training."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.train().momentum = 1.0
    model.roi_head.test_cfg.score_thr = 0.0
    predict_outputs(model, to_image(160, 256))


def run(session: Session, image: torch.Tensor) -> dict:
    (outputs,) = session.run([image[None].float().numpy()])
    return outputs


def assert_same(found: dict, expected: dict, ties: float = 0) -> None:
    """``ties``: share of the instances that may differ."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].shape[1:] == values.shape[1:], name
    for name, (_, mismatched, total) in compare_outputs(found, expected).items():
        share = KEYPOINT_TIES if name.startswith('keypoint') else ties
        assert mismatched <= share * total, (
            f'{name}: {mismatched} of {total} differ by {TOLERANCES[name]}'
        )


def to_image(height: int, width: int) -> torch.Tensor:
    image = draw_image(1, max(height, 40), max(width, 40))
    return torch.from_numpy(image[:height, :width].copy()).permute(2, 0, 1)


@pytest.fixture(
    scope='module',
    params=[
        pytest.param(name, marks=[] if name == 'rb-h' else pytest.mark.exhaustive)
        for name in VARIANTS
    ],
)
def exported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    cfg = make_config(request.param)
    checkpoint = save_drawn(cfg, folder)
    export(cfg, checkpoint, folder / 'out.onnx')
    return cfg, checkpoint, folder / 'out.onnx'


@EVERY_BACKEND
def test_every_variant_matches_pytorch(exported, backend):
    cfg, checkpoint, path = exported
    nodes = onnx.load(path).graph.node
    assert {node.domain for node in nodes} <= {'', 'ai.onnx'}
    if any(node.op_type == 'AveragePool' and '/roi_layers' in node.name for node in nodes):
        # OpenVINO fails on images without detections.
        with pytest.raises(OnnxError, match='deformable RoI pooling.*backend onnxruntime'):
            load_session(path, backend='openvino')
        assert load_session(path).runtime.startswith('onnxruntime')
        backend = 'auto'
    session = load_session(path, backend=backend)
    model = load_model(cfg, checkpoint)
    counts = []
    for size in SIZES:
        expected = predict_outputs(model, to_image(*size))
        assert_same(run(session, to_image(*size)), expected)
        counts.append(len(expected['boxes']))
    assert max(counts) > 1 and min(counts) == 0, counts


@pytest.fixture(scope='module')
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sample')
    cfg = Config.fromfile(SAMPLE_CONFIG)
    return cfg, save_drawn(cfg, folder), folder


def test_metadata(sample):
    cfg, checkpoint, folder = sample
    differences = export(cfg, checkpoint, folder / 'new/out.onnx', opset=20)
    assert [path.name for path in (folder / 'new').iterdir()] == ['out.onnx']
    assert set(differences) == {'boxes', 'scores', 'masks', 'keypoints', 'keypoint_scores'}
    graph = onnx.load(folder / 'new/out.onnx')
    assert graph.opset_import[0].version == 20
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    content = json.loads(metadata.pop('description'))
    assert metadata == dict(format='multitask_refine', format_version='2')
    assert content['classes'] == ['person']
    assert content['keypoint_names'][0] == 'nose'
    assert content['skeleton'][0] == [15, 13]
    assert len(content['skeleton_colors']) == len(content['skeleton'])
    assert len(content['keypoint_colors']) == len(content['sigmas']) == 17
    assert content['flip_indices'][:3] == [0, 2, 1]
    assert content['resize'] == dict(type='Resize', scale=[192, 192], keep_ratio=True)
    np.testing.assert_allclose(content['mean'], [103.53, 116.28, 123.675])
    assert content['config'] == SAMPLE_CONFIG.name
    assert content['checkpoint'] == 'drawn.pth'
    assert len(content['checkpoint_sha256']) == 64
    expected = dict(
        image_backend='cv2',
        keypoint_shift=0.5,
        channel_order='bgr',
        kpt_thr=0.2,
        mask_alpha=0.4,
        mask_threshold=0.5,
        score_thr=0.05,
        max_per_img=100,
        opset=20,
        keypoint_ranking='bbox_keypoint',
        torch=torch.__version__,
    )
    assert expected.items() <= content.items()


@pytest.mark.parametrize(
    'options, message',
    [
        ({'model.test_cfg.rcnn.nms.type': 'soft_nms'}, "nms.type: expected 'nms'"),
        (
            {
                'model.test_cfg.rcnn.postprocess': [dict(type='MaskBoxRefiner')],
                'model.test_cfg.rcnn.roi_scale_factor': 1.2,
                f'{HEAD}keypoint_head.codec': dict(type='DarkRoIHeatmapCodec', method='dark'),
            },
            'rcnn.postprocess: expected .., .*roi_scale_factor: expected 1, .* found 1.2'
            '.*codec.type: expected RoIHeatmapCodec.* found DarkRoIHeatmapCodec',
        ),
        (
            {f'{HEAD}{part}.num_classes': 2 for part in ('bbox_head', 'mask_head')}
            | {'test_dataloader.dataset.metainfo': dict(classes=('a', 'b'))},
            'num_classes: expected 1',
        ),
        ({'model.neck.out_channels': 32}, 'not the weights of this config'),
        (
            {'model.backbone.dcn': dict(type='DCN', _delete_=True)},
            'cannot be exported: .*DeformConv',
        ),
        (
            {
                'test_dataloader.dataset.pipeline': [
                    dict(type='LoadImageFromFile'),
                    dict(type='PackMultitaskInputs'),
                ]
            },
            'expected one step between loading and packing',
        ),
    ],
)
def test_models_that_cannot_be_exported(sample, tmp_path, options, message):
    cfg = Config.fromfile(SAMPLE_CONFIG)
    cfg.merge_from_dict(options)
    checkpoint = sample[1]
    if 'weights' not in message:
        checkpoint = save_drawn(cfg, tmp_path)
    with pytest.raises(ExportError, match=f'(?s){message}'):
        export(cfg, checkpoint, tmp_path / 'out.onnx')
    assert not list(tmp_path.glob('out*'))


def test_unpaired_instances_are_a_mismatch():
    here, there = (
        dict(
            boxes=np.float32([[0, 0, 9, 9]] * count) + shift,
            scores=np.ones(count, np.float32),
            masks=np.zeros((count, 28, 28), np.float32),
            keypoints=np.zeros((count, 17, 2), np.float32),
            keypoint_scores=np.ones((count, 17), np.float32),
        )
        for count, shift in ((2, 0), (3, 50))
    )
    with pytest.raises(ExportError, match='boxes of 3 of 3 differ by more'):
        raise_if_different(compare_outputs(here, there))


def test_wrong_suffix_opset_and_missing_package(sample, monkeypatch):
    cfg, checkpoint, folder = sample
    with pytest.raises(ExportError, match='ends in .onnx'):
        export(cfg, checkpoint, folder / 'out.pth')
    with pytest.raises(ExportError, match=r'opset: expected one of \(19, 20'):
        export(cfg, checkpoint, folder / 'out.onnx', opset=17)
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(ExportError, match='pip install onnx'):
        export(cfg, checkpoint, folder / 'out.onnx')


def test_photos_at_real_scale(sample, tiny_coco):
    cfg, checkpoint, folder = sample
    export(cfg, checkpoint, folder / 'photos.onnx')
    session = load_session(folder / 'photos.onnx', backend='onnxruntime')
    model = load_model(cfg, checkpoint)
    photos = sorted((tiny_coco / 'train2017').glob('*.jpg'))[:10]
    images = [cv2.imread(str(path)) for path in photos]
    images.append(np.full((480, 640, 3), 127, np.uint8))
    assert len({image.shape for image in images}) > 4
    for array in images:
        image = torch.from_numpy(array).permute(2, 0, 1)
        # One of score_thr more or less is rounding, too.
        assert_same(run(session, image), predict_outputs(model, image), ties=0.1)
