"""The converters on small networks, from files in the sources' layouts.

What a file holds and where it belongs is written out here by hand, and not
taken from the converters.
"""

import hashlib
import logging
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmcv.ops import ModulatedDeformConv2dPack
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import CheckpointLoader, load_checkpoint

from multitask_refine.converters import conversion, weights_file
from multitask_refine.converters import detectron2 as detectron2_to_multitask
from multitask_refine.converters import mmdet as mmdet_to_multitask
from multitask_refine.converters import torchvision as torchvision_to_multitask
from multitask_refine.engine import load_checkpoint_file
from multitask_refine.ops import RefinedConv2d
from tests.conftest import CONFIGS, ROOT

pytestmark = pytest.mark.slow

REGULAR = 'r50_fpn_regular_4xb3-90k'
REFINED = 'r50_fpn_rb-h_4xb3-90k'
NORM = ('weight', 'bias', 'running_mean', 'running_var')
BLOCKS = (3, 4, 6, 3)
# The networks here have 4 channels in the stem, 8 in the FPN and the heads.
WIDTH, FPN, KEYPOINTS = 4, 8, 17
SMALL = f"""
_base_ = 'BASE'
model = dict(
    backbone=dict(base_channels={WIDTH}),
    neck=dict(in_channels=IN, out_channels={FPN}),
    rpn_head=dict(in_channels={FPN}, feat_channels={FPN}),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels={FPN}),
        instance_roi_extractor=dict(out_channels={FPN}),
        bbox_head=dict(in_channels={FPN}, fc_out_channels={FPN}),
        mask_head=dict(in_channels={FPN}, conv_out_channels={FPN}),
        keypoint_head=dict(in_channels={FPN}, conv_channels={FPN})))
"""


@pytest.fixture
def config(tmp_path):
    """Write a small config that inherits one of the project's."""

    def write(name=REGULAR, extra=''):
        levels = [32, 64, 128] if 'fpn-ms' in name else [16, 32, 64, 128]
        (base,) = CONFIGS.glob(f'*/multitask-rcnn_{name}_coco.py')
        text = SMALL.replace('IN', str(levels)).replace('BASE', str(base))
        path = tmp_path / 'small.py'
        path.write_text(text + extra)
        return str(path)

    return write


@pytest.fixture
def convert(tmp_path, capsys):
    """Run a converter and return weights, meta and its output."""

    def run(tool, config, source):
        out = tmp_path / 'new' / 'out.pth'
        out.unlink(missing_ok=True)  # of the test's conversion before
        assert tool.main([config, str(source), str(out)]) == 0
        content = load_checkpoint_file(str(out))
        assert set(content) == {'meta', 'state_dict'}
        return content['state_dict'], content['meta'], capsys.readouterr().out

    return run


@pytest.fixture
def refused(tmp_path, capsys):
    """Run a converter on an invalid file and return the message."""

    def run(tool, config, source):
        out = tmp_path / 'out.pth'
        with pytest.raises(SystemExit) as error:
            tool.main([config, str(source), str(out)])
        assert not list(tmp_path.glob('out.pth*'))
        assert 'Written' not in capsys.readouterr().out
        return str(error.value)

    return run


def _save(tmp_path, content, name='source.pth'):
    path = tmp_path / name
    if name.endswith('.pkl'):
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    return path


class _Numbers:
    """Layers of random numbers, no two alike."""

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.weights = {}

    def put(self, name, *shape):
        self.weights[name] = self.rng.normal(size=shape).astype(np.float32)

    def layer(self, name, *shape, bias=None):
        self.put(f'{name}.weight', *shape)
        self.put(f'{name}.bias', bias or shape[0])

    def norm(self, name, channels, *more):
        for part in (*NORM, *more):
            self.put(f'{name}.{part}', channels)


def _detectron2(
    classes=1,
    levels=(2, 3, 4, 5),
    anchors=3,
    offsets=0,
    blocks=BLOCKS,
    mask=False,
    keypoints=False,
):
    """The names of Detectron2's model zoo."""
    net = _Numbers()
    body = 'backbone.bottom_up'
    net.put(f'{body}.stem.conv1.weight', WIDTH, 3, 7, 7)
    net.norm(f'{body}.stem.conv1.norm', WIDTH)
    before = WIDTH
    for stage, count in zip((2, 3, 4, 5), blocks):
        inner = WIDTH * 2 ** (stage - 2)
        for i in range(count):
            block = f'{body}.res{stage}.{i}'
            if i == 0:
                net.put(f'{block}.shortcut.weight', 4 * inner, before, 1, 1)
                net.norm(f'{block}.shortcut.norm', 4 * inner)
            shapes = ((inner, before, 1), (inner, inner, 3), (4 * inner, inner, 1))
            for n, (to, of, side) in enumerate(shapes, 1):
                net.put(f'{block}.conv{n}.weight', to, of, side, side)
                net.norm(f'{block}.conv{n}.norm', to)
            if offsets and stage > 2:
                net.layer(f'{block}.conv2_offset', offsets, inner, 3, 3)
            before = 4 * inner
    for level in levels:
        net.layer(f'backbone.fpn_lateral{level}', FPN, WIDTH * 2**level, 1, 1)
        net.layer(f'backbone.fpn_output{level}', FPN, FPN, 3, 3)
    rpn = 'proposal_generator.rpn_head'
    net.layer(f'{rpn}.conv', FPN, FPN, 3, 3)
    net.layer(f'{rpn}.objectness_logits', anchors, FPN, 1, 1)
    net.layer(f'{rpn}.anchor_deltas', 4 * anchors, FPN, 1, 1)
    for i in range(5):
        net.put(f'proposal_generator.anchor_generator.cell_anchors.{i}', 3, 4)
    net.layer('roi_heads.box_head.fc1', FPN, FPN * 49)
    net.layer('roi_heads.box_head.fc2', FPN, FPN)
    net.layer('roi_heads.box_predictor.cls_score', classes + 1, FPN)
    net.layer('roi_heads.box_predictor.bbox_pred', 4 * classes, FPN)
    if mask:
        for i in (1, 2, 3, 4):
            net.layer(f'roi_heads.mask_head.mask_fcn{i}', FPN, FPN, 3, 3)
        net.layer('roi_heads.mask_head.deconv', FPN, FPN, 2, 2)
        net.layer('roi_heads.mask_head.predictor', classes, FPN, 1, 1)
    if keypoints:
        for i in range(1, 9):
            net.layer(f'roi_heads.keypoint_head.conv_fcn{i}', FPN, FPN, 3, 3)
        net.layer('roi_heads.keypoint_head.score_lowres', FPN, KEYPOINTS, 4, 4, bias=KEYPOINTS)
    for name in ('pixel_mean', 'pixel_std'):
        net.put(name, 3, 1, 1)
    return net.weights


