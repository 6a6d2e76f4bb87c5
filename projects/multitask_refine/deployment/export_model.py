"""The network as one function from an image to people, to be recorded.

mmdet's own prediction asks Python how many boxes there are; here only tensors
know it, so that the recorded graph holds for any number.

Shape letters: R RoIs, C channels, P side of a RoI's feature, K keypoints.
"""

from typing import List, Tuple

import torch
import torch.nn.functional as F
from mmcv.cnn import fuse_conv_bn
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn
from torch.onnx.operators import shape_as_tensor

from multitask_refine.codecs import RoISoftmaxCodec
from multitask_refine.models import LogitRankedRPNHead
from multitask_refine.ops import DeformRoIPool, RefinedConv2d

from .operators import OnnxRefinedConv2d, find_rows, nms, roi_align
from .softmax_decoder import LoopedSoftmaxCodec


class OnnxNetwork(nn.Module):
    """A ``MultitaskRCNN`` that can be recorded. It takes the network apart.

    Args:
        model (nn.Module): The network, in eval mode.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = fuse_conv_bn(model)
        _replace_convolutions(self.model)
        head = model.roi_head.keypoint_head
        if head is not None and isinstance(head.codec, RoISoftmaxCodec):
            head.codec = LoopedSoftmaxCodec(head.codec.heatmap_size, head.codec.score)

    @property
    def output_names(self) -> List[str]:
        """list[str]: What :meth:`forward` gives."""
        head = self.model.roi_head
        return (
            ['boxes', 'scores']
            + ['masks'] * head.with_mask
            + ['keypoints', 'keypoint_scores'] * head.with_keypoint
        )

    def forward(self, image: Tensor) -> Tuple[Tensor, ...]:
        """Find the people of an image.

        Args:
            image (Tensor): BGR, 0 to 255, shape (1, 3, H, W).

        Returns:
            tuple[Tensor]: For N people, best first, boxes xyxy (N, 4) and
            scores (N); from the heads that are there, mask probabilities
            (N, M, M), joints (N, K, 2) and their scores (N, K). In pixels
            of ``image``.
        """
        head = self.model.roi_head
        limits = shape_as_tensor(image)[[3, 2, 3, 2]].to(image)
        x = self.model.extract_feat(self.prepare(image))
        boxes, scores = self.select(x, self.propose(x, limits), limits)
        outputs = [boxes, scores]
        feats = self.pool_instances(x, boxes)
        if head.with_mask:
            outputs.append(head.mask_head(feats)[:, 0].sigmoid())
        if head.with_keypoint:
            heatmaps = head.keypoint_head.refined_heatmaps(feats)
            outputs += head.keypoint_head.codec.decode(heatmaps, boxes)
        return tuple(outputs)

    def prepare(self, image: Tensor) -> Tensor:
        """Normalise and pad an image as the data preprocessor does."""
        step = self.model.data_preprocessor
        if step._channel_conversion:
            image = image.flip(1)
        if step._enable_normalize:
            image = (image - step.mean) / step.std
        height, width = shape_as_tensor(image)[2:].unbind()
        divisor = step.pad_size_divisor
        border = (0, -width % divisor, 0, -height % divisor)
        return F.pad(image, border, value=step.pad_value)

    def propose(self, x: Tuple[Tensor], limits: Tensor) -> Tensor:
        """Find the RoIs (R, 4).

        Args:
            x (tuple[Tensor]): Feature maps of all levels, (1, C, H, W) each.
            limits (Tensor): Width and height of the image, twice.
        """
        head = self.model.rpn_head
        cfg = head.test_cfg
        levels = list(zip(*head(x)))
        anchors = head.prior_generator.grid_priors(
            [logits.shape[-2:] for logits, _ in levels], device=limits.device
        )
        best = [self._best_anchors(*level, priors) for level, priors in zip(levels, anchors)]
        numbers = torch.cat([0 * ranks.long() + i for i, (ranks, _, _) in enumerate(best)])
        ranks, deltas, priors = (torch.cat(parts) for parts in zip(*best))
        boxes = decode(head.bbox_coder, priors, deltas, limits)
        # Boxes of different levels are laid where they do not overlap.
        apart = boxes + (numbers * (boxes.max() + 1))[:, None]
        if cfg.get('min_bbox_size', -1) >= 0:
            large = find_larger(boxes, cfg.min_bbox_size)
            boxes, apart, ranks = boxes[large], apart[large], ranks[large]
        return boxes[nms(apart, ranks, cfg.nms.iou_threshold, cfg.max_per_img)]

    def _best_anchors(
        self, logits: Tensor, deltas: Tensor, priors: Tensor
    ) -> Tuple[Tensor, Tensor, Tensor]:
        """Rank, deltas and position of a level's most likely anchors."""
        head = self.model.rpn_head
        ranks = logits[0].permute(1, 2, 0).flatten()
        if not isinstance(head, LogitRankedRPNHead):
            ranks = ranks.sigmoid()
        deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)
        most = head.test_cfg.get('nms_pre', -1)
        if most > 0:
            count = shape_as_tensor(ranks)[0].clamp(max=most)
            ranks, index = ranks.topk(count)
            deltas, priors = deltas[index], priors[index]
        return ranks, deltas, priors

    def select(self, x: Tuple[Tensor], rois: Tensor, limits: Tensor) -> Tuple[Tensor, Tensor]:
        """Find the people among the RoIs: boxes (N, 4) and scores (N)."""
        roi_head = self.model.roi_head
        head, cfg = roi_head.bbox_head, roi_head.test_cfg
        # The box head never runs on nothing: one more RoI, an empty one.
        logits, deltas = head(self._pool_boxes(x, F.pad(rois, (0, 0, 0, 1))))
        logits, deltas = logits[:-1], deltas[:-1]
        scores = logits.softmax(-1)[:, 0]
        boxes = decode(head.bbox_coder, rois, deltas, limits)
        kept = nms(boxes, scores, cfg.nms.iou_threshold, cfg.max_per_img, cfg.score_thr)
        boxes, scores = boxes[kept], scores[kept]
        large = find_larger(boxes, cfg.get('min_bbox_size', 0))
        return boxes[large], scores[large]

    def _pool_boxes(self, x: Tuple[Tensor], rois: Tensor) -> Tensor:
        head = self.model.roi_head
        if head.bbox_roi_extractor is not None:
            return pool(head.bbox_roi_extractor, x, rois)
        feats = self.pool_instances(x, rois)
        return F.avg_pool2d(
            feats,
            [
                int(side) // target
                for side, target in zip(feats.shape[-2:], head.bbox_head.roi_feat_size)
            ],
        )

    def pool_instances(self, x: Tuple[Tensor], rois: Tensor) -> Tensor:
        """Pool what mask and keypoint head take, (R, C, P, P)."""
        head = self.model.roi_head
        feats = pool(head.instance_roi_extractor, x, rois)
        return head.shared_head(feats) if head.with_shared_head else feats


