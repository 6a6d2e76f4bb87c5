"""A network of Detectron2."""

import importlib.util
import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import detectron2
import numpy as np
import torch
from torch import Tensor, nn

if importlib.util.find_spec('detectron2._C') is None:
    # The extension is not compiled. On the CPU nothing of it is called here,
    # but without a module of its name Detectron2 does not load.
    sys.modules['detectron2._C'] = types.ModuleType('detectron2._C')

from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage

from benchmarks.speed.baselines.base import Baseline
from benchmarks.speed.inputs import People


class Detectron2Net(Baseline):
    """A model of Detectron2's zoo with a mask head.

    Args:
        config (str): File below Detectron2's folder of configs.
        common: As in :class:`Baseline`.
    """

    checkpoint_key = 'model'

    def __init__(self, config: str, **common: Any) -> None:
        self.config = config
        super().__init__(**common)

    def build(self) -> nn.Module:
        cfg = get_cfg()
        cfg.merge_from_file(str(_configs() / self.config))
        cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = str(self.device), ''
        cfg.MODEL.MASK_ON = True
        cfg.INPUT.MASK_FORMAT = 'bitmask'
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = self.score_threshold
        cfg.TEST.DETECTIONS_PER_IMAGE = self.detections
        model = build_model(cfg)
        self._top_up(model.proposal_generator)
        self._count_foreground(model.roi_heads)
        return model

    def _top_up(self, generator: nn.Module) -> None:
        original = generator.forward

        def forward(images: Any, features: Any, gt_instances: list | None = None) -> tuple:
            proposals, losses = original(images, features, gt_instances)
            if generator.training:
                proposals = [
                    Instances.cat([found, self._to_proposals(found, copies)])
                    for found, copies in zip(proposals, self.copies, strict=True)
                ]
            return proposals, losses

        generator.forward = forward

    @staticmethod
    def _to_proposals(found: Instances, boxes: Tensor) -> Instances:
        return Instances(
            found.image_size,
            proposal_boxes=Boxes(boxes),
            objectness_logits=boxes.new_zeros(len(boxes)),
        )

    def _count_foreground(self, heads: nn.Module) -> None:
        original = heads.label_and_sample_proposals

        def label_and_sample_proposals(*args: Any) -> list[Instances]:
            sampled = original(*args)
            self.foreground.extend(
                int((image.gt_classes < heads.num_classes).sum()) for image in sampled
            )
            return sampled

        heads.label_and_sample_proposals = label_and_sample_proposals

    def to_batch(
        self, images: Sequence[np.ndarray], people: Sequence[People] | None = None
    ) -> list[dict]:
        batch = []
        for index, rgb in enumerate(images):
            bgr = torch.from_numpy(rgb[..., ::-1].transpose(2, 0, 1).copy())
            item = dict(image=bgr, height=rgb.shape[0], width=rgb.shape[1])
            if people:
                item['instances'] = self._annotate(people[index])
            batch.append(item)
        return batch

    @staticmethod
    def _annotate(people: People) -> Instances:
        keypoints = torch.from_numpy(people.keypoints)
        visible = torch.full_like(keypoints[..., :1], 2)
        return Instances(
            people.masks.shape[1:],
            gt_boxes=Boxes(torch.from_numpy(people.boxes)),
            gt_classes=torch.zeros(len(keypoints), dtype=torch.int64),
            gt_masks=BitMasks(torch.from_numpy(people.masks)),
            gt_keypoints=Keypoints(torch.cat([keypoints, visible], -1)),
        )

    def run(self, batch: list[dict]) -> list[dict]:
        return self.model(batch)

    def losses(self, batch: list[dict]) -> Tensor:
        with EventStorage():
            return sum(self.model(batch).values())

    def to_arrays(self, result: dict) -> dict[str, Tensor]:
        found = result['instances']
        return dict(
            boxes=found.pred_boxes.tensor,
            scores=found.scores,
            labels=found.pred_classes,
            masks=found.pred_masks,
            keypoints=found.pred_keypoints[..., :2],
        )

    def versions(self) -> dict[str, str]:
        import torchvision

        folder = str(Path(detectron2.__file__).parent)
        git = subprocess.run(
            ['git', '-C', folder, 'rev-parse', 'HEAD'], capture_output=True, text=True
        )
        compiled = getattr(sys.modules.get('detectron2._C'), '__file__', None)
        return dict(
            torchvision=torchvision.__version__,
            detectron2=detectron2.__version__,
            detectron2_commit=git.stdout.strip() or 'unknown',
            detectron2_extension='compiled' if compiled else 'not compiled',
        )


def _configs() -> Path:
    """The zoo's configs, which an uncompiled checkout has at its top."""
    package = Path(detectron2.__file__).parent
    zoo = package / 'model_zoo/configs'
    return zoo if zoo.is_dir() else package.parent / 'configs'
