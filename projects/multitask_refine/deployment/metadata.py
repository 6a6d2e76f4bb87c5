"""What an exported file says of itself: all that is needed to use it."""

import json
from pathlib import Path
from typing import Dict, Union

import torch
from mmengine.config import Config
from torch import nn

from multitask_refine.apis.settings import find_joint_shift, split_pipeline
from multitask_refine.codecs import RoISoftmaxCodec
from multitask_refine.utils.results_file import current_commit
from multitask_runtime.drawing import KPT_THR, MASK_ALPHA
from multitask_runtime.utils.files import file_sha256

from .checks import ExportError

_BOX_SCORE = 'probability of a person, from the softmax of the box head'
_RANKINGS = dict(
    bbox='the box score', bbox_keypoint='the box score times the mean of the joint scores'
)


def build_metadata(
    cfg: Config, checkpoint: Union[str, Path], model: nn.Module, opset: int
) -> Dict[str, str]:
    """Collect the metadata of a file.

    Args:
        cfg (Config): The network's config.
        checkpoint (str | Path): The file of its weights.
        model (nn.Module): The network, with ``dataset_meta``.
        opset (int): Version of ONNX's operators.

    Returns:
        dict[str, str]: ``format``, ``format_version`` and ``description``, a
        JSON object.

    Raises:
        ExportError: If the test pipeline does more than loading and resizing.
    """
    content = dict(
        classes=list(model.dataset_meta['classes']),
        **_joints(model),
        **_picture(cfg, model),
        **_results(cfg, model),
        config=Path(cfg.filename or 'config').name,
        checkpoint=Path(checkpoint).name,
        checkpoint_sha256=file_sha256(checkpoint),
        opset=opset,
        torch=torch.__version__,
        commit=current_commit(),
    )
    return dict(
        format='multitask_refine',
        format_version='1',
        description=json.dumps(content, default=_to_plain),
    )


def _joints(model: nn.Module) -> dict:
    """Names and colours; nothing of them without a keypoint head."""
    meta = model.dataset_meta if model.roi_head.with_keypoint else {}
    return dict(
        keypoint_names=list(meta.get('keypoint_id2name', {}).values()),
        keypoint_colors=meta.get('keypoint_colors', []),
        skeleton=meta.get('skeleton_links', []),
        skeleton_colors=meta.get('skeleton_link_colors', []),
        flip_indices=meta.get('flip_indices', []),
        sigmas=meta.get('sigmas', []),
    )


def _picture(cfg: Config, model: nn.Module) -> dict:
    """How a picture becomes the graph's input."""
    load, steps = split_pipeline(cfg)
    resize = steps[:-1]  # the last one packs
    if len(resize) != 1:
        raise ExportError(
            f'{cfg.filename}: test_dataloader.dataset.pipeline: expected one '
            'step between loading and packing, the resize, found '
            f'{[step["type"] for step in resize]}'
        )
    step = model.data_preprocessor
    normalises = step._enable_normalize
    return dict(
        image_backend=load.get('imdecode_backend', 'cv2'),
        channel_order='bgr',
        resize=dict(resize[0]),
        mean=step.mean.flatten() if normalises else [0.0] * 3,
        std=step.std.flatten() if normalises else [1.0] * 3,
        mean_order='rgb' if step._channel_conversion else 'bgr',
        pad_size_divisor=step.pad_size_divisor,
    )


def _results(cfg: Config, model: nn.Module) -> dict:
    """What the outputs mean and how they were limited."""
    evaluator = cfg.get('test_evaluator') or {}
    if isinstance(evaluator, (list, tuple)):
        evaluator = evaluator[0]
    ranking = evaluator.get('keypoint_ranking', 'bbox_keypoint')
    limits = model.roi_head.test_cfg
    drawing = cfg.get('visualizer') or {}
    return dict(
        box_score=_BOX_SCORE,
        keypoint_score=_keypoint_score(model.roi_head),
        keypoint_ranking=ranking,
        keypoint_ranking_means=_RANKINGS[ranking],
        joint_shift=find_joint_shift(cfg),
        kpt_thr=drawing.get('kpt_thr', KPT_THR),
        mask_alpha=drawing.get('mask_alpha', MASK_ALPHA),
        mask_threshold=limits.get('mask_thr_binary'),
        score_thr=limits.score_thr,
        max_per_img=limits.max_per_img,
    )


def _keypoint_score(head: nn.Module) -> Union[str, None]:
    if not head.with_keypoint:
        return None
    codec = head.keypoint_head.codec
    if not isinstance(codec, RoISoftmaxCodec):
        return "height of the highest cell of the joint's probability map"
    if codec.score == 'logit':
        return "the highest logit of the joint's resized map"
    return (
        "exponential of the highest logit of the joint's resized map, "
        "over the sum of the exponentials of the map's cells"
    )


def _to_plain(values: object) -> list:
    """Arrays and tensors as lists, for JSON."""
    return values.tolist()
