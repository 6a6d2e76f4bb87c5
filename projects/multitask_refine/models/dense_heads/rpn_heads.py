"""RPN heads: losses normalized over all ranks, ranking by logits.

Shape letters: A anchors per cell, H x W cells of a level.
"""

from mmdet.models.dense_heads import RPNHead
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

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
        return cls_score.float(), bbox_pred.float()

    def get_targets(self, *args, **kwargs) -> tuple:
        """Compute mmdet's targets, the last of which is the average factor over all ranks."""
        *targets, avg_factor = super().get_targets(*args, **kwargs)
        return (*targets, reduce_avg_factor(avg_factor, targets[0][0].device))

    def _bbox_post_process(self, results: InstanceData, cfg: ConfigDict, **kwargs) -> InstanceData:
        """Apply NMS to the proposals of an image and keep the top-scoring ones."""
        if self.fast_cpu_ops and not results.scores.is_cuda:
            nms_cfg = dict(cfg.nms, split_thr=0)  # mmcv: NMS for each level
            if cfg.nms.keys() == {'type', 'iou_threshold'} and cfg.nms['type'] == 'nms':
                nms_cfg['type'] = nms
            cfg = ConfigDict(cfg, nms=nms_cfg)
        return super()._bbox_post_process(results, cfg, **kwargs)


@MODELS.register_module()
class LogitRankedRPNHead(SyncAvgFactorRPNHead):
    """RPN head that ranks anchors by their logits, as Detectron2 and torchvision do.

    mmdet ranks by the sigmoid in float32, in which all logits above 17 are equal. In float64, as
    here, the sigmoid keeps the order of the logits. Arguments as in mmdet's ``RPNHead``.
    """

    def _predict_by_feat_single(
        self, cls_score_list: list[Tensor], *args, **kwargs
    ) -> InstanceData:
        """Predict an image's proposals, with float64 scores, from logits (A, H, W) per level."""
        return super()._predict_by_feat_single(
            [logits.double() for logits in cls_score_list], *args, **kwargs
        )