def _torchvision(classes=1, mask=False, keypoints=False, new=True):
    """The names of today's torchvision, or those of the published files."""
    net = _Numbers()
    net.put('backbone.body.conv1.weight', WIDTH, 3, 7, 7)
    net.norm('backbone.body.bn1', WIDTH)
    _layers(net, 'backbone.body.')
    inside = '.0' if new else ''
    for i in range(4):
        net.layer(f'backbone.fpn.inner_blocks.{i}{inside}', FPN, 4 * WIDTH * 2**i, 1, 1)
        net.layer(f'backbone.fpn.layer_blocks.{i}{inside}', FPN, FPN, 3, 3)
    net.layer('rpn.head.conv' + 2 * inside, FPN, FPN, 3, 3)
    net.layer('rpn.head.cls_logits', 3, FPN, 1, 1)
    net.layer('rpn.head.bbox_pred', 12, FPN, 1, 1)
    net.layer('roi_heads.box_head.fc6', FPN, FPN * 49)
    net.layer('roi_heads.box_head.fc7', FPN, FPN)
    net.layer('roi_heads.box_predictor.cls_score', classes + 1, FPN)
    net.layer('roi_heads.box_predictor.bbox_pred', 4 * (classes + 1), FPN)
    if mask:
        for i in range(4):
            name = f'{i}.0' if new else f'mask_fcn{i + 1}'
            net.layer(f'roi_heads.mask_head.{name}', FPN, FPN, 3, 3)
        net.layer('roi_heads.mask_predictor.conv5_mask', FPN, FPN, 2, 2)
        net.layer('roi_heads.mask_predictor.mask_fcn_logits', classes + 1, FPN, 1, 1)
    if keypoints:
        for i in range(8):
            net.layer(f'roi_heads.keypoint_head.{2 * i}', FPN, FPN, 3, 3)
        net.layer(
            'roi_heads.keypoint_predictor.kps_score_lowres', FPN, KEYPOINTS, 4, 4, bias=KEYPOINTS
        )
    return {name: torch.from_numpy(value) for name, value in net.weights.items()}


def _layers(net, prefix, *more, offsets=0):
    """ResNet-50's four stages as torchvision and mmdet name them."""
    before = WIDTH
    for stage, count in enumerate(BLOCKS):
        inner = WIDTH * 2**stage
        for i in range(count):
            block = f'{prefix}layer{stage + 1}.{i}'
            shapes = ((inner, before, 1), (inner, inner, 3), (4 * inner, inner, 1))
            for n, (to, of, side) in enumerate(shapes, 1):
                net.put(f'{block}.conv{n}.weight', to, of, side, side)
                net.norm(f'{block}.bn{n}', to, *more)
            if offsets and stage:
                net.layer(f'{block}.conv2.conv_offset', offsets, inner, 3, 3)
            if i == 0:
                net.put(f'{block}.downsample.0.weight', 4 * inner, before, 1, 1)
                net.norm(f'{block}.downsample.1', 4 * inner, *more)
            before = 4 * inner


def _mmdet(classes=80, offsets=0):
    """The names of mmdet's Mask R-CNN."""
    net = _Numbers()
    net.put('backbone.conv1.weight', WIDTH, 3, 7, 7)
    net.norm('backbone.bn1', WIDTH)
    _layers(net, 'backbone.', offsets=offsets)
    for i in range(4):
        net.layer(f'neck.lateral_convs.{i}.conv', FPN, 4 * WIDTH * 2**i, 1, 1)
        net.layer(f'neck.fpn_convs.{i}.conv', FPN, FPN, 3, 3)
    net.layer('rpn_head.rpn_conv', FPN, FPN, 3, 3)
    net.layer('rpn_head.rpn_cls', 3, FPN, 1, 1)
    net.layer('rpn_head.rpn_reg', 12, FPN, 1, 1)
    net.layer('roi_head.bbox_head.fc_cls', classes + 1, FPN)
    net.layer('roi_head.bbox_head.fc_reg', 4 * classes, FPN)
    net.layer('roi_head.bbox_head.shared_fcs.0', FPN, FPN * 49)
    net.layer('roi_head.bbox_head.shared_fcs.1', FPN, FPN)
    for i in range(4):
        net.layer(f'roi_head.mask_head.convs.{i}.conv', FPN, FPN, 3, 3)
    net.layer('roi_head.mask_head.upsample', FPN, FPN, 2, 2)
    net.layer('roi_head.mask_head.conv_logits', classes, FPN, 1, 1)
    return {name: torch.from_numpy(value) for name, value in net.weights.items()}


def _same(new, source, pairs):
    for old, name in pairs.items():
        np.testing.assert_array_equal(new[name], source[old], err_msg=name)


def _all_arrived(new, source, but=()):
    """Each weight of the source is somewhere among the new ones."""
    arrived = {np.asarray(value).tobytes() for value in new.values()}
    for name, value in source.items():
        if not name.startswith(but):
            assert np.asarray(value).tobytes() in arrived, name


