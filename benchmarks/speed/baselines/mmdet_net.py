"""A network of mmdet."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

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


class MMDetNet(Baseline):
    """A two-stage detector of mmdet's, by its config.

    Args:
        config (str): Name below mmdet's folder of configs.
        common: As in :class:`Baseline`.
    """

    checkpoint_key = 'state_dict'

    def __init__(self, config: str, **common: Any) -> None:
        self.config = config
        super().__init__(**common)

    def load_config(self) -> Config:
        """The whole config."""
        register_all_modules(init_default_scope=True)
        return get_config(f'mmdet::{self.config}')

    def build(self) -> nn.Module:
        cfg = self.load_config().model
        cfg.backbone.init_cfg = None
        cfg.test_cfg.rcnn.update(max_per_img=self.detections, score_thr=self.score_threshold)
        model = MODELS.build(cfg)
        self._top_up(model.rpn_head)
        self._count_foreground(model.roi_head.bbox_sampler)
        return model

    def _top_up(self, rpn_head: nn.Module) -> None:
        original = rpn_head.loss_and_predict

        def loss_and_predict(*args: Any, **kwargs: Any) -> tuple:
            losses, proposals = original(*args, **kwargs)
            return losses, [
                InstanceData(bboxes=torch.cat([found.bboxes, copies]))
                for found, copies in zip(proposals, self.copies, strict=True)
            ]

        rpn_head.loss_and_predict = loss_and_predict

    def _count_foreground(self, sampler: Any) -> None:
        original = sampler.sample

        def sample(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            self.foreground.append(len(result.pos_priors))
            return result

        sampler.sample = sample

    def to_batch(
        self, images: Sequence[np.ndarray], people: Sequence[People] | None = None
    ) -> dict:
        inputs, samples = [], []
        for index, rgb in enumerate(images):
            bgr = rgb[..., ::-1].transpose(2, 0, 1).copy()
            inputs.append(torch.from_numpy(bgr))
            size = rgb.shape[:2]
            sample = DetDataSample(
                metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
            )
            if people:
                sample.gt_instances = self.annotate(people[index])
            samples.append(sample)
        return dict(inputs=inputs, data_samples=samples)

    def annotate(self, people: People) -> InstanceData:
        """An image's annotations."""
        return InstanceData(
            bboxes=HorizontalBoxes(torch.from_numpy(people.boxes)),
            labels=torch.zeros(len(people.boxes), dtype=torch.int64),
            masks=BitmapMasks(people.masks, *people.masks.shape[1:]),
        )

    def run(self, batch: dict) -> list[DetDataSample]:
        return self.model.test_step(batch)

    def losses(self, batch: dict) -> Tensor:
        data = self.model.data_preprocessor(batch, True)
        losses = self.model(**data, mode='loss')
        return self.model.parse_losses(losses)[0]

    def to_arrays(self, result: DetDataSample) -> dict[str, Any]:
        found = result.pred_instances
        arrays = dict(boxes=found.bboxes, scores=found.scores, labels=found.labels)
        for name in ('masks', 'keypoints'):
            if name in found:
                arrays[name] = found[name]
        return arrays

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ('mmdet', 'mmcv', 'mmengine')}
