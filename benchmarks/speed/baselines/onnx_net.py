"""A config of this project, exported and run by onnxruntime."""

import copy
from importlib.metadata import version
from typing import Any

import onnxruntime
import torch

from benchmarks.speed.baselines.multitask_net import MultitaskNet
from multitask_refine.deployment.checks import OPSETS
from multitask_refine.deployment.export import to_onnx
from multitask_runtime.onnx.masks import paste_masks

MASK_THRESHOLD = 0.5


class OnnxNet(MultitaskNet):
    """The same network as ``MultitaskNet``, one image after the other."""

    session: onnxruntime.InferenceSession | None = None

    def run(self, batch: dict) -> list[dict[str, Any]]:
        if self.session is None:
            graph = to_onnx(copy.deepcopy(self.model), OPSETS[0])
            self.session = onnxruntime.InferenceSession(graph, providers=['CPUExecutionProvider'])
        return [self._find(image) for image in batch['inputs']]

    def _find(self, image: torch.Tensor) -> dict[str, Any]:
        outputs = self.session.run(None, dict(image=image[None].float().numpy()))
        boxes, scores, masks, keypoints, _ = outputs
        pasted = paste_masks(masks, boxes, image.shape[1:], MASK_THRESHOLD)
        found = dict(
            boxes=boxes, scores=scores, labels=0 * scores, masks=pasted, keypoints=keypoints
        )
        return {name: torch.from_numpy(values) for name, values in found.items()}

    def to_arrays(self, result: dict[str, Any]) -> dict[str, Any]:
        return result

    def versions(self) -> dict[str, str]:
        return dict(super().versions(), onnxruntime=version('onnxruntime'))
