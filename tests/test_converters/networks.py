"""Run a converted network part by part, as the source frameworks are run."""

from pathlib import Path

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.structures import InstanceData
from torch import Tensor, nn

from tests.conftest import CONFIGS


def config_path(config: str) -> Path:
    """A config by the part of its name that the exact ones do not share."""
    return CONFIGS / f'converted/multitask-rcnn_{config}_8xb2-90k_coco.py'


def load_network(config: str, checkpoint: Path, most: int, **options: bool) -> nn.Module:
    """Build a config's network with a converted checkpoint's weights.

    Args:
        config (str): See :func:`config_path`.
        checkpoint (Path): What a converter wrote.
        most (int): Detections of an image.
        options (dict): Changes of the model's config.
    """
    cfg = Config.fromfile(config_path(config)).model
    cfg.update(options)
    cfg.test_cfg.rcnn.max_per_img = most
    model = MODELS.build(cfg).eval()
    state = torch.load(checkpoint, weights_only=True)['state_dict']
    model.load_state_dict(state, strict=True)
    return model


@torch.no_grad()
def run_layers(model: nn.Module, rgb: np.ndarray, boxes: np.ndarray) -> dict[str, Tensor]:
    """Every part's output for an image that is not resized.

    Args:
        model (nn.Module): The network.
        rgb (np.ndarray): (H, W, 3) uint8.
        boxes (np.ndarray): Where mask and keypoint head look, (N, 4): the
            same boxes to the last bit, since features of random networks
            change a lot within a pixel.

    Returns:
        dict[str, Tensor]: Names and frames as in the golden files, but every
        number of every part.
    """
    inputs, samples = to_batch(model, rgb)
    feats = model.extract_feat(inputs)
    (proposals,) = model.rpn_head.predict(feats, samples)
    head, rois = model.roi_head, [proposals.bboxes]
    (found,) = head.predict_bbox(*head.bbox_forward(feats, rois), rois, [samples[0].metainfo])
    return dict(
        fpn=feats,
        proposals=proposals.bboxes,
        proposal_scores=proposals.scores,
        boxes=found.bboxes,
        scores=found.scores,
        **_instance_heads(head, feats, torch.from_numpy(boxes)),
    )


def to_batch(model: nn.Module, rgb: np.ndarray) -> tuple[Tensor, list]:
    """An image, (H, W, 3) uint8, as the network takes it; not resized."""
    sample = DetDataSample(
        metainfo=dict(img_shape=rgb.shape[:2], ori_shape=rgb.shape[:2], scale_factor=(1.0, 1.0))
    )
    bgr = torch.from_numpy(rgb[..., ::-1].copy()).permute(2, 0, 1)
    batch = model.data_preprocessor(dict(inputs=[bgr], data_samples=[sample]))
    return batch['inputs'], batch['data_samples']


def _instance_heads(roi_head: nn.Module, feats: tuple[Tensor], boxes: Tensor) -> dict[str, Tensor]:
    outputs = {}
    _, _, *maps = roi_head(feats, [InstanceData(bboxes=boxes)])
    if roi_head.with_mask:
        outputs['mask_logits'] = maps.pop(0)[:, 0]
    if roi_head.with_keypoint:
        codec = roi_head.keypoint_head.codec
        outputs['keypoint_logits'] = maps.pop(0)
        outputs['keypoints'], outputs['keypoint_scores'] = codec.decode(
            outputs['keypoint_logits'], boxes
        )
    return outputs


@torch.no_grad()
def run_full(model: nn.Module, config: str, path: Path) -> tuple[InstanceData, tuple[int, int]]:
    """A file through the config's own pipeline.

    Returns:
        tuple: The predictions in pixels of the file, and height and width
        that the network saw.
    """
    steps = Config.fromfile(config_path(config)).test_dataloader.dataset.pipeline
    pipeline = Compose([step for step in steps if step.type != 'LoadMultitaskAnnotations'])
    data = pipeline(dict(img_path=str(path), img_id=0))
    (found,) = model.test_step(dict(inputs=[data['inputs']], data_samples=[data['data_samples']]))
    return found.pred_instances, data['data_samples'].img_shape