DETECTRON2_PLACES = {
    'backbone.bottom_up.stem.conv1.weight': 'backbone.conv1.weight',
    'backbone.bottom_up.stem.conv1.norm.running_var': 'backbone.bn1.running_var',
    'backbone.bottom_up.res2.0.shortcut.weight': 'backbone.layer1.0.downsample.0.weight',
    'backbone.bottom_up.res2.0.shortcut.norm.bias': 'backbone.layer1.0.downsample.1.bias',
    'backbone.bottom_up.res4.5.conv3.weight': 'backbone.layer3.5.conv3.weight',
    'backbone.bottom_up.res5.2.conv2.norm.running_mean': 'backbone.layer4.2.bn2.running_mean',
    'backbone.fpn_lateral2.weight': 'neck.lateral_convs.0.conv.weight',
    'backbone.fpn_lateral5.bias': 'neck.lateral_convs.3.conv.bias',
    'backbone.fpn_output3.weight': 'neck.fpn_convs.1.conv.weight',
    'proposal_generator.rpn_head.conv.weight': 'rpn_head.rpn_conv.weight',
    'proposal_generator.rpn_head.objectness_logits.bias': 'rpn_head.rpn_cls.bias',
    'proposal_generator.rpn_head.anchor_deltas.weight': 'rpn_head.rpn_reg.weight',
    'roi_heads.box_head.fc1.weight': 'roi_head.bbox_head.shared_fcs.0.weight',
    'roi_heads.box_head.fc2.bias': 'roi_head.bbox_head.shared_fcs.1.bias',
}


def test_detectron2_keypoints(config, convert, tmp_path):
    source = _detectron2(keypoints=True)
    path = _save(tmp_path, dict(model=source, __author__='x'), 'zoo.pkl')
    new, meta, said = convert(detectron2_to_multitask, config(), path)
    _same(
        new,
        source,
        {
            **DETECTRON2_PLACES,
            'roi_heads.box_predictor.cls_score.weight': 'roi_head.bbox_head.fc_cls.weight',
            'roi_heads.box_predictor.bbox_pred.bias': 'roi_head.bbox_head.fc_reg.bias',
            'roi_heads.keypoint_head.conv_fcn1.weight': 'roi_head.keypoint_head.convs.0.conv.weight',  # noqa: E501
            'roi_heads.keypoint_head.conv_fcn8.bias': 'roi_head.keypoint_head.convs.7.conv.bias',
            'roi_heads.keypoint_head.score_lowres.weight': 'roi_head.keypoint_head.heatmap_pred.weight',  # noqa: E501
        },
    )
    _all_arrived(new, source, ('proposal_generator.anchor', 'pixel'))
    assert not new['backbone.layer4.2.bn3.num_batches_tracked'].any()
    assert not new['roi_head.keypoint_head.offset_pred.weight'].any()
    assert meta['converted_from'] == 'zoo.pkl'
    assert meta['source_kind'] == 'Detectron2'
    assert meta['config'] == 'small.py'
    assert meta['source_sha256'] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(meta['untrained']) == 2 + 12
    assert {
        'roi_head.keypoint_head.offset_pred.bias',
        'roi_head.mask_head.convs.0.conv.weight',
    } <= set(meta['untrained'])
    # 53 convolutions of ResNet-50, each with 4 numbers of its norm.
    for line in (
        'backbone: 265',
        'neck: 16',
        'rpn_head: 6',
        'box head: 8',
        'keypoint head: 18',
        'counters of batch norm: 0 (53):',
    ):
        assert f'  {line}' in said
    assert re.search(
        r'  the config states the anchors \(5\):\n'
        r' +proposal_generator.anchor_generator.cell_anchors.0',
        said,
    )
    assert re.search(r'data_preprocessor \(2\):\n +pixel_mean', said)
    assert re.search(r'starts at zero.* \(2\):\n .*offset_pred', said)
    assert 'the source has no mask head: it must be trained (12):' in said
    assert 'mask head: 12' not in said
    assert 'ignores the others' not in said


def test_result_is_loaded_strictly(config, convert, tmp_path):
    """As tools/test.py does."""
    path = _save(tmp_path, _detectron2(keypoints=True), 'zoo.pkl')
    new, _, _ = convert(detectron2_to_multitask, config(REFINED), path)
    _, network = conversion.build_network(config(REFINED))
    load_checkpoint(network, str(tmp_path / 'new/out.pth'), strict=True)
    state = network.state_dict()
    assert list(state) == list(new)
    for name, value in state.items():
        assert value.dtype == new[name].dtype
        assert torch.equal(value, new[name]), name


PERSON_HEAD = """
model['roi_head']['bbox_head'].update(
    type='PersonBBoxHead', num_other_classes={})
"""


def test_detectron2_classes(config, convert, tmp_path):
    source = _detectron2(80, mask=True)
    path = _save(tmp_path, dict(model=source), 'zoo.pkl')
    scores = source['roi_heads.box_predictor.cls_score.weight']
    deltas = source['roi_heads.box_predictor.bbox_pred.weight']
    logits = source['roi_heads.mask_head.predictor.bias']
    new, _, said = convert(detectron2_to_multitask, config(), path)
    np.testing.assert_array_equal(new['roi_head.bbox_head.fc_cls.weight'], scores[[0, 80]])
    np.testing.assert_array_equal(new['roi_head.bbox_head.fc_reg.weight'], deltas[:4])
    np.testing.assert_array_equal(new['roi_head.mask_head.conv_logits.bias'], logits[:1])
    _same(
        new,
        source,
        {
            'roi_heads.mask_head.mask_fcn4.weight': 'roi_head.mask_head.convs.3.conv.weight',
            'roi_heads.mask_head.deconv.bias': 'roi_head.mask_head.upsample.bias',
        },
    )
    assert 'of 80 classes the config has only the person' in said
    assert 'num_other_classes=79' in said
    new, _, said = convert(detectron2_to_multitask, config(extra=PERSON_HEAD.format(79)), path)
    np.testing.assert_array_equal(new['roi_head.bbox_head.fc_cls.weight'], scores)
    np.testing.assert_array_equal(new['roi_head.bbox_head.fc_reg.weight'], deltas[:4])
    assert 'ignores the others' not in said


SIZE_FIRST = "model['rpn_head']['anchor_generator'] = dict(scale_major=False)"