def decode(coder: nn.Module, boxes: Tensor, deltas: Tensor, limits: Tensor) -> Tensor:
    """Move boxes (R, 4) by deltas (R, 4) and clip them to the image."""
    moved = coder.decode(boxes, deltas)
    if not coder.clip_border:
        return moved
    return torch.minimum(moved.clamp(min=0), limits)


def find_larger(boxes: Tensor, smallest: float) -> Tensor:
    """Which boxes (R, 4) have a greater width and height, as indices."""
    return find_rows((boxes[:, 2:] - boxes[:, :2] > smallest).all(-1))


def pool(extractor: SingleRoIExtractor, x: Tuple[Tensor], boxes: Tensor) -> Tensor:
    """Pool each box (R, 4) from the level that fits its size, to
    (R, C, P, P)."""
    x = x[: extractor.num_inputs]
    if len(x) == 1:
        return pool_level(extractor.roi_layers[0], x[0], boxes)
    levels = extractor.map_roi_levels(F.pad(boxes, (1, 0)), len(x))
    chosen = [(levels == i).nonzero()[:, 0] for i in range(len(x))]
    pooled = torch.cat(
        [
            pool_level(layer, level, boxes[index])
            for layer, level, index in zip(extractor.roi_layers, x, chosen)
        ]
    )
    # Back to the order of the boxes.
    return pooled[torch.cat(chosen).argsort()]


def pool_level(layer: nn.Module, x: Tensor, boxes: Tensor) -> Tensor:
    """Pool boxes (R, 4) from one level (1, C, H, W)."""
    if isinstance(layer, DeformRoIPool):
        return layer(x, F.pad(boxes, (1, 0)))
    return roi_align(
        x, boxes, layer.output_size[0], layer.spatial_scale, layer.sampling_ratio, layer.aligned
    )


def _replace_convolutions(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, RefinedConv2d):
            setattr(module, name, OnnxRefinedConv2d(child))
        else:
            _replace_convolutions(child)
