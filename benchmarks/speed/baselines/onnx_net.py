"""Baseline of ONNX Runtime: a network of this project, exported."""

import copy

import onnxruntime
import torch
from torch import Tensor

from benchmarks.speed.baselines.multitask_net import MultitaskNet
from multitask_refine.deployment.checks import OPSETS
from multitask_refine.deployment.export import to_onnx
from multitask_runtime.onnx.masks import paste_masks


class OnnxNet(MultitaskNet):
    """The network of ``MultitaskNet`` in ONNX Runtime, which takes one image at a time."""

    packages = (*MultitaskNet.packages, 'onnxruntime')
    session: onnxruntime.InferenceSession | None = None

    def run(self, batch: dict) -> list[dict[str, Tensor]]:
        """Run the exported file, and paste the masks into the image; the first call exports."""
        if self.session is None:
            # A copy, as the export changes the network.
            graph = to_onnx(copy.deepcopy(self.model), OPSETS[0])
            self.session = onnxruntime.InferenceSession(graph, providers=['CPUExecutionProvider'])
        results = []
        for image in batch['inputs']:
            feed = dict(image=image[None].float().numpy())
            boxes, scores, masks, keypoints, _ = self.session.run(None, feed)
            masks = paste_masks(masks, boxes, image.shape[1:], 0.5)  # (N, H, W)
            found = dict(boxes=boxes, scores=scores, masks=masks, keypoints=keypoints)
            found['labels'] = 0 * scores  # (N), person is the only class
            results.append({name: torch.from_numpy(values) for name, values in found.items()})
        return results

    def to_arrays(self, result: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs of the file."""
        return result