@pytest.mark.parametrize(
    'extra, order',
    [('', [0, 3, 1, 4, 2, 5]), (SIZE_FIRST, [0, 1, 2, 3, 4, 5])],
    ids=['ratio first', 'size first'],
)
def test_detectron2_levels_and_anchors_of_another_pyramid(config, convert, tmp_path, extra, order):
    """Levels 3 to 5 with two sizes of anchors, which Detectron2 lists by
    size, then ratio, and mmdet by ratio, then size."""
    source = _detectron2(levels=(3, 4, 5), anchors=6, keypoints=True)
    new, _, _ = convert(
        detectron2_to_multitask,
        config('r50_fpn-ms_regular_4xb3-90k', extra),
        _save(tmp_path, source, 'zoo.pkl'),
    )
    _same(
        new,
        source,
        {
            'backbone.fpn_lateral3.weight': 'neck.lateral_convs.0.conv.weight',
            'backbone.fpn_output5.bias': 'neck.fpn_convs.2.conv.bias',
        },
    )
    rpn = 'proposal_generator.rpn_head'
    np.testing.assert_array_equal(
        new['rpn_head.rpn_cls.weight'], source[f'{rpn}.objectness_logits.weight'][order]
    )
    deltas = source[f'{rpn}.anchor_deltas.bias'].reshape(6, 4)[order]
    np.testing.assert_array_equal(new['rpn_head.rpn_reg.bias'], deltas.reshape(24))


def test_anchors_of_a_cell_are_in_the_order_that_the_converter_says(config):
    """Ratio first: small and large, then the next ratio."""
    _, network = conversion.build_network(config('r50_fpn-ms_regular_4xb3-90k'))
    base = network.rpn_head.prior_generator.base_anchors[0]
    sides = base[:, 2:] - base[:, :2]
    areas = sides.prod(1).sqrt()
    torch.testing.assert_close(areas, torch.tensor([32.0, 64.0] * 3))
    torch.testing.assert_close(
        sides[:, 1] / sides[:, 0], torch.tensor([0.5, 0.5, 1.0, 1.0, 2.0, 2.0])
    )


def test_detectron2_deformable(config, convert, tmp_path):
    source = _detectron2(offsets=18, keypoints=True)
    new, meta, said = convert(
        detectron2_to_multitask, config(REFINED), _save(tmp_path, source, 'zoo.pkl')
    )
    _same(
        new,
        source,
        {
            'backbone.bottom_up.res3.0.conv2_offset.weight': 'backbone.layer2.0.conv2.conv_offset.weight',  # noqa: E501
            'backbone.bottom_up.res5.2.conv2_offset.bias': 'backbone.layer4.2.conv2.conv_offset.bias',  # noqa: E501
            'backbone.bottom_up.res5.2.conv2.weight': 'backbone.layer4.2.conv2.weight',
        },
    )
    head = 'roi_head.keypoint_head.convs.0.conv.conv_offset.weight'
    assert head in meta['untrained'] and not new[head].any()
    assert 'backbone.layer2.0.conv2.conv_offset.weight' not in said


MODULATED = """
refined = dict(modulated=True)
model['backbone']['dcn'] = refined
model['roi_head']['keypoint_head']['conv_cfg'] = refined
"""


def test_masks_of_modulated_convolutions_are_rescaled(config, convert, tmp_path):
    """Elsewhere they reach to 1, here to 2; where the source has none, the
    factor is 1 and the weights stay."""
    source = _detectron2(offsets=27, keypoints=True)
    last = 'backbone.bottom_up.res5.2.conv2_offset'
    for kind in ('weight', 'bias'):
        del source[f'{last}.{kind}']
    new, _, _ = convert(
        detectron2_to_multitask, config(REFINED, MODULATED), _save(tmp_path, source, 'zoo.pkl')
    )
    np.testing.assert_array_equal(
        2 * new['backbone.layer2.1.conv2.weight'], source['backbone.bottom_up.res3.1.conv2.weight']
    )
    _same(
        new,
        source,
        {
            'backbone.bottom_up.res5.2.conv2.weight': 'backbone.layer4.2.conv2.weight',
            'backbone.bottom_up.res2.0.conv2.weight': 'backbone.layer1.0.conv2.weight',
            'backbone.bottom_up.res3.1.conv2_offset.weight': 'backbone.layer2.1.conv2.conv_offset.weight',  # noqa: E501
            'roi_heads.keypoint_head.conv_fcn1.weight': 'roi_head.keypoint_head.convs.0.conv.weight',  # noqa: E501
        },
    )


@pytest.mark.parametrize('groups', [1, 2])
def test_modulated_convolution_computes_what_mmcv_does(groups):
    """Half the weight, the same bias, the rows of the offsets as they are."""
    torch.manual_seed(0)
    theirs = ModulatedDeformConv2dPack(4, 3, 3, padding=1, deform_groups=groups)
    ours = RefinedConv2d(4, 3, 3, padding=1, deform_groups=groups, modulated=True)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter)
    state = theirs.state_dict()
    state['weight'] = state['weight'] / 2
    ours.load_state_dict(state)
    x = torch.randn(2, 4, 6, 7)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)


TORCHVISION_PLACES = {
    'backbone.body.conv1.weight': 'backbone.conv1.weight',
    'backbone.body.bn1.running_mean': 'backbone.bn1.running_mean',
    'backbone.body.layer1.0.downsample.0.weight': 'backbone.layer1.0.downsample.0.weight',
    'backbone.body.layer3.5.bn2.running_var': 'backbone.layer3.5.bn2.running_var',
    'backbone.body.layer4.2.conv3.weight': 'backbone.layer4.2.conv3.weight',
    'rpn.head.cls_logits.weight': 'rpn_head.rpn_cls.weight',
    'rpn.head.bbox_pred.bias': 'rpn_head.rpn_reg.bias',
    'roi_heads.box_head.fc6.weight': 'roi_head.bbox_head.shared_fcs.0.weight',
    'roi_heads.box_head.fc7.bias': 'roi_head.bbox_head.shared_fcs.1.bias',
}
TORCHVISION_NAMES = {
    True: {
        'backbone.fpn.inner_blocks.0.0.weight': 'neck.lateral_convs.0.conv.weight',
        'backbone.fpn.layer_blocks.3.0.bias': 'neck.fpn_convs.3.conv.bias',
        'rpn.head.conv.0.0.weight': 'rpn_head.rpn_conv.weight',
    },
    False: {
        'backbone.fpn.inner_blocks.0.weight': 'neck.lateral_convs.0.conv.weight',
        'backbone.fpn.layer_blocks.3.bias': 'neck.fpn_convs.3.conv.bias',
        'rpn.head.conv.weight': 'rpn_head.rpn_conv.weight',
    },
}


