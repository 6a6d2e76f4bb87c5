"""Convert a Faster, Mask or Keypoint R-CNN (ResNet, FPN) of torchvision.

Takes the published files, whose names are those of its first versions, and
what a newer version saves. The background is class 0 and the person class 1,
of 2 or of COCO's 91.
"""

from .conversion import run
from .layout import NORM, Layout, renamed
from .weights_file import Checkpoint

_BACKBONE = (
    (rf'backbone\.body\.bn1\.{NORM}', r'backbone.bn1.\1'),
    (r'backbone\.body\.conv1\.(weight)', r'backbone.conv1.\1'),
    (r'backbone\.body\.(layer\d\.\d+\.conv\d\.weight)', r'backbone.\1'),
    (rf'backbone\.body\.(layer\d\.\d+\.bn\d)\.{NORM}', r'backbone.\1.\2'),
    (r'backbone\.body\.(layer\d\.\d+\.downsample\.0\.weight)', r'backbone.\1'),
    (rf'backbone\.body\.(layer\d\.\d+\.downsample\.1)\.{NORM}', r'backbone.\1.\2'),
)
_LAYERS = {
    'rpn.head.conv': 'rpn_head.rpn_conv',
    'rpn.head.conv.0.0': 'rpn_head.rpn_conv',
    'rpn.head.cls_logits': 'rpn_head.rpn_cls',
    'rpn.head.bbox_pred': 'rpn_head.rpn_reg',
    'roi_heads.box_head.fc6': 'roi_head.bbox_head.shared_fcs.0',
    'roi_heads.box_head.fc7': 'roi_head.bbox_head.shared_fcs.1',
    'roi_heads.box_predictor.cls_score': 'roi_head.bbox_head.fc_cls',
    'roi_heads.box_predictor.bbox_pred': 'roi_head.bbox_head.fc_reg',
    'roi_heads.mask_predictor.conv5_mask': 'roi_head.mask_head.upsample',
    'roi_heads.mask_predictor.mask_fcn_logits': 'roi_head.mask_head.conv_logits',
    'roi_heads.keypoint_predictor.kps_score_lowres': 'roi_head.keypoint_head.heatmap_pred',
}
for _i in range(4):
    _LAYERS.update(
        {
            f'backbone.fpn.inner_blocks.{_i}': f'neck.lateral_convs.{_i}.conv',
            f'backbone.fpn.inner_blocks.{_i}.0': f'neck.lateral_convs.{_i}.conv',
            f'backbone.fpn.layer_blocks.{_i}': f'neck.fpn_convs.{_i}.conv',
            f'backbone.fpn.layer_blocks.{_i}.0': f'neck.fpn_convs.{_i}.conv',
            f'roi_heads.mask_head.mask_fcn{_i + 1}': f'roi_head.mask_head.convs.{_i}.conv',
            f'roi_heads.mask_head.{_i}.0': f'roi_head.mask_head.convs.{_i}.conv',
        }
    )
for _i in range(8):  # every other layer is a ReLU
    _LAYERS[f'roi_heads.keypoint_head.{2 * _i}'] = f'roi_head.keypoint_head.convs.{_i}.conv'
_SETTINGS = {
    'backbone.style': 'pytorch',
    'data_preprocessor.mean': [123.675, 116.28, 103.53],
    'data_preprocessor.std': [58.395, 57.12, 57.375],
    'data_preprocessor.bgr_to_rgb': True,
    'roi_head.bbox_roi_extractor.roi_layer.aligned': False,
    'roi_head.instance_roi_extractor.roi_layer.aligned': False,
}


def describe(checkpoint: Checkpoint) -> Layout:
    """Describe the layout of a checkpoint of torchvision."""
    settings = dict(_SETTINGS)
    if any('keypoint_predictor' in key for key in checkpoint.weights):
        settings['roi_head.keypoint_head.type'] = 'KeypointSoftmaxHead'
    return Layout(
        kind='torchvision',
        rules=[*_BACKBONE, *renamed(_LAYERS)],
        person=1,
        background=0,
        num_classes=(1, 90),
        settings=settings,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command line of the converter."""
    return run(__doc__, describe, argv)
