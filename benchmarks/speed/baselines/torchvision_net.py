"""Keypoint R-CNN and Mask R-CNN of torchvision."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import KeypointRCNN, MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from benchmarks.speed.baselines.base import Baseline
from benchmarks.speed.inputs import People

NETWORKS = dict(keypoints=(KeypointRCNN, 2), masks=(MaskRCNN, 91))


class TorchvisionNet(Baseline):
    """What ``keypointrcnn_resnet50_fpn`` and ``maskrcnn_resnet50_fpn`` build
    for the weights that torchvision publishes: frozen batch norms with an
    epsilon of 0, three layers of the backbone trained.

    Args:
        task (str): ``keypoints`` or ``masks``.
        common: As in :class:`Baseline`.
    """

    person = 1

    def __init__(self, task: str, **common: Any) -> None:
        self.task = task
        super().__init__(**common)

    def build(self) -> nn.Module:
        backbone = resnet_fpn_backbone(
            backbone_name='resnet50',
            weights=None,
            trainable_layers=3,
            norm_layer=partial(FrozenBatchNorm2d, eps=0.0),
        )
        network, classes = NETWORKS[self.task]
        model = network(
            backbone,
            classes,
            box_detections_per_img=self.detections,
            box_score_thresh=self.score_threshold,
        )
        model.transform.resize = _keep_size
        self._top_up(model.rpn)
        self._count_foreground(model.roi_heads)
        return model

    def _top_up(self, rpn: nn.Module) -> None:
        original = rpn.forward

        def forward(images: Any, features: Any, targets: Any = None) -> tuple:
            boxes, losses = original(images, features, targets)
            if rpn.training:
                boxes = [torch.cat(pair) for pair in zip(boxes, self.copies, strict=True)]
            return boxes, losses

        rpn.forward = forward

    def _count_foreground(self, heads: nn.Module) -> None:
        original = heads.select_training_samples

        def select_training_samples(*args: Any) -> tuple:
            selected = original(*args)
            self.foreground.extend(int((labels > 0).sum()) for labels in selected[2])
            return selected

        heads.select_training_samples = select_training_samples

    def to_batch(
        self, images: Sequence[np.ndarray], people: Sequence[People] | None = None
    ) -> tuple[list[Tensor], list[dict] | None]:
        tensors = [torch.from_numpy(rgb.transpose(2, 0, 1).copy()).float() / 255 for rgb in images]
        return tensors, people and [self._annotate(p) for p in people]

    def _annotate(self, people: People) -> dict[str, Tensor]:
        target = dict(
            boxes=torch.from_numpy(people.boxes),
            labels=torch.ones(len(people.boxes), dtype=torch.int64),
        )
        if self.task == 'masks':
            target['masks'] = torch.from_numpy(people.masks)
        else:
            keypoints = torch.from_numpy(people.keypoints)
            visible = torch.full_like(keypoints[..., :1], 2)
            target['keypoints'] = torch.cat([keypoints, visible], -1)
        return target

    def run(self, batch: tuple) -> list[dict[str, Tensor]]:
        return self.model([image.to(self.device) for image in batch[0]])

    def losses(self, batch: tuple) -> Tensor:
        images, targets = batch
        losses = self.model(
            [image.to(self.device) for image in images],
            [{k: v.to(self.device) for k, v in target.items()} for target in targets],
        )
        return sum(losses.values())

    def to_arrays(self, result: dict[str, Tensor]) -> dict[str, Tensor]:
        arrays = {name: result[name] for name in ('boxes', 'scores', 'labels')}
        if 'masks' in result:
            arrays['masks'] = result['masks'][:, 0] >= 0.5
        if 'keypoints' in result:
            arrays['keypoints'] = result['keypoints'][..., :2]
        return arrays

    def versions(self) -> dict[str, str]:
        return dict(torchvision=torchvision.__version__)


def _keep_size(image: Tensor, target: dict | None) -> tuple:
    """In place of the resize: the images have the network's size."""
    return image, target