@pytest.mark.parametrize('new_names', [True, False])
def test_torchvision_keypoints(config, convert, tmp_path, new_names):
    source = _torchvision(keypoints=True, new=new_names)
    new, meta, said = convert(torchvision_to_multitask, config(), _save(tmp_path, source))
    _same(
        new,
        source,
        {
            **TORCHVISION_PLACES,
            **TORCHVISION_NAMES[new_names],
            'roi_heads.keypoint_head.0.weight': 'roi_head.keypoint_head.convs.0.conv.weight',
            'roi_heads.keypoint_head.14.bias': 'roi_head.keypoint_head.convs.7.conv.bias',
            'roi_heads.keypoint_predictor.kps_score_lowres.bias': 'roi_head.keypoint_head.heatmap_pred.bias',  # noqa: E501
        },
    )
    _all_arrived(new, source, 'roi_heads.box_predictor')
    box = 'roi_heads.box_predictor'
    assert torch.equal(
        new['roi_head.bbox_head.fc_cls.weight'], source[f'{box}.cls_score.weight'][[1, 0]]
    )
    assert torch.equal(new['roi_head.bbox_head.fc_reg.bias'], source[f'{box}.bbox_pred.bias'][4:8])
    assert meta['source_kind'] == 'torchvision'
    assert 'keypoint head: 18' in said
    assert 'ignores the others' not in said


@pytest.mark.parametrize('new_names', [True, False])
def test_torchvision_masks(config, convert, tmp_path, new_names):
    """91 rows: the background, the person, 89 others."""
    source = _torchvision(90, mask=True, new=new_names)
    path = _save(tmp_path, source)
    box = 'roi_heads.box_predictor'
    mask = 'roi_heads.mask_predictor.mask_fcn_logits'
    new, _, said = convert(torchvision_to_multitask, config(), path)
    assert torch.equal(
        new['roi_head.bbox_head.fc_cls.bias'], source[f'{box}.cls_score.bias'][[1, 0]]
    )
    assert torch.equal(
        new['roi_head.bbox_head.fc_reg.weight'], source[f'{box}.bbox_pred.weight'][4:8]
    )
    assert torch.equal(new['roi_head.mask_head.conv_logits.weight'], source[f'{mask}.weight'][1:2])
    first = '0.0' if new_names else 'mask_fcn1'
    _same(
        new,
        source,
        {
            f'roi_heads.mask_head.{first}.weight': 'roi_head.mask_head.convs.0.conv.weight',
            'roi_heads.mask_predictor.conv5_mask.weight': 'roi_head.mask_head.upsample.weight',
        },
    )
    assert 'of 90 classes' in said and 'mask head: 12' in said
    new, _, _ = convert(torchvision_to_multitask, config(extra=PERSON_HEAD.format(89)), path)
    rows = source[f'{box}.cls_score.weight']
    assert torch.equal(new['roi_head.bbox_head.fc_cls.weight'], torch.cat([rows[1:], rows[:1]]))


def test_settings_that_the_weights_are_not_for_are_told(config, convert, tmp_path):
    path = _save(tmp_path, _torchvision(keypoints=True))
    _, _, said = convert(torchvision_to_multitask, config(), path)
    for note in (
        "backbone.style is 'caffe' in the config, but the weights are for 'pytorch'",
        'data_preprocessor.bgr_to_rgb is False',
        'data_preprocessor.mean is [103.53, 116.28, 123.675]',
        'bbox_roi_extractor.roi_layer.aligned is not set',
        "keypoint_head.type is 'KeypointOffsetHead'",
    ):
        assert note in said
    _, _, said = convert(torchvision_to_multitask, config('r50_fpn_torchvision_8xb2-90k'), path)
    assert 'Note' not in said
    path = _save(tmp_path, _detectron2(keypoints=True), 'zoo.pkl')
    _, _, said = convert(detectron2_to_multitask, config('r50_fpn_detectron2_8xb2-90k'), path)
    assert 'Note' not in said
    cfg = (
        "model = dict(backbone=dict(style='pytorch'), data_preprocessor="
        'dict(bgr_to_rgb=False, mean=[\n    103.53,\n    116.28,\n'
        '    123.675,\n], std=[2.0, 1.0, 1.0]))'
    )
    path = _save(tmp_path, dict(meta=dict(cfg=cfg), state_dict=_mmdet()))
    _, _, said = convert(mmdet_to_multitask, config(), path)
    assert "backbone.style is 'caffe'" in said
    assert 'std is [1.0, 1.0, 1.0] in the config' in said
    assert '[2.0, 1.0, 1.0]' in said and 'mean' not in said


@pytest.mark.parametrize(
    'names',
    [
        dict(dataset_meta=dict(classes=('cat', 'person', 'dog'))),
        dict(dataset_meta=dict(CLASSES=['cat', 'person', 'dog'])),
        dict(CLASSES=('cat', 'person', 'dog'), mmdet_version='2.28.0'),
    ],
    ids=['mmdet 3', 'early mmdet 3', 'mmdet 2'],
)
def test_mmdet_says_which_class_is_the_person(config, convert, tmp_path, names):
    source = _mmdet(3)
    path = _save(tmp_path, dict(meta=names, state_dict=source))
    new, meta, _ = convert(mmdet_to_multitask, config(), path)
    head = 'roi_head.bbox_head'
    rows = source[f'{head}.fc_cls.weight']
    assert torch.equal(new[f'{head}.fc_cls.weight'], rows[[1, 3]])
    assert torch.equal(new[f'{head}.fc_reg.bias'], source[f'{head}.fc_reg.bias'][4:8])
    mask = 'roi_head.mask_head.conv_logits.weight'
    assert torch.equal(new[mask], source[mask][1:2])
    _all_arrived(
        new, source, (f'{head}.fc_cls', f'{head}.fc_reg', 'roi_head.mask_head.conv_logits')
    )
    assert torch.equal(new['backbone.layer3.5.bn2.weight'], source['backbone.layer3.5.bn2.weight'])
    assert meta['source_kind'] == 'mmdet'
    new, _, _ = convert(mmdet_to_multitask, config(extra=PERSON_HEAD.format(2)), path)
    assert torch.equal(new[f'{head}.fc_cls.weight'], rows[[1, 0, 2, 3]])


