"""Assignment of anchors as in Detectron2 and torchvision.

Shape letters: N annotated boxes, A anchors.
"""

import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.registry import TASK_UTILS
from torch import Tensor

from .sync_free import SyncFreeMaxIoUAssigner


@TASK_UTILS.register_module()
class ArgmaxIoUAssigner(SyncFreeMaxIoUAssigner):
    """Assigner that agrees with the ``Matcher`` of Detectron2 and torchvision.

    Every box has an anchor: those with the highest IoU are positive, however low it is, where
    mmdet asks for ``min_pos_iou``. And an anchor belongs to the box with which it has the highest
    IoU; mmdet gives an anchor to the box whose best one it is, even if another box overlaps it
    more.

    Arguments as in mmdet's ``MaxIoUAssigner``; ``min_pos_iou`` and ``gt_max_assign_all`` have no
    effect.
    """

    def assign_wrt_overlaps(self, overlaps: Tensor, gt_labels: Tensor) -> AssignResult:
        """Assign boxes to anchors; arguments and result as in :class:`SyncFreeMaxIoUAssigner`."""
        if not overlaps.numel():
            return super().assign_wrt_overlaps(overlaps, gt_labels)
        highest, nearest = overlaps.max(0)
        positive = highest >= self.pos_iou_thr
        if self.match_low_quality:
            best = overlaps.amax(1, keepdim=True)  # (N, 1)
            positive |= ((overlaps == best) & (best > 0)).any(0)
        gt_inds = torch.where((highest >= 0) & (highest < self.neg_iou_thr), 0, -1)
        gt_inds = torch.where(positive, nearest + 1, gt_inds)
        labels = torch.where(positive, gt_labels[nearest], -1)
        return AssignResult(len(overlaps), gt_inds, highest, labels=labels)
