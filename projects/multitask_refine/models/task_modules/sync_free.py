"""mmdet's assigner and sampler with few waits of the host for the device, and the same results.

Shape letters: N annotated boxes, A anchors or proposals.
"""

import torch
from mmdet.models.task_modules.assigners import AssignResult, BboxOverlaps2D, MaxIoUAssigner
from mmdet.models.task_modules.samplers import RandomSampler, SamplingResult
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor


@TASK_UTILS.register_module()
class SyncFreeBboxOverlaps2D(BboxOverlaps2D):
    """mmdet's ``BboxOverlaps2D`` for all pairs of boxes, without a copy from the host."""

    def __call__(
        self, bboxes1: Tensor, bboxes2: Tensor, mode: str = 'iou', is_aligned: bool = False
    ) -> Tensor:
        """Compute the overlaps of all pairs.

        Args:
            bboxes1 (Tensor): Boxes xyxy, shape (n, 4).
            bboxes2 (Tensor): Boxes xyxy, shape (m, 4).
            mode (str): 'iou', or 'iof': intersection over the area of ``bboxes1``. Defaults to
                'iou'.
            is_aligned (bool): As in mmdet. Defaults to False.

        Returns:
            Tensor: Shape (n, m).
        """
        boxes1, boxes2 = (get_box_tensor(each)[..., :4] for each in (bboxes1, bboxes2))
        if is_aligned or mode not in ('iou', 'iof') or not len(boxes1) or not len(boxes2):
            return super().__call__(bboxes1, bboxes2, mode, is_aligned)
        # (n) and (m)
        area1, area2 = (
            (each[:, 2] - each[:, 0]) * (each[:, 3] - each[:, 1]) for each in (boxes1, boxes2)
        )
        extent = torch.minimum(boxes1[:, None, 2:], boxes2[:, 2:])  # (n, m, 2)
        extent = (extent - torch.maximum(boxes1[:, None, :2], boxes2[:, :2])).clamp(min=0)
        overlap = extent[..., 0] * extent[..., 1]
        union = area1[:, None] + area2 - overlap if mode == 'iou' else area1[:, None]
        return overlap / union.clamp(min=1e-6)


@TASK_UTILS.register_module()
class SyncFreeMaxIoUAssigner(MaxIoUAssigner):
    """mmdet's ``MaxIoUAssigner`` for all boxes at a time.

    mmdet's loop over the boxes of an image reads a number from the device for each. Arguments and
    results are the same.
    """

    def __init__(self, *args, iou_calculator: dict | None = None, **kwargs) -> None:
        """Store the thresholds and build the IoU calculator."""
        iou_calculator = iou_calculator or dict(type='SyncFreeBboxOverlaps2D')
        super().__init__(*args, iou_calculator=iou_calculator, **kwargs)

    def assign_wrt_overlaps(self, overlaps: Tensor, gt_labels: Tensor) -> AssignResult:
        """Assign boxes to anchors.

        Args:
            overlaps (Tensor): IoU of boxes and anchors, shape (N, A); -1 for ignored anchors.
            gt_labels (Tensor): Labels of the boxes, shape (N).

        Returns:
            AssignResult: For each anchor the number of its box counted from 1, 0 for background or
            -1 if it is ignored.
        """
        if not overlaps.numel():
            return super().assign_wrt_overlaps(overlaps, gt_labels)
        highest, nearest = overlaps.max(0)  # (A) each
        low, high = (
            self.neg_iou_thr if isinstance(self.neg_iou_thr, tuple) else (0, self.neg_iou_thr)
        )
        gt_inds = torch.where((highest >= low) & (highest < high), 0, -1)
        gt_inds = torch.where(highest >= self.pos_iou_thr, nearest + 1, gt_inds)
        if self.match_low_quality:
            # Each box also gets its best anchors, however low their IoU.
            best, best_anchor = overlaps.max(1, keepdim=True)  # (N, 1)
            too_low = best < self.min_pos_iou
            if self.gt_max_assign_all:
                # (N, A); no IoU is 2
                matched = overlaps == best.masked_fill(too_low, 2.0)
            else:
                anchors = torch.arange(overlaps.shape[1], device=overlaps.device)
                matched = anchors == best_anchor.masked_fill(too_low, -1)
            # Of several boxes the last one.
            numbers = torch.arange(1, len(overlaps) + 1, device=overlaps.device, dtype=torch.int32)
            last = (matched * numbers[:, None]).amax(0)  # (A), 0 for no box
            gt_inds = torch.where(last > 0, last.long(), gt_inds)
        labels = torch.where(gt_inds > 0, gt_labels[(gt_inds - 1).clamp(min=0)], -1)
        return AssignResult(len(overlaps), gt_inds, highest, labels=labels)


@TASK_UTILS.register_module()
class FewSyncRandomSampler(RandomSampler):
    """mmdet's ``RandomSampler`` that waits for the device twice.

    The host needs the numbers of positive and negative boxes for the sizes of what follows.
    Arguments and, with the same random state, results are those of mmdet, for boxes that are
    tensors.
    """

    def sample(
        self,
        assign_result: AssignResult,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        **kwargs,
    ) -> SamplingResult:
        """Sample positive and negative boxes.

        Args:
            assign_result (AssignResult): The box of each of A priors.
            pred_instances (InstanceData): ``priors``, shape (A, 4).
            gt_instances (InstanceData): ``bboxes``, shape (N, 4), and ``labels``.
            kwargs: Not used; as in mmdet's samplers.

        Returns:
            SamplingResult: At most ``num`` boxes, in the order of the priors.
        """
        priors, gt_bboxes = pred_instances.priors, gt_instances.bboxes
        is_gt = priors.new_zeros(len(priors), dtype=torch.uint8)
        if self.add_gt_as_proposals and len(gt_bboxes):
            priors = torch.cat([gt_bboxes, priors])
            assign_result.add_gt_(gt_instances.labels)
            is_gt = torch.cat([is_gt.new_ones(len(gt_bboxes)), is_gt])
        positive = self._sample(assign_result.gt_inds > 0, int(self.num * self.pos_fraction))
        num_negative = self.num - len(positive)
        if self.neg_pos_ub >= 0:
            num_negative = min(num_negative, int(self.neg_pos_ub * max(1, len(positive))))
        negative = self._sample(assign_result.gt_inds == 0, num_negative)
        return SamplingResult(positive, negative, priors, gt_bboxes, assign_result, is_gt)

    @staticmethod
    def _sample(flags: Tensor, num: int) -> Tensor:
        """Sample at most ``num`` of the indices whose flag, bool (A), is set, in their order."""
        index = flags.nonzero()[:, 0]
        if len(index) <= num:  # no random number is drawn, as in mmdet
            return index
        chosen = torch.randperm(len(index))[:num].to(index.device, non_blocking=True)
        return index[chosen].sort()[0]