# Layers that may have rows for all classes together, and how many.
SHARED = {'roi_head.bbox_head.fc_reg': 4, 'roi_head.mask_head.conv_logits': 1}


def test_rows_that_all_classes_share_are_taken(config, convert, tmp_path):
    source = _mmdet(3)
    for layer, rows in SHARED.items():
        for kind in ('weight', 'bias'):
            source[f'{layer}.{kind}'] = source[f'{layer}.{kind}'][:rows]
    meta = dict(CLASSES=('cat', 'person', 'dog'))
    new, _, _ = convert(
        mmdet_to_multitask, config(), _save(tmp_path, dict(meta=meta, state_dict=source))
    )
    for layer in SHARED:
        for kind in ('weight', 'bias'):
            name = f'{layer}.{kind}'
            assert torch.equal(new[name], source[name]), name


def test_mmdet_without_names_has_the_classes_of_coco(config, convert, refused, tmp_path):
    source = _mmdet(80)
    new, _, _ = convert(mmdet_to_multitask, config(), _save(tmp_path, source))
    assert torch.equal(
        new['roi_head.bbox_head.fc_cls.bias'], source['roi_head.bbox_head.fc_cls.bias'][[0, 80]]
    )
    message = refused(mmdet_to_multitask, config(), _save(tmp_path, _mmdet(20)))
    assert '20 classes' in message and 'expected 1 or 80' in message


def test_mmdet_of_other_classes_or_of_old_is_refused(config, refused, tmp_path):
    for meta, found in (
        (dict(dataset_meta=dict(classes=('cat', 'dog'))), 'class named person, found cat, dog'),
        (
            dict(mmdet_version='1.2.0', CLASSES=('person',)),
            r'mmdet 1\.2\.0.*background was the first',
        ),
        (dict(dataset_meta=dict(classes=('person', 'a'))), '80 classes.*expected 2'),
    ):
        path = _save(tmp_path, dict(meta=meta, state_dict=_mmdet(80)))
        assert re.search(found, refused(mmdet_to_multitask, config(), path))


def test_logging_goes_on_after_a_config_that_cannot_be_built(tmp_path):
    broken = tmp_path / 'broken.py'
    broken.write_text("model = dict(type='Nothing')\n")
    with pytest.raises(KeyError, match='Nothing'):
        conversion.build_network(str(broken))
    assert MMLogger.get_current_instance().isEnabledFor(logging.INFO)
    assert logging.getLogger('other').manager.disable == logging.NOTSET


OWN = dict(cfg="model = dict(type='MultitaskRCNN')")


def test_own_regular_into_refined(config, convert, tmp_path):
    _, network = conversion.build_network(config(REGULAR))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    source = network.state_dict()
    path = _save(tmp_path, dict(meta=OWN, state_dict=source))
    new, meta, _ = convert(mmdet_to_multitask, config(REFINED), path)
    assert meta['source_kind'] == 'multitask_refine'
    for name, value in source.items():
        assert torch.equal(new[name], value), name
    added = new.keys() - source
    assert len(added) == 2 * (13 + 8)
    for name in added:
        assert 'conv_offset' in name and not new[name].any()
    assert set(meta['untrained']) == added


@pytest.mark.parametrize(
    'meta, factor',
    [
        (OWN, 1),
        (dict(converted_from='x.pkl'), 1),
        (dict(cfg="model = dict(type='MaskRCNN')"), 2),
        (dict(mmdet_version='2.28.0'), 2),
    ],
    ids=['own', 'converted', 'mmdet 3', 'mmdet 2'],
)
def test_own_modulated_weights_are_not_halved(config, convert, tmp_path, meta, factor):
    source = _mmdet(1, offsets=27)
    path = _save(tmp_path, dict(meta=meta, state_dict=source))
    new, _, _ = convert(mmdet_to_multitask, config(REFINED, MODULATED), path)
    name = 'backbone.layer2.0.conv2.weight'
    assert torch.equal(factor * new[name], source[name])
    name = 'backbone.layer2.0.conv2.conv_offset.weight'
    assert torch.equal(new[name], source[name])
    name = 'backbone.layer1.0.conv2.weight'
    assert torch.equal(new[name], source[name])


def test_modulated_weights_of_unknown_origin_are_refused(config, refused, tmp_path):
    message = refused(
        mmdet_to_multitask, config(REFINED, MODULATED), _save(tmp_path, _mmdet(1, offsets=27))
    )
    assert 'backbone.layer2.0.conv2 is a modulated' in message
    assert 'meta' in message


def test_what_was_untrained_stays_so_through_a_second_conversion(config, convert, tmp_path):
    path = _save(tmp_path, _detectron2(keypoints=True), 'zoo.pkl')
    _, before, _ = convert(detectron2_to_multitask, config(REFINED), path)
    (tmp_path / 'new/out.pth').rename(tmp_path / 'first.pth')
    _, meta, said = convert(mmdet_to_multitask, config(REFINED), tmp_path / 'first.pth')
    assert meta['untrained'] == before['untrained']
    assert 'Not trained when the source was converted:' in said


def test_rows_of_own_classes_stay_in_order(config, convert, tmp_path):
    """The person is first, whatever the data set's classes are."""
    source = _mmdet(5)
    for layer, rows in SHARED.items():
        for kind in ('weight', 'bias'):
            source[f'{layer}.{kind}'] = source[f'{layer}.{kind}'][:rows]
    meta = dict(OWN, dataset_meta=dict(classes=('person',)))
    path = _save(tmp_path, dict(meta=meta, state_dict=source))
    new, _, _ = convert(mmdet_to_multitask, config(extra=PERSON_HEAD.format(4)), path)
    for name, value in source.items():
        assert torch.equal(new[name], value), name
    new, _, _ = convert(mmdet_to_multitask, config(), path)
    name = 'roi_head.bbox_head.fc_cls.weight'
    assert torch.equal(new[name], source[name][[0, 5]])


def test_head_that_the_config_lacks_is_left_out_and_told(config, convert, tmp_path):
    path = _save(tmp_path, _detectron2(mask=True, keypoints=True), 'zoo.pkl')
    new, meta, said = convert(
        detectron2_to_multitask, config(extra="model['roi_head']['mask_head'] = None\n"), path
    )
    assert re.search(
        r'the config has no mask head \(12\):\n'
        r' +roi_heads.mask_head.mask_fcn1.weight',
        said,
    )
    assert '... and 2 more' in said
    assert not any('mask_head' in name for name in new)
    assert all('offset_pred' in name for name in meta['untrained'])


