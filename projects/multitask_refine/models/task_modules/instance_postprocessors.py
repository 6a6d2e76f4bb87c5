"""Consistency of box, mask and keypoints of an instance at test time.

A postprocessor takes the detections of an image with all their fields and returns them changed or
fewer; ``test_cfg.rcnn.postprocess`` is a list of their configs, applied in this order.

Shape letters: N instances, K keypoints, H x W image.
"""

from collections.abc import Sequence

import numpy as np
import torch
from mmdet.registry import TASK_UTILS
from mmdet.structures.mask import encode_mask_results
from mmengine.structures import InstanceData
from pycocotools import mask as mask_codec
from torch import Tensor

from multitask_refine.utils.errors import ConfigError

# COCO's 17 keypoints of a person
_COCO_SIGMAS = [0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072]
_COCO_SIGMAS += [0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089]


@TASK_UTILS.register_module()
class MaskBoxRefiner:
    """Move the edges of each box toward the extent of its mask.

    Args:
        weight (float): 0 keeps the box, 1 takes the extent of the mask. Defaults to 0.5.

    Raises:
        ConfigError: If ``weight`` is out of range.
    """

    fields = ('masks',)

    def __init__(self, weight: float = 0.5) -> None:
        """Check and store the setting."""
        if not 0 <= weight <= 1:
            raise ConfigError(f'MaskBoxRefiner: weight: expected 0 to 1, found {weight}')
        self.weight = weight

    def __call__(self, instances: InstanceData) -> InstanceData:
        """Refine the boxes (N, 4); those of empty masks stay as they are."""
        boxes = instances.bboxes
        sides = []
        for axis in (1, 2):  # (N, W), then (N, H): whether a column or row has a pixel of the mask
            line = instances.masks.any(axis).to(boxes)
            first = line.argmax(1)
            last = line.shape[1] - line.flip(1).argmax(1)  # pixel i covers i to i + 1
            sides.append((first, last))
        (x1, x2), (y1, y2) = sides
        extents = torch.stack([x1, y1, x2, y2], 1).to(boxes)
        found = instances.masks.flatten(1).any(1)
        instances.bboxes = torch.where(found[:, None], boxes.lerp(extents, self.weight), boxes)
        return instances


@TASK_UTILS.register_module()
class KeypointBoxRefiner:
    """Enlarge each box to contain its confident keypoints.

    A keypoint lies outside of its box only if the RoIs of the keypoint head are larger than the
    boxes: ``test_cfg.rcnn.roi_scale_factor``.

    Args:
        score_thr (float): Least score of a keypoint that counts.
    """

    fields = ('keypoints', 'keypoint_scores')

    def __init__(self, score_thr: float) -> None:
        """Store the setting."""
        self.score_thr = score_thr

    def __call__(self, instances: InstanceData) -> InstanceData:
        """Refine the boxes (N, 4)."""
        counted = (instances.keypoint_scores >= self.score_thr)[..., None]  # (N, K, 1)
        top_left, bottom_right = instances.bboxes[:, None].chunk(2, -1)  # (N, 1, 2)
        instances.bboxes = torch.cat(
            [
                torch.where(counted, instances.keypoints, top_left)
                .amin(1)
                .minimum(top_left[:, 0]),
                torch.where(counted, instances.keypoints, bottom_right)
                .amax(1)
                .maximum(bottom_right[:, 0]),
            ],
            1,
        )
        return instances


@TASK_UTILS.register_module()
class KeypointRescorer:
    """Lower the scores of keypoints that lie outside of their instance's box or mask.

    The factor is the similarity of OKS for the distance d to the region,
    ``exp(-d^2 / (2 area (2 sigma)^2))`` with the area of the box: 1 inside, and the less the
    farther outside.

    Args:
        region (str): 'mask' or 'bbox'.
        sigmas (Sequence[float]): Of each keypoint, as in the dataset's meta file. Defaults to
            those of COCO's persons.

    Raises:
        ConfigError: If ``region`` is unknown.
    """

    def __init__(self, region: str = 'mask', sigmas: Sequence[float] = _COCO_SIGMAS) -> None:
        """Check and store the settings."""
        if region not in ('mask', 'bbox'):
            raise ConfigError(
                f"KeypointRescorer: region: expected 'mask' or 'bbox', found {region!r}"
            )
        self.region = region
        self.sigmas = sigmas
        self.fields = ('keypoints', 'keypoint_scores') + ('masks',) * (region == 'mask')

    def __call__(self, instances: InstanceData) -> InstanceData:
        """Rescore the keypoints (N, K)."""
        scores = instances.keypoint_scores
        if self.region == 'bbox':
            distances = _distances_to_boxes(instances.keypoints, instances.bboxes[:, None])
        else:
            distances = torch.zeros_like(scores)
            for i, mask in enumerate(instances.masks):
                y, x = mask.nonzero().to(scores).unbind(1)  # (P) pixels
                if len(x):
                    pixels = torch.stack([x, y, x + 1, y + 1], 1)
                    points = instances.keypoints[i, :, None]  # (K, 1, 2)
                    distances[i] = _distances_to_boxes(points, pixels).amin(1)  # (K, P) to (K)
        variances = _oks_variances(self.sigmas, instances.keypoints)
        areas = _box_areas(instances.bboxes)[:, None]
        instances.keypoint_scores = scores * torch.exp(-(distances**2) / (2 * areas * variances))
        return instances


