"""Metadata of an exported file: all that is needed to use it."""

import json
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from multitask_refine.codecs import RoISoftmaxCodec
from multitask_refine.engine.inference_settings import find_keypoint_shift, split_pipeline
from multitask_refine.utils.results_file import current_commit
from multitask_runtime.drawing import KPT_THR, MASK_ALPHA
from multitask_runtime.onnx.metadata import FORMAT, FORMAT_VERSION
from multitask_runtime.utils.files import file_sha256

from .checks import ExportError

_RANKINGS = dict(
    bbox='the box score',
    bbox_keypoint='the box score times the mean of the keypoint scores',
    bbox_oks='the box score times the pose score, which is the predicted OKS',
)


def build_metadata(
    cfg: Config, checkpoint: str | Path, model: nn.Module, opset: int
) -> dict[str, str]:
    """Build the metadata of an ONNX file.

    Args:
        cfg (Config): Config of the model.
        checkpoint (str | Path): File of its weights.
        model (nn.Module): The model, with ``dataset_meta``.
        opset (int): Opset version.

    Returns:
        dict[str, str]: ``metadata_props``, see :func:`to_props`.

    Raises:
        ExportError: If the test pipeline does more than loading and resizing.
    """
    head = model.roi_head
    meta = model.dataset_meta if head.with_keypoint else {}
    preprocessor = model.data_preprocessor
    is_normalized = preprocessor._enable_normalize
    load, resize = _image_steps(cfg)
    evaluator = cfg.get('test_evaluator') or {}
    if isinstance(evaluator, (list, tuple)):
        evaluator = evaluator[0]
    ranking = evaluator.get('keypoint_ranking', 'bbox_keypoint')
    visualizer = cfg.get('visualizer') or {}
    return to_props(
        dict(
            classes=list(model.dataset_meta['classes']),
            keypoint_names=list(meta.get('keypoint_id2name', {}).values()),
            keypoint_colors=meta.get('keypoint_colors', []),
            skeleton=meta.get('skeleton_links', []),
            skeleton_colors=meta.get('skeleton_link_colors', []),
            flip_indices=meta.get('flip_indices', []),
            sigmas=meta.get('sigmas', []),
            # from an image file to the input of the graph
            image_backend=load.get('imdecode_backend', 'cv2'),
            channel_order='bgr',
            resize=resize,
            mean=preprocessor.mean.flatten() if is_normalized else [0.0] * 3,
            std=preprocessor.std.flatten() if is_normalized else [1.0] * 3,
            mean_order='rgb' if preprocessor._channel_conversion else 'bgr',
            pad_size_divisor=preprocessor.pad_size_divisor,
            # the outputs
            box_score='probability of a person, from the softmax of the box head',
            keypoint_score=_keypoint_score(head.keypoint_head) if head.with_keypoint else None,
            keypoint_ranking=ranking,
            keypoint_ranking_means=_RANKINGS[ranking],
            keypoint_shift=find_keypoint_shift(cfg),
            kpt_thr=visualizer.get('kpt_thr', KPT_THR),
            mask_alpha=visualizer.get('mask_alpha', MASK_ALPHA),
            mask_threshold=head.test_cfg.get('mask_thr_binary'),
            score_thr=head.test_cfg.score_thr,
            max_per_img=head.test_cfg.max_per_img,
            # the origin
            config=Path(cfg.filename or 'config').name,
            checkpoint=Path(checkpoint).name,
            checkpoint_sha256=file_sha256(checkpoint),
            opset=opset,
            torch=torch.__version__,
            commit=current_commit(),
        )
    )


def to_props(content: dict[str, Any]) -> dict[str, str]:
    """Convert metadata to ``metadata_props`` of an ONNX file.

    Args:
        content (dict): The metadata; arrays and tensors become lists.

    Returns:
        dict[str, str]: ``format``, ``format_version`` and ``description``, a JSON object.
    """
    description = json.dumps(content, default=lambda values: values.tolist())
    return dict(format=FORMAT, format_version=str(FORMAT_VERSION), description=description)


def _image_steps(cfg: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the loading and the resizing step of the test pipeline."""
    load, steps = split_pipeline(cfg)
    resize = steps[:-1]  # the last step packs
    if len(resize) != 1:
        raise ExportError(
            f'{cfg.filename}: test_dataloader.dataset.pipeline: expected one step between '
            f'loading and packing, the resize, found {[step["type"] for step in resize]}'
        )
    return load, dict(resize[0])


def _keypoint_score(head: nn.Module) -> str:
    if not isinstance(head.codec, RoISoftmaxCodec):
        return "height of the highest cell of the keypoint's heatmap"
    if head.codec.score == 'logit':
        return "the highest logit of the keypoint's resized heatmap"
    return (
        "exponential of the highest logit of the keypoint's resized heatmap, over the sum of "
        "the exponentials of the heatmap's cells"
    )