def test_wrappings_are_taken_off(config, convert, tmp_path):
    source = _torchvision(keypoints=True)
    wrapped = {f'module.{name}': value.half() for name, value in source.items()}
    path = _save(tmp_path, dict(model=wrapped, epoch=3), 'source.pt')
    new, _, _ = convert(torchvision_to_multitask, config(), path)
    weight = new['backbone.conv1.weight']
    assert weight.dtype == torch.float32
    assert torch.equal(weight, source['backbone.body.conv1.weight'].half().float())


def test_big_endian_arrays_are_read(config, convert, tmp_path):
    source = {name: value.astype('>f4') for name, value in _detectron2(keypoints=True).items()}
    new, _, _ = convert(detectron2_to_multitask, config(), _save(tmp_path, source, 'zoo.pkl'))
    _same(new, source, DETECTRON2_PLACES)


def test_start_of_new_parts_is_the_same_every_time(config, convert, tmp_path):
    path = _save(tmp_path, _detectron2(mask=True), 'zoo.pkl')
    first, _, _ = convert(detectron2_to_multitask, config(), path)
    torch.rand(5)
    second, _, _ = convert(detectron2_to_multitask, config(), path)
    name = 'roi_head.keypoint_head.convs.3.conv.weight'
    assert first[name].std() > 0 and torch.equal(first[name], second[name])


def test_nothing_is_downloaded(config, convert, tmp_path, monkeypatch):
    path = config(
        extra="""
model['roi_head']['mask_head']['init_cfg'] = dict(
    type='Pretrained', checkpoint='torchvision://resnet50')
"""
    )
    assert str(Config.fromfile(path).model).count('Pretrained') == 2

    def download(*_, **__):
        raise AssertionError('a download')

    monkeypatch.setattr(CheckpointLoader, 'load_checkpoint', download)
    source = _save(tmp_path, _detectron2(keypoints=True), 'zoo.pkl')
    convert(detectron2_to_multitask, path, source)


R101 = "model['backbone']['depth'] = 101\n"


def _change(weights, drop=(), **more):
    kept = {name: value for name, value in weights.items() if not name.startswith(drop)}
    return {**kept, **more}


def _zeros(*shape):
    return torch.zeros(shape)


def _array(*shape):
    return np.zeros(shape, np.float32)


# What is wrong: converter, change of the config, weights, message.
REFUSALS = {
    'deeper source': (
        detectron2_to_multitask,
        '',
        lambda: _detectron2(blocks=(3, 4, 23, 3)),
        r'of the source, without a place.* \(255\):\n'
        r' +backbone\.bottom_up\.res4\.6\.(.*\n)+ +\.\.\. and 245 more\n'
        'Expected an R-CNN of Detectron2 with the ResNet',
    ),
    'deeper config': (
        detectron2_to_multitask,
        R101,
        _detectron2,
        r'of the config.s network, not in the source \(255\):\n'
        r' +backbone\.layer3\.6\.conv1\.weight',
    ),
    'shape': (
        detectron2_to_multitask,
        '',
        lambda: _change(_detectron2(), **{'roi_heads.box_head.fc2.weight': _array(9, 8)}),
        r'another shape.* \(1\):\n'
        r' +roi_heads\.box_head\.fc2\.weight \(9, 8\) -> '
        r'roi_head\.bbox_head\.shared_fcs\.1\.weight \(8, 8\)',
    ),
    'number of axes': (
        detectron2_to_multitask,
        '',
        lambda: _change(_detectron2(), **{'roi_heads.box_predictor.cls_score.bias': _array()}),
        r'cls_score\.bias \(\) -> roi_head\.bbox_head\.fc_cls\.bias \(2,\)',
    ),
    'other pyramid': (
        detectron2_to_multitask,
        '',
        lambda: _detectron2(levels=(3, 4, 5)),
        r'fpn_lateral3\.weight \(8, 32, 1, 1\) -> .*\(8, 16, 1, 1\)',
    ),
    'refined source': (
        detectron2_to_multitask,
        '',
        lambda: _detectron2(offsets=18),
        r'without a place.* \(26\):\n'
        r' +backbone\.bottom_up\.res3\.0\.conv2_offset\.weight',
    ),
    'unknown layer': (
        detectron2_to_multitask,
        '',
        lambda: _change(_detectron2(), **{'roi_heads.box_head.fc3.weight': _array(2)}),
        r'without a place.* \(1\):\n +roi_heads\.box_head\.fc3\.weight',
    ),
    'larger head': (
        detectron2_to_multitask,
        '',
        lambda: _change(
            _detectron2(mask=True), **{'roi_heads.mask_head.mask_fcn5.weight': _array(8, 8, 3, 3)}
        ),
        r'without a place.* \(1\):\n +roi_heads\.mask_head\.mask_fcn5',
    ),
    'half of a head': (
        detectron2_to_multitask,
        '',
        lambda: _change(_detectron2(mask=True), 'roi_heads.mask_head.deconv'),
        r'not in the source \(2\):\n'
        r' +roi_head\.mask_head\.upsample\.weight',
    ),
    'half of the offsets': (
        mmdet_to_multitask,
        'model["backbone"]["dcn"] = dict('
        'type="RefinedConv2d")\nmodel["backbone"]["stage_with_dcn"] = '
        '(False, True, True, True)\n',
        lambda: _change(_mmdet(1, offsets=18), 'backbone.layer2.0.conv2.conv_offset.bias'),
        r'not in the source \(1\):\n'
        r' +backbone\.layer2\.0\.conv2\.conv_offset\.bias',
    ),
    'no box head': (
        detectron2_to_multitask,
        '',
        lambda: _change(_detectron2(), 'roi_heads.box_'),
        r'not in the source \(8\):\n +roi_head\.bbox_head\.fc_cls\.weight',
    ),
    'RetinaNet of Detectron2': (
        detectron2_to_multitask,
        '',
        lambda: _change(
            _detectron2(), 'proposal_generator', **{'head.cls_subnet.0.weight': _array(1)}
        ),
        'RetinaNet',
    ),
    'RetinaNet of torchvision': (
        torchvision_to_multitask,
        '',
        lambda: {
            'backbone.body.conv1.weight': _zeros(2),
            'head.classification_head.conv.0.weight': _zeros(2),
        },
        'RetinaNet',
    ),
    'RetinaNet of mmdet': (
        mmdet_to_multitask,
        '',
        lambda: {'backbone.conv1.weight': _zeros(2), 'bbox_head.retina_cls.weight': _zeros(2)},
        'RetinaNet',
    ),
    'Detectron1': (
        detectron2_to_multitask,
        '',
        lambda: dict(blobs=dict(conv1_w=_array(2))),
        'Caffe2.*Detectron2',
    ),
    'backbone of Caffe2': (detectron2_to_multitask, '', lambda: dict(conv1_w=_array(2)), 'Caffe2'),
    'backbone of Detectron2': (
        detectron2_to_multitask,
        '',
        lambda: {
            name.replace('backbone.bottom_up.', ''): value
            for name, value in _detectron2().items()
            if 'bottom_up' in name
        },
        'a backbone alone.*init_cfg',
    ),
    'backbone of torchvision': (
        torchvision_to_multitask,
        '',
        lambda: {'conv1.weight': _zeros(2), 'layer1.0.conv1.weight': _zeros(2)},
        'a backbone alone',
    ),
    'torchvision as Detectron2': (
        detectron2_to_multitask,
        '',
        _torchvision,
        'use torchvision_to_multitask.py',
    ),
    'mmdet as Detectron2': (detectron2_to_multitask, '', _mmdet, 'use mmdet_to_multitask.py'),
    'Detectron2 as torchvision': (
        torchvision_to_multitask,
        '',
        _detectron2,
        'use detectron2_to_multitask.py',
    ),
    'torchvision as mmdet': (
        mmdet_to_multitask,
        '',
        _torchvision,
        'use torchvision_to_multitask.py',
    ),
    'names twice': (
        torchvision_to_multitask,
        '',
        lambda: {**_torchvision(), **_torchvision(new=False)},
        r'inner_blocks\.0\.0\.weight and backbone\.fpn\.inner_blocks\.0\.'
        r'weight are both neck\.lateral_convs\.0\.conv\.weight',
    ),
    'classes of Detectron2': (
        detectron2_to_multitask,
        '',
        lambda: _detectron2(20),
        '20 classes.*1 or 80',
    ),
    'classes of torchvision': (
        torchvision_to_multitask,
        '',
        lambda: _torchvision(20),
        '20 classes.*1 or 90',
    ),
    'classes of the config': (
        detectron2_to_multitask,
        PERSON_HEAD.format(78),
        lambda: _detectron2(80),
        r'cls_score\.weight \(81, 8\) -> .*fc_cls\.weight \(80, 8\)',
    ),
    'nothing in it': (
        detectron2_to_multitask,
        '',
        lambda: dict(model={}),
        'expected a dict of names',
    ),
    'a list': (detectron2_to_multitask, '', lambda: [1, 2], r'expected a dict .*\[1, 2\]'),
    'a text among weights': (
        detectron2_to_multitask,
        '',
        lambda: dict(a=_array(1), b='x'),
        'no weights:\n +b$',
    ),
}