@TASK_UTILS.register_module()
class InstanceNMS:
    """Suppress instances by the similarity of their poses or masks.

    Crowded people overlap with their boxes, not with their masks, and their keypoints differ. The
    NMS of the boxes before must let them pass: raise ``test_cfg.rcnn.nms.iou_threshold``.

    Args:
        similarity (str): 'oks', the object keypoint similarity of two detections, or 'mask', the
            intersection over union of their masks.
        threshold (float): Of two instances with a greater similarity, that with the lower score
            is suppressed.
        sigmas (Sequence[float]): See :class:`KeypointRescorer`.

    Raises:
        ConfigError: If ``similarity`` is unknown.
    """

    def __init__(
        self, similarity: str, threshold: float, sigmas: Sequence[float] = _COCO_SIGMAS
    ) -> None:
        """Check and store the settings."""
        if similarity not in ('oks', 'mask'):
            raise ConfigError(
                f"InstanceNMS: similarity: expected 'oks' or 'mask', found {similarity!r}"
            )
        self.similarity = similarity
        self.threshold = threshold
        self.sigmas = sigmas
        self.fields = ('keypoints',) if similarity == 'oks' else ('masks',)

    def __call__(self, instances: InstanceData) -> InstanceData:
        """Keep the best of similar instances of the same label, best first."""
        order = instances.scores.argsort(descending=True, stable=True)
        instances = instances[order]
        if self.similarity == 'oks':
            similarity = pairwise_oks(instances.keypoints, instances.bboxes, self.sigmas)
        else:
            similarity = pairwise_mask_iou(instances.masks)
        labels = instances.labels
        similar = (similarity > self.threshold) & (labels[:, None] == labels)
        suppressed = np.zeros(len(instances), bool)
        for i, row in enumerate(similar.cpu().numpy()):
            if not suppressed[i]:
                suppressed[i + 1 :] |= row[i + 1 :]
        return instances[torch.from_numpy(~suppressed).to(order.device).nonzero()[:, 0]]


def pairwise_oks(keypoints: Tensor, boxes: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Compute the object keypoint similarity of detections.

    The area of a pair is the mean of its boxes' areas, as in MMPose.

    Args:
        keypoints (Tensor): Shape (N, K, 2).
        boxes (Tensor): xyxy, shape (N, 4).
        sigmas (Sequence[float]): Of each keypoint.

    Returns:
        Tensor: Shape (N, N).
    """
    areas = _box_areas(boxes)
    squares = (keypoints[:, None] - keypoints).square().sum(-1)  # (N, N, K)
    means = ((areas[:, None] + areas) / 2)[..., None]  # (N, N, 1)
    return torch.exp(-squares / (2 * means * _oks_variances(sigmas, keypoints))).mean(-1)


def pairwise_mask_iou(masks: Tensor) -> Tensor:
    """Compute the intersection over union of masks, bool (N, H, W), as (N, N)."""
    if not len(masks):
        return torch.zeros(0, 0, device=masks.device)
    encoded = encode_mask_results(masks.cpu().numpy())
    return torch.from_numpy(mask_codec.iou(encoded, encoded, [0] * len(encoded))).to(masks.device)


def _distances_to_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Compute the distances of points (..., 2) to boxes xyxy (..., 4), 0 inside."""
    top_left, bottom_right = boxes.chunk(2, -1)
    return torch.maximum(top_left - points, points - bottom_right).clamp(min=0).norm(dim=-1)


def _box_areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6).prod(1)


def _oks_variances(sigmas: Sequence[float], keypoints: Tensor) -> Tensor:
    if len(sigmas) != keypoints.shape[-2]:
        raise ConfigError(
            'test_cfg.rcnn.postprocess: sigmas: expected one for each of the '
            f'{keypoints.shape[-2]} keypoints, found {len(sigmas)}. Copy those of the meta file '
            'of the dataset.'
        )
    return (2 * keypoints.new_tensor(sigmas)) ** 2  # (K)
