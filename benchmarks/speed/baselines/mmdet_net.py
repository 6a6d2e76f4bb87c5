"""Baseline of MMDetection."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from benchmarks.speed.baselines.base import Baseline
from benchmarks.speed.inputs import People

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'


class MMDetNet(Baseline):
    """A two-stage detector; ``config`` is a file of ``configs`` or, as ``mmdet::``, of mmdet."""

    checkpoint_key = 'state_dict'
    packages = ('mmdet', 'mmcv', 'mmengine')

    def build(self) -> nn.Module:
        """Build the model from its config, without pretrained backbone."""
        register_all_modules(init_default_scope=True)
        is_foreign = self.config.startswith('mmdet::')
        cfg = get_config(self.config) if is_foreign else Config.fromfile(CONFIGS / self.config)
        cfg.model.backbone.init_cfg = None  # the weights are loaded or drawn
        cfg.model.test_cfg.rcnn.update(max_per_img=self.detections, score_thr=self.score_threshold)
        model = MODELS.build(cfg.model)
        original = model.rpn_head.loss_and_predict

        def loss_and_predict(*args: object, **kwargs: object) -> tuple:
            losses, proposals = original(*args, **kwargs)
            return losses, [
                InstanceData(bboxes=torch.cat([found.bboxes, extra]))
                for found, extra in zip(proposals, self.extra_proposals, strict=True)
            ]

        model.rpn_head.loss_and_predict = loss_and_predict
        return model

    def to_batch(
        self, images: Sequence[np.ndarray], people: Sequence[People] | None = None
    ) -> dict:
        """Collate BGR images and data samples."""
        samples = []
        for index, rgb in enumerate(images):
            size = rgb.shape[:2]
            metainfo = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
            samples.append(DetDataSample(metainfo=metainfo))
            if people:
                truth = people[index]
                samples[-1].gt_instances = InstanceData(
                    bboxes=HorizontalBoxes(torch.from_numpy(truth.boxes)),
                    labels=torch.zeros(len(truth.boxes), dtype=torch.int64),
                    masks=BitmapMasks(truth.masks, *size),
                    keypoints=torch.from_numpy(truth.keypoints),
                    keypoints_visible=torch.full(truth.keypoints.shape[:2], 2.0),
                )
        # BGR, uint8 (3, H, W); the data preprocessor normalizes.
        inputs = [torch.from_numpy(rgb[..., ::-1].transpose(2, 0, 1).copy()) for rgb in images]
        return dict(inputs=inputs, data_samples=samples)

    def run(self, batch: dict) -> list[DetDataSample]:
        """Run the model's test step."""
        return self.model.test_step(batch)

    def losses(self, batch: dict) -> Tensor:
        """Run the forward pass of the model's train step."""
        data = self.model.data_preprocessor(batch, True)
        return self.model.parse_losses(self.model(**data, mode='loss'))[0]

    def to_arrays(self, result: DetDataSample) -> dict[str, Tensor]:
        """Unpack predicted instances."""
        found = result.pred_instances
        arrays = dict(boxes=found.bboxes, scores=found.scores, labels=found.labels)
        return arrays | {name: found[name] for name in ('masks', 'keypoints') if name in found}