@pytest.mark.parametrize('reason', REFUSALS)
def test_what_does_not_fit_is_refused_and_named(config, refused, tmp_path, reason):
    tool, extra, content, found = REFUSALS[reason]
    content = content()
    tensors = any(map(torch.is_tensor, getattr(content, 'values', list)()))
    name = 'bad.pth' if tensors else 'bad.pkl'
    message = refused(tool, config(extra=extra), _save(tmp_path, content, name))
    assert re.search(found, message), message
    assert name in message and len(message) < 4000


def test_unknown_files_are_refused(config, refused, tmp_path):

    class Payload:
        def __reduce__(self):
            return print, ('it ran',)

    tool = detectron2_to_multitask
    assert 'nothing.pkl' in refused(tool, config(), 'nothing.pkl')
    assert re.search(
        'weights.h5: expected.* .pkl, .pth, .pt', refused(tool, config(), 'weights.h5')
    )
    for name in ('bad.pkl', 'bad.pth'):
        path = _save(tmp_path, dict(model=dict(a=Payload())), name)
        assert re.search(f'{name}: refused.*print', refused(tool, config(), path))
    path.write_bytes(path.read_bytes()[:100])
    assert 'bad.pth: not a whole' in refused(tool, config(), path)
    path = _save(tmp_path, _detectron2(), 'zoo.pkl')
    assert 'no such config' in refused(tool, 'nothing.py', path)
    assert 'no such config' in refused(tool, str(path), path)


def test_result_is_written_whole_or_not_at_all(config, tmp_path, monkeypatch):
    path = _save(tmp_path, _detectron2(keypoints=True), 'zoo.pkl')
    out = tmp_path / 'out.pth'

    def fill_the_disk(_, draft):
        with open(draft, 'w') as file:
            file.write('half')
        raise OSError('No space left on device')

    monkeypatch.setattr(weights_file.torch, 'save', fill_the_disk)
    with pytest.raises(OSError, match='No space'):
        detectron2_to_multitask.main([config(), str(path), str(out)])
    assert not list(tmp_path.glob('*out.pth*'))


def test_nothing_is_overwritten(config, tmp_path):
    path, other = _save(tmp_path, _detectron2(keypoints=True), 'zoo.pkl'), tmp_path / 'mine.pth'
    other.write_text('mine')
    before = path.read_bytes()
    for out in (path, tmp_path, other):
        with pytest.raises(SystemExit, match=f'{out}: expected the name of a new file'):
            detectron2_to_multitask.main([config(), str(path), str(out)])
    assert path.read_bytes() == before
    assert other.read_text() == 'mine'


@pytest.mark.exhaustive
def test_script_runs_from_anywhere(tmp_path):
    script = ROOT / 'tools/model_converters/mmdet_to_multitask.py'
    done = subprocess.run(
        [sys.executable, str(script), '--help'], cwd=tmp_path, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert 'config source out' in done.stdout
