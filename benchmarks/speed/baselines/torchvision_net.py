"""Baselines of torchvision: Keypoint R-CNN and Mask R-CNN."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import KeypointRCNN, MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from benchmarks.speed.baselines.base import Baseline
from benchmarks.speed.inputs import People


class TorchvisionNet(Baseline):
    """``keypointrcnn_resnet50_fpn`` or ``maskrcnn_resnet50_fpn``, as built for COCO weights.

    ``config`` is ``keypoints`` or ``masks``. Batch norms are frozen with an epsilon of 0, and
    three stages of the backbone are trained.
    """

    person_label = 1
    packages = ('torchvision',)

    def build(self) -> nn.Module:
        """Build the model without its resize: the images have the size of the input."""
        backbone = resnet_fpn_backbone(
            backbone_name='resnet50',
            weights=None,
            trainable_layers=3,
            norm_layer=partial(FrozenBatchNorm2d, eps=0.0),
        )
        network, num_classes = dict(keypoints=(KeypointRCNN, 2), masks=(MaskRCNN, 91))[self.config]
        model = network(
            backbone,
            num_classes,
            box_detections_per_img=self.detections,
            box_score_thresh=self.score_threshold,
        )
        # Its default scales the shorter side to 800 pixels.
        model.transform.resize = lambda image, target: (image, target)
        original = model.rpn.forward

        def forward(images: Any, features: Any, targets: Any = None) -> tuple:
            boxes, losses = original(images, features, targets)
            if model.training:
                boxes = [torch.cat(pair) for pair in zip(boxes, self.extra_proposals, strict=True)]
            return boxes, losses

        model.rpn.forward = forward
        return model

    def to_batch(
        self, images: Sequence[np.ndarray], people: Sequence[People] | None = None
    ) -> tuple[list[Tensor], list[dict]]:
        """Collate images in [0, 1] and targets."""
        tensors = [torch.from_numpy(rgb.transpose(2, 0, 1).copy()).float() / 255 for rgb in images]
        targets = []
        for truth in people or ():
            keypoints = torch.from_numpy(truth.keypoints)  # (N, 17, 2)
            targets.append(
                dict(
                    boxes=torch.from_numpy(truth.boxes),
                    labels=torch.ones(len(truth.boxes), dtype=torch.int64),
                    masks=torch.from_numpy(truth.masks),
                    keypoints=torch.cat([keypoints, torch.full_like(keypoints[..., :1], 2)], -1),
                )
            )
            # The network has one of the two heads.
            del targets[-1]['masks' if self.config == 'keypoints' else 'keypoints']
        return tensors, targets

    def run(self, batch: tuple) -> list[dict[str, Tensor]]:
        """Run the model in evaluation mode."""
        return self.model([image.to(self.device) for image in batch[0]])

    def losses(self, batch: tuple) -> Tensor:
        """Run the model in training mode."""
        images, targets = batch
        losses = self.model(
            [image.to(self.device) for image in images],
            [{k: v.to(self.device) for k, v in target.items()} for target in targets],
        )
        return sum(losses.values())

    def to_arrays(self, result: dict[str, Tensor]) -> dict[str, Tensor]:
        """Unpack detections; masks are binarized at 0.5."""
        arrays = {name: result[name] for name in ('boxes', 'scores', 'labels')}
        if 'masks' in result:
            arrays['masks'] = result['masks'][:, 0] >= 0.5  # (N, H, W)
        if 'keypoints' in result:
            arrays['keypoints'] = result['keypoints'][..., :2]
        return arrays
