"""Baseline of Detectron2."""

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
    # Detectron2 is not compiled. It imports the extension, but calls none of it on the CPU here.
    sys.modules['detectron2._C'] = types.ModuleType('detectron2._C')

from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage

from benchmarks.speed.baselines.base import Baseline
from benchmarks.speed.inputs import People


class Detectron2Net(Baseline):
    """A model of Detectron2's zoo with a mask head; ``config`` is a file of its configs."""

    checkpoint_key = 'model'
    packages = ('torchvision',)

    def build(self) -> nn.Module:
        """Build the model from its config."""
        package = Path(detectron2.__file__).parent
        # A checkout that is not installed has the configs at its top.
        folders = [package / 'model_zoo/configs', package.parent / 'configs']
        cfg = get_cfg()
        cfg.merge_from_file(str(next(filter(Path.is_dir, folders)) / self.config))
        cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = str(self.device), ''
        cfg.MODEL.MASK_ON = True
        cfg.INPUT.MASK_FORMAT = 'bitmask'
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = self.score_threshold
        cfg.TEST.DETECTIONS_PER_IMAGE = self.detections
        model = build_model(cfg)
        generator = model.proposal_generator
        original = generator.forward

        def forward(images: Any, features: Any, gt_instances: list | None = None) -> tuple:
            proposals, losses = original(images, features, gt_instances)
            if generator.training:
                proposals = [
                    Instances(
                        found.image_size,
                        proposal_boxes=Boxes.cat([found.proposal_boxes, Boxes(extra)]),
                        objectness_logits=torch.cat(
                            [found.objectness_logits, extra.new_zeros(len(extra))]
                        ),
                    )
                    for found, extra in zip(proposals, self.extra_proposals, strict=True)
                ]
            return proposals, losses

        generator.forward = forward
        return model

    def to_batch(
        self, images: Sequence[np.ndarray], people: Sequence[People] | None = None
    ) -> list[dict]:
        """Collate dicts of BGR images and instances."""
        batch = []
        for index, rgb in enumerate(images):
            bgr = torch.from_numpy(rgb[..., ::-1].transpose(2, 0, 1).copy())  # (3, H, W)
            batch.append(dict(image=bgr, height=rgb.shape[0], width=rgb.shape[1]))
            if people:
                truth = people[index]
                keypoints = torch.from_numpy(truth.keypoints)
                visible = torch.full_like(keypoints[..., :1], 2)  # (N, 17, 1), labeled and visible
                batch[-1]['instances'] = Instances(
                    rgb.shape[:2],
                    gt_boxes=Boxes(torch.from_numpy(truth.boxes)),
                    gt_classes=torch.zeros(len(keypoints), dtype=torch.int64),
                    gt_masks=BitMasks(torch.from_numpy(truth.masks)),
                    gt_keypoints=Keypoints(torch.cat([keypoints, visible], -1)),
                )
        return batch

    def run(self, batch: list[dict]) -> list[dict]:
        """Run the model in evaluation mode."""
        return self.model(batch)

    def losses(self, batch: list[dict]) -> Tensor:
        """Run the model in training mode."""
        with EventStorage():  # the heads log into it
            return sum(self.model(batch).values())

    def to_arrays(self, result: dict) -> dict[str, Tensor]:
        """Unpack instances."""
        found = result['instances']
        return dict(
            boxes=found.pred_boxes.tensor,
            scores=found.scores,
            labels=found.pred_classes,
            masks=found.pred_masks,
            keypoints=found.pred_keypoints[..., :2],
        )

    def describe(self) -> dict[str, Any]:
        """Add version and commit of the checkout, and whether it is compiled."""
        description = super().describe()
        git = ['git', '-C', str(Path(detectron2.__file__).parent), 'rev-parse', 'HEAD']
        commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
        # The stand-in for the extension has no file.
        is_compiled = getattr(sys.modules['detectron2._C'], '__file__', None)
        description['versions'] |= dict(
            detectron2=detectron2.__version__,
            detectron2_commit=commit or 'unknown',
            detectron2_extension='compiled' if is_compiled else 'not compiled',
        )
        return description
