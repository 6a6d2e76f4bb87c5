"""What can be exported, and what is said of the rest."""

from typing import Iterator

import mmcv.ops
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import nn

from multitask_refine.models import MultitaskRCNN
from multitask_refine.ops import DeformRoIPool
from multitask_refine.utils.errors import ExplainedError

OPSETS = (19, 20)  # DeformConv came with 19; torch records up to 20


class ExportError(ExplainedError, ValueError):
    """A network, file or setting that cannot be exported."""


def check_opset(opset: int) -> None:
    """Refuse a version of ONNX's operators that does not do.

    Raises:
        ExportError: If it is too old or too new.
    """
    if opset not in OPSETS:
        raise ExportError(
            f'opset: expected one of {OPSETS}, found {opset}. Deformable '
            'convolutions came with 19, and PyTorch records up to 20.'
        )


def check_network(model: nn.Module) -> None:
    """Refuse a network of which ONNX cannot hold a part.

    Raises:
        ExportError: Names each part, what was expected and what was found.
    """
    if not isinstance(model, MultitaskRCNN):
        raise ExportError(f'model.type: expected a MultitaskRCNN, found {type(model).__name__}')
    problems = [*_stage_problems(model), *_pooling_problems(model.roi_head)]
    if problems:
        raise ExportError('This network cannot be exported:\n' + '\n'.join(problems))


def _stage_problems(model: nn.Module) -> Iterator[str]:
    step, head = model.data_preprocessor, model.roi_head.bbox_head
    if not isinstance(step, DetDataPreprocessor):
        yield (
            'model.data_preprocessor.type: expected a DetDataPreprocessor, '
            f'found {type(step).__name__}'
        )
    if head.num_classes != 1:
        yield (
            'model.roi_head.bbox_head.num_classes: expected 1, the person: '
            f'the file has no room for classes; found {head.num_classes}'
        )
    if not model.rpn_head.use_sigmoid_cls:
        yield ('model.rpn_head.loss_cls.use_sigmoid: expected True, found False')
    for name in ('rpn', 'rcnn'):
        kind = model.test_cfg[name].nms.get('type', 'nms')
        if kind != 'nms':
            yield (
                f"model.test_cfg.{name}.nms.type: expected 'nms', for "
                f'which ONNX has an operator, found {kind!r}'
            )


def _pooling_problems(head: nn.Module) -> Iterator[str]:
    for name in ('bbox_roi_extractor', 'instance_roi_extractor'):
        extractor = getattr(head, name)
        if extractor is None:
            continue
        if not isinstance(extractor, SingleRoIExtractor):
            yield (
                f'model.roi_head.{name}.type: expected a '
                f'SingleRoIExtractor, found {type(extractor).__name__}'
            )
            continue
        layer = extractor.roi_layers[0]
        known = isinstance(layer, DeformRoIPool) or (
            isinstance(layer, mmcv.ops.RoIAlign) and layer.pool_mode == 'avg'
        )
        if not known:
            yield (
                f'model.roi_head.{name}.roi_layer: expected a RoIAlign '
                'that averages, or DeformRoIPool, found '
                f'{type(layer).__name__}'
            )
