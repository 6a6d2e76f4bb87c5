"""Checks whether a model can be exported to ONNX."""

from collections.abc import Iterator

import mmcv.ops
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import nn

from multitask_refine.codecs import DarkRoIHeatmapCodec
from multitask_refine.models import MultitaskRCNN
from multitask_refine.ops import DeformRoIPool
from multitask_refine.utils.errors import ExplainedError

OPSETS = (19, 20)  # DeformConv came with 19; the TorchScript exporter supports up to 20


class ExportError(ExplainedError, ValueError):
    """A model, file or setting that cannot be exported."""


def check_opset(opset: int) -> None:
    """Check the opset version.

    Args:
        opset (int): Opset version of ONNX.

    Raises:
        ExportError: If it is too old or too new.
    """
    if opset not in OPSETS:
        raise ExportError(
            f'opset: expected one of {OPSETS}, found {opset}. Deformable convolutions came '
            'with 19, and PyTorch exports up to 20.'
        )


def check_model(model: nn.Module) -> None:
    """Check that ONNX can hold all parts of a model.

    Args:
        model (nn.Module): The model.

    Raises:
        ExportError: Names each part, what was expected and what was found.
    """
    if not isinstance(model, MultitaskRCNN):
        raise ExportError(f'model.type: expected a MultitaskRCNN, found {type(model).__name__}')
    issues = list(_find_issues(model))
    if issues:
        raise ExportError('This model cannot be exported:\n' + '\n'.join(issues))


def _find_issues(model: MultitaskRCNN) -> Iterator[str]:
    preprocessor, roi_head = model.data_preprocessor, model.roi_head
    if not isinstance(preprocessor, DetDataPreprocessor):
        yield (
            'model.data_preprocessor.type: expected a DetDataPreprocessor, found '
            f'{type(preprocessor).__name__}'
        )
    if roi_head.bbox_head.num_classes != 1:
        yield (
            'model.roi_head.bbox_head.num_classes: expected 1, the person: the file has no '
            f'labels; found {roi_head.bbox_head.num_classes}'
        )
    if not model.rpn_head.use_sigmoid_cls:
        yield 'model.rpn_head.loss_cls.use_sigmoid: expected True, found False'
    for name in ('rpn', 'rcnn'):
        kind = model.test_cfg[name].nms.get('type', 'nms')
        if kind != 'nms':
            yield (
                f"model.test_cfg.{name}.nms.type: expected 'nms', for which ONNX has an "
                f'operator, found {kind!r}'
            )
    rcnn = model.test_cfg.rcnn
    for name, default in (('postprocess', []), ('roi_scale_factor', 1)):
        if rcnn.get(name, default) != default:
            yield (
                f'model.test_cfg.rcnn.{name}: expected {default}, because the file has no '
                f'consistency between the tasks; found {rcnn[name]}'
            )
    if isinstance(getattr(roi_head.keypoint_head, 'codec', None), DarkRoIHeatmapCodec):
        yield (
            'model.roi_head.keypoint_head.codec.type: expected RoIHeatmapCodec, which decodes the '
            'same heatmaps; found DarkRoIHeatmapCodec, which decodes outside of PyTorch'
        )
    for name in ('bbox_roi_extractor', 'instance_roi_extractor'):
        extractor = getattr(roi_head, name)
        if extractor is None:
            continue
        if not isinstance(extractor, SingleRoIExtractor):
            yield (
                f'model.roi_head.{name}.type: expected a SingleRoIExtractor, found '
                f'{type(extractor).__name__}'
            )
            continue
        layer = extractor.roi_layers[0]
        is_average = isinstance(layer, mmcv.ops.RoIAlign) and layer.pool_mode == 'avg'
        if not (is_average or isinstance(layer, DeformRoIPool)):
            yield (
                f'model.roi_head.{name}.roi_layer: expected a RoIAlign that averages, or '
                f'DeformRoIPool, found {type(layer).__name__}'
            )
