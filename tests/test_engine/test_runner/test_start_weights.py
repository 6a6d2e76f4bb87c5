"""Check of the weights that a training starts from."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from multitask_cli import train
from multitask_refine.engine import ConfigError
from multitask_refine.engine.runner.start_weights import check_start_weights
from tests.conftest import CONFIGS, SAMPLE_CONFIG, as_arguments, tiny_options
from tests.shrink import shrink_network

pytestmark = pytest.mark.slow

LEAF = CONFIGS / 'sample/multitask-rcnn_r26-w24_fpn-ms_rb-h_1xb8-350_sample.py'
BASE = CONFIGS / 'sample/multitask-rcnn_r26-w24_fpn-ms_regular_1xb8-10k_sample.py'
OFFSETS = 'backbone.layer2.0.conv2.conv_offset.weight'


def _build(leaf, **changes):
    cfg = Config.fromfile(leaf)
    shrink_network(cfg.model)
    cfg.merge_from_dict(changes)
    return MODELS.build(cfg.model)


@pytest.fixture(scope='module')
def network():
    return _build(LEAF)


@pytest.fixture(scope='module')
def base():
    return _build(BASE).state_dict()


def test_base_without_refinement_starts_a_refined_model(network, base, tmp_path):
    """Also in float16; the initial predictions are those of the base."""
    check_start_weights(network, base)
    half = {
        name: value.half() if value.is_floating_point() else value for name, value in base.items()
    }
    check_start_weights(network, dict(state_dict=half))
    network.init_weights()
    missing, unexpected = network.load_state_dict(half, strict=False)
    assert OFFSETS in missing and not unexpected
    assert network.backbone.conv1.weight.dtype == torch.float32
    plain = _build(BASE)
    plain.load_state_dict(half)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    rois = torch.tensor([[0.0, 8, 8, 40, 56]])
    with torch.no_grad():
        outputs = [
            each.eval().roi_head.keypoint_head.refined_heatmaps(
                each.roi_head.instance_roi_extractor(each.extract_feat(image)[:3], rois)
            )
            for each in (network, plain)
        ]
    torch.testing.assert_close(*outputs)


@pytest.mark.parametrize(
    'changes',
    [
        {'model.roi_head.mask_head': None},
        {'model.roi_head.keypoint_head': None},
        {'model.roi_head.keypoint_head.num_keypoints': 5},
        {'model.rpn_head.anchor_generator.scales': [2, 4, 8]},
        {'model.roi_head.bbox_head.num_classes': 3, 'model.roi_head.mask_head.num_classes': 3},
    ],
    ids=lambda changes: next(iter(changes)).split('.', 2)[2],
)
def test_heads_may_differ_with_the_tasks(changes, base):
    """Either the model or the checkpoint may lack a head."""
    other = _build(BASE, **changes)
    check_start_weights(other, base)
    check_start_weights(_build(BASE), other.state_dict())


@pytest.mark.parametrize(
    'change, words',
    [
        (
            dict(rename=('backbone.layer1.', 'backbone.layer9.')),
            r'backbone.layer1.*\(expected .*, found none\)',
        ),
        (dict(drop='backbone.'), 'backbone.* found none'),
        (dict(drop='neck.lateral_convs.0'), 'neck.lateral_convs.0'),
        (
            dict(resize='backbone.conv1.weight'),
            r'1 with other names or shapes, such as backbone.conv1.weight '
            r'\(expected 2x3x7x7, found 3x3x7x7\)\. Start from',
        ),
        (dict(resize='roi_head.keypoint_head.convs.0.conv.weight'), 'keypoint_head.convs.0'),
        (dict(rename=('', 'model.')), 'another architecture'),
    ],
    ids=str,
)
def test_another_architecture_is_refused(change, words, network, base):
    old, new = change.get('rename', ('no such', ''))
    weights = {
        name.replace(old, new, 1): torch.cat([value, value[:1]])
        if name == change.get('resize')
        else value
        for name, value in base.items()
        if not name.startswith(change.get('drop', 'no such'))
    }
    with pytest.raises(ConfigError, match=words):
        check_start_weights(network, dict(state_dict=weights))


def test_training_from_other_weights_is_refused(scene, tmp_path, base):
    torch.save(dict(state_dict=base), tmp_path / 'base.pth')
    for start, words in (
        (tmp_path / 'base.pth', 'found those of another arch'),
        ('checkpoints/none.pth', 'git checkout'),
    ):
        with pytest.raises(SystemExit, match=words) as stop:
            train.main(
                [
                    str(SAMPLE_CONFIG),
                    '--work-dir',
                    str(tmp_path / 'work'),
                    *as_arguments({**tiny_options(scene), 'load_from': start}),
                ]
            )
        assert isinstance(stop.value.code, str)
    assert not list(tmp_path.glob('work/*.pth'))
