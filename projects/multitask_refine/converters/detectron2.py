"""Convert a Faster, Mask or Keypoint R-CNN (ResNet, FPN) of Detectron2.

Takes the .pkl files of its model zoo and the .pth files of its training. The
person is the only class or the first of COCO's 80.
"""

import re
from collections.abc import Collection

from .conversion import run
from .layout import NORM, PARAM, Layout, Rule, renamed
from .weights_file import Checkpoint

_LAYERS = {
    'proposal_generator.rpn_head.conv': 'rpn_head.rpn_conv',
    'proposal_generator.rpn_head.objectness_logits': 'rpn_head.rpn_cls',
    'proposal_generator.rpn_head.anchor_deltas': 'rpn_head.rpn_reg',
    'roi_heads.box_head.fc1': 'roi_head.bbox_head.shared_fcs.0',
    'roi_heads.box_head.fc2': 'roi_head.bbox_head.shared_fcs.1',
    'roi_heads.box_predictor.cls_score': 'roi_head.bbox_head.fc_cls',
    'roi_heads.box_predictor.bbox_pred': 'roi_head.bbox_head.fc_reg',
    'roi_heads.mask_head.deconv': 'roi_head.mask_head.upsample',
    'roi_heads.mask_head.predictor': 'roi_head.mask_head.conv_logits',
    'roi_heads.keypoint_head.score_lowres': 'roi_head.keypoint_head.heatmap_pred',
    **{
        f'roi_heads.mask_head.mask_fcn{i + 1}': f'roi_head.mask_head.convs.{i}.conv'
        for i in range(8)
    },
    **{
        f'roi_heads.keypoint_head.conv_fcn{i + 1}': f'roi_head.keypoint_head.convs.{i}.conv'
        for i in range(8)
    },
}
_DERIVED = (
    (r'proposal_generator\.anchor_generator\..*', 'the config states the anchors'),
    (r'pixel_(mean|std)', 'the config states them, in data_preprocessor'),
)
_SETTINGS = {
    'backbone.style': 'caffe',
    'data_preprocessor.mean': [103.53, 116.28, 123.675],
    'data_preprocessor.std': [1.0, 1.0, 1.0],
    'data_preprocessor.bgr_to_rgb': False,
}


def describe(checkpoint: Checkpoint) -> Layout:
    """Describe the layout of a checkpoint of Detectron2."""
    keys = checkpoint.weights
    settings = dict(_SETTINGS)
    if any(key.startswith('roi_heads.keypoint_head.') for key in keys):
        settings['roi_head.keypoint_head.type'] = 'KeypointSoftmaxHead'
    return Layout(
        kind='Detectron2',
        rules=[*_backbone(), *renamed(_pyramid(keys)), *renamed(_LAYERS)],
        person=0,
        background=-1,
        num_classes=(1, 80),
        derived=_DERIVED,
        size_first=True,
        settings=settings,
    )


def _backbone() -> list[Rule]:
    stem = r'backbone\.bottom_up\.stem\.conv1\.'
    rules = [
        (rf'{stem}norm\.{NORM}', r'backbone.bn1.\1'),
        (rf'{stem}(weight)', r'backbone.conv1.\1'),
    ]
    for stage in (2, 3, 4, 5):
        block = rf'backbone\.bottom_up\.res{stage}\.(\d+)\.'
        here = rf'backbone.layer{stage - 1}.\1.'
        rules += [
            (rf'{block}conv(\d)\.norm\.{NORM}', rf'{here}bn\2.\3'),
            (rf'{block}conv(\d)\.(weight)', rf'{here}conv\2.\3'),
            (rf'{block}conv2_offset\.{PARAM}', rf'{here}conv2.conv_offset.\2'),
            (rf'{block}shortcut\.norm\.{NORM}', rf'{here}downsample.1.\2'),
            (rf'{block}shortcut\.(weight)', rf'{here}downsample.0.\2'),
        ]
    return rules


def _pyramid(keys: Collection[str]) -> dict:
    """Detectron2 counts the levels by their stride, here the first is 0."""
    levels = sorted(
        {
            int(key[len('backbone.fpn_lateral')])
            for key in keys
            if re.match(r'backbone\.fpn_lateral\d\.', key)
        }
    )
    layers = {}
    for level in levels:
        index = level - levels[0]
        layers[f'backbone.fpn_lateral{level}'] = f'neck.lateral_convs.{index}.conv'
        layers[f'backbone.fpn_output{level}'] = f'neck.fpn_convs.{index}.conv'
    return layers


def main(argv: list[str] | None = None) -> int:
    """Run the command line of the converter."""
    return run(__doc__, describe, argv)
