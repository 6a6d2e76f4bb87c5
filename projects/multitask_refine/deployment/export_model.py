"""Model for export: one function from an image to instances that can be traced.

MMDetection's prediction reads the number of boxes in Python; here only tensors hold
it, so that the traced graph is valid for any number.

Shape letters: R RoIs, N instances, C channels, P side of a RoI feature, K keypoints,
M side of a mask.
"""

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


class OnnxExportModel(nn.Module):
    """Traceable ``MultitaskRCNN``.

    Args:
        model (nn.Module): The model, in eval mode. It is modified.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = fuse_conv_bn(model)
        for parent in list(self.model.modules()):
            for name, child in parent.named_children():
                if isinstance(child, RefinedConv2d):
                    setattr(parent, name, OnnxRefinedConv2d(child))
        head = model.roi_head.keypoint_head
        if head is not None and isinstance(head.codec, RoISoftmaxCodec):
            head.codec = LoopedSoftmaxCodec(head.codec.heatmap_size, head.codec.score)

    @property
    def output_names(self) -> list[str]:
        """list[str]: Names of the outputs of :meth:`forward`."""
        head = self.model.roi_head
        return (
            ['boxes', 'scores']
            + ['masks'] * head.with_mask
            + ['keypoints', 'keypoint_scores'] * head.with_keypoint
            + [branch.field for branch in head.branches.values()]
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Detect the instances of an image.

        Args:
            image (Tensor): BGR, 0 to 255, shape (1, 3, H, W).

        Returns:
            tuple[Tensor]: Boxes xyxy (N, 4) and scores (N), best first; depending on the
            heads mask probabilities (N, M, M), keypoints (N, K, 2), keypoint scores (N, K) and
            the probabilities of the branches (N, ...). In pixels of ``image``.
        """
        head = self.model.roi_head
        # Read by an operator: image.shape would become a constant of the graph.
        limits = shape_as_tensor(image)[[3, 2, 3, 2]].to(image)  # W, H, W, H
        image = self.preprocess(image)
        x = self.model.extract_feat(image)
        boxes, scores = self.predict_bbox(x, self.predict_proposals(x, limits), limits)
        outputs = [boxes, scores]
        feats = self.extract_instance_feats(x, boxes)
        mask_x = self.model.extract_mask_feat(image, x)
        mask_feats = feats if mask_x is x else self.extract_instance_feats(mask_x, boxes)
        found = head.instance_forward(feats, mask_feats)
        if head.with_mask:
            outputs.append(found.mask_preds[:, 0].sigmoid())  # (N, 1, M, M), (N, M, M)
        if head.with_keypoint:
            # A RoI is appended: onnxruntime 1.23 and earlier fail at maxima over no RoIs.
            padded = [
                torch.cat([each, each.new_ones(1, *each.shape[1:])])
                for each in (found.heatmaps, boxes)
            ]
            outputs += [each[:-1] for each in head.keypoint_head.codec.decode(*padded)]
        return (*outputs, *found.branches.values())

    def preprocess(self, image: Tensor) -> Tensor:
        """Normalize and pad an image (1, 3, H, W) as the data preprocessor does."""
        preprocessor = self.model.data_preprocessor
        if preprocessor._channel_conversion:
            image = image.flip(1)
        if preprocessor._enable_normalize:
            image = (image - preprocessor.mean) / preprocessor.std
        height, width = shape_as_tensor(image)[2:].unbind()
        divisor = preprocessor.pad_size_divisor
        border = (0, -width % divisor, 0, -height % divisor)
        return F.pad(image, border, value=preprocessor.pad_value)

    def predict_proposals(self, x: tuple[Tensor], limits: Tensor) -> Tensor:
        """Predict the RoIs.

        Args:
            x (tuple[Tensor]): Feature maps of all levels, shape (1, C, H, W) each.
            limits (Tensor): Width and height of the image, twice.

        Returns:
            Tensor: Boxes xyxy, shape (R, 4).
        """
        head = self.model.rpn_head
        cfg = head.test_cfg
        maps = list(zip(*head(x), strict=True))  # (logits, deltas) per level
        all_priors = head.prior_generator.grid_priors(
            [logits.shape[-2:] for logits, _ in maps], device=limits.device
        )
        levels = []
        for level, ((logits, deltas), priors) in enumerate(zip(maps, all_priors, strict=True)):
            scores = logits[0].permute(1, 2, 0).flatten()  # (A, H, W) -> (HWA)
            if not isinstance(head, LogitRankedRPNHead):
                scores = scores.sigmoid()
            deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)  # (4A, H, W) -> (HWA, 4)
            nms_pre = cfg.get('nms_pre', -1)
            if nms_pre > 0:
                count = shape_as_tensor(scores)[0].clamp(max=nms_pre)
                scores, index = scores.topk(count)
                deltas, priors = deltas[index], priors[index]
            levels.append((scores, deltas, priors, 0 * scores.long() + level))
        scores, deltas, priors, level_ids = (
            torch.cat(parts) for parts in zip(*levels, strict=True)
        )
        boxes = decode(head.bbox_coder, priors, deltas, limits)
        # NMS within each level: boxes of different levels are shifted apart.
        shifted = boxes + (level_ids * (boxes.max() + 1))[:, None]
        if cfg.get('min_bbox_size', -1) >= 0:
            keep = filter_small(boxes, cfg.min_bbox_size)
            boxes, shifted, scores = boxes[keep], shifted[keep], scores[keep]
        return boxes[nms(shifted, scores, cfg.nms.iou_threshold, cfg.max_per_img)]

    def predict_bbox(
        self, x: tuple[Tensor], rois: Tensor, limits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predict boxes (N, 4) and scores (N) from the RoIs (R, 4)."""
        roi_head = self.model.roi_head
        head, cfg = roi_head.bbox_head, roi_head.test_cfg
        # The box head cannot run on nothing, so one empty RoI is added.
        padded = F.pad(rois, (0, 0, 0, 1))
        if roi_head.bbox_roi_extractor is not None:
            feats = extract_roi_feats(roi_head.bbox_roi_extractor, x, padded)
        else:
            feats = self.extract_instance_feats(x, padded)
            sizes = zip(feats.shape[-2:], head.roi_feat_size, strict=True)
            feats = F.avg_pool2d(feats, [int(side) // target for side, target in sizes])
        logits, deltas = head(feats)
        logits, deltas = logits[:-1], deltas[:-1]  # (R, classes + 1), (R, 4)
        scores = logits.softmax(-1)[:, 0]  # (R), of the class person
        boxes = decode(head.bbox_coder, rois, deltas, limits)
        keep = nms(boxes, scores, cfg.nms.iou_threshold, cfg.max_per_img, cfg.score_thr)
        boxes, scores = boxes[keep], scores[keep]
        keep = filter_small(boxes, cfg.get('min_bbox_size', 0))
        return boxes[keep], scores[keep]

    def extract_instance_feats(self, x: tuple[Tensor], rois: Tensor) -> Tensor:
        """Extract the feature shared by mask and keypoint head, (R, C, P, P)."""
        head = self.model.roi_head
        feats = extract_roi_feats(head.instance_roi_extractor, x, rois)
        return head.shared_head(feats) if head.with_shared_head else feats


def decode(coder: nn.Module, boxes: Tensor, deltas: Tensor, limits: Tensor) -> Tensor:
    """Decode the box deltas (R, 4) of boxes (R, 4) and clip them to the image."""
    decoded = coder.decode(boxes, deltas)
    return torch.minimum(decoded.clamp(min=0), limits) if coder.clip_border else decoded


def filter_small(boxes: Tensor, min_size: float) -> Tensor:
    """Return the indices of the boxes (R, 4) with a greater width and height."""
    return find_rows((boxes[:, 2:] - boxes[:, :2] > min_size).all(-1))


def extract_roi_feats(extractor: SingleRoIExtractor, x: tuple[Tensor], boxes: Tensor) -> Tensor:
    """Pool the feature of each box from the level that fits its size.

    Args:
        extractor (SingleRoIExtractor): The RoI extractor.
        x (tuple[Tensor]): Feature maps of all levels, shape (1, C, H, W) each.
        boxes (Tensor): xyxy, shape (R, 4).

    Returns:
        Tensor: Shape (R, C, P, P).
    """
    x = x[: extractor.num_inputs]
    if len(x) == 1:
        return pool_level(extractor.roi_layers[0], x[0], boxes)
    level_ids = extractor.map_roi_levels(F.pad(boxes, (1, 0)), len(x))
    indices = [(level_ids == level).nonzero()[:, 0] for level in range(len(x))]
    pooled = torch.cat(
        [
            pool_level(layer, feature, boxes[index])
            for layer, feature, index in zip(extractor.roi_layers, x, indices, strict=True)
        ]
    )
    # Back to the order of the boxes.
    return pooled[torch.cat(indices).argsort()]


def pool_level(layer: nn.Module, x: Tensor, boxes: Tensor) -> Tensor:
    """Pool boxes (R, 4) from one level (1, C, H, W) to (R, C, P, P)."""
    if isinstance(layer, DeformRoIPool):
        return layer(x, F.pad(boxes, (1, 0)))
    return roi_align(
        x, boxes, layer.output_size[0], layer.spatial_scale, layer.sampling_ratio, layer.aligned
    )
