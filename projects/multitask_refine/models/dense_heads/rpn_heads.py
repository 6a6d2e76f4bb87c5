"""RPN heads: losses normalized over all ranks, ranking by logits.

Shape letters: A anchors per cell, H x W cells of a level.
"""

from collections.abc import Callable

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from multitask_refine.models.losses.avg_factor import reduce_avg_factor
from multitask_refine.ops import nms
from multitask_refine.ops.cpu import FastCPUModule


@MODELS.register_module()
class SyncAvgFactorRPNHead(FastCPUModule, RPNHead):
    """mmdet's ``RPNHead`` with losses normalized over all ranks.

    Arguments, weights and, in a single process, losses are those of mmdet. Its outputs are float32
    in mixed precision, too, as ranking and NMS need it. On the CPU each level has its own NMS,
    since boxes of different levels are not compared anyway, by
    :func:`~multitask_refine.ops.nms`.
    """

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the objectness logits (B, A, H, W) and box deltas (B, 4A, H, W) of one level."""
        cls_score, bbox_pred = super().forward_single(x)
        dtype = torch.promote_types(cls_score.dtype, torch.float32)
        return cls_score.to(dtype), bbox_pred.to(dtype)

    def get_targets(self, *args, **kwargs) -> tuple:
        """Compute mmdet's targets, the last of which is the average factor over all ranks."""
        *targets, avg_factor = super().get_targets(*args, **kwargs)
        return (*targets, reduce_avg_factor(avg_factor, targets[0][0].device))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """Move the anchors to the device of the parameters, too."""
        super()._apply(fn, recurse)
        device = next(self.parameters()).device
        self.prior_generator.base_anchors = [
            each.to(device) for each in self.prior_generator.base_anchors
        ]
        return self

    def get_anchors(
        self,
        featmap_sizes: list[tuple[int, int]],
        batch_img_metas: list[dict],
        device: torch.device | str = 'cuda',
    ) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Generate the anchors of each image and level, and which of them are valid.

        Arguments and results as in mmdet, but the flags, which follow from the sizes of the images
        alone, are on the CPU.
        """
        anchors = self.prior_generator.grid_priors(featmap_sizes, device=device)
        flags = [
            self.prior_generator.valid_flags(featmap_sizes, meta['pad_shape'], 'cpu')
            for meta in batch_img_metas
        ]
        return [anchors] * len(batch_img_metas), flags

    def _get_targets_single(
        self,
        flat_anchors: Tensor,
        valid_flags: Tensor,
        gt_instances: InstanceData,
        img_meta: dict,
        gt_instances_ignore: InstanceData | None = None,
        unmap_outputs: bool = True,
    ) -> tuple:
        """Compute the targets of an image's anchors, (A, 4), as in mmdet.

        Targets are written to the valid anchors' places, so that the host does not wait for
        conversions between valid and all anchors.
        """
        if self.train_cfg['allowed_border'] >= 0 or self.reg_decoded_bbox or not unmap_outputs:
            flags = valid_flags.to(flat_anchors.device)
            return super()._get_targets_single(
                flat_anchors, flags, gt_instances, img_meta, gt_instances_ignore, unmap_outputs
            )
        valid = valid_flags.nonzero()[:, 0].to(flat_anchors.device, non_blocking=True)
        priors = InstanceData(priors=flat_anchors[valid])
        assigned = self.assigner.assign(priors, gt_instances, gt_instances_ignore)
        sample = self.sampler.sample(assigned, priors, gt_instances)
        positive, negative = valid[sample.pos_inds], valid[sample.neg_inds]
        labels = torch.full_like(flat_anchors[:, 0], self.num_classes, dtype=torch.long)
        label_weights = torch.zeros_like(flat_anchors[:, 0])
        bbox_targets, bbox_weights = torch.zeros_like(flat_anchors), torch.zeros_like(flat_anchors)
        pos_weight = self.train_cfg['pos_weight']
        labels[positive] = sample.pos_gt_labels
        label_weights[positive] = 1.0 if pos_weight <= 0 else pos_weight
        label_weights[negative] = 1.0
        if len(positive):
            bbox_targets[positive] = self.bbox_coder.encode(
                sample.pos_priors, sample.pos_gt_bboxes
            )
            bbox_weights[positive] = 1.0
        return labels, label_weights, bbox_targets, bbox_weights, positive, negative, sample

    def _bbox_post_process(self, results: InstanceData, cfg: ConfigDict, **kwargs) -> InstanceData:
        """Apply NMS to the proposals of an image and keep the top-scoring ones."""
        if cfg.get('min_bbox_size', -1) >= 0:
            # mmdet asks whether any box is too small, and then once more for each field.
            extent = results.bboxes[:, 2:] - results.bboxes[:, :2]
            results = results[(extent > cfg.min_bbox_size).all(-1).nonzero()[:, 0]]
            cfg = ConfigDict(cfg, min_bbox_size=-1)
        if self.fast_cpu_ops and results.scores.is_cpu:
            nms_cfg = dict(cfg.nms, split_thr=0)  # mmcv: NMS for each level
            if cfg.nms.keys() == {'type', 'iou_threshold'} and cfg.nms['type'] == 'nms':
                nms_cfg['type'] = nms
            cfg = ConfigDict(cfg, nms=nms_cfg)
        return super()._bbox_post_process(results, cfg, **kwargs)


@MODELS.register_module()
class LogitRankedRPNHead(SyncAvgFactorRPNHead):
    """RPN head that ranks anchors by their logits, as Detectron2 and torchvision do.

    mmdet ranks by the sigmoid in float32, in which all logits above 17 are equal. In float64, as
    here, the sigmoid keeps the order of the logits. The losses are divided by the number of
    sampled anchors; mmdet counts one more for each image without positive anchors. Arguments as in
    mmdet's ``RPNHead``.
    """

    def _get_targets_single(self, *args, **kwargs) -> tuple:
        """Compute the targets of an image as in mmdet, with the number of sampled anchors."""
        *targets, positive, negative, sample = super()._get_targets_single(*args, **kwargs)
        sample.avg_factor = len(positive) + len(negative)
        return (*targets, positive, negative, sample)

    def _predict_by_feat_single(
        self, cls_score_list: list[Tensor], *args, **kwargs
    ) -> InstanceData:
        """Predict an image's proposals, with float64 scores, from logits (A, H, W) per level."""
        return super()._predict_by_feat_single(
            [logits.double() for logits in cls_score_list], *args, **kwargs
        )
