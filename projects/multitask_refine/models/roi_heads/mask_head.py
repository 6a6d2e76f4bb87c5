"""The mask head's targets, cut from each person's mask where it is.

Shape letters: P foreground RoIs, M cells of a mask's side.
"""

from typing import List

import torch
from mmcv.ops import roi_align
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn.modules.utils import _pair


@MODELS.register_module()
class PersonMaskHead(FCNMaskHead):
    """mmdet's mask head; its targets without a copy of the image's size for
    each RoI, and without a detour through the host's memory.

    Arguments as in mmdet's ``FCNMaskHead``.
    """

    def get_targets(
        self,
        sampling_results: List[SamplingResult],
        batch_gt_instances: List[InstanceData],
        rcnn_train_cfg: ConfigDict,
    ) -> Tensor:
        """Cut and scale what the RoIs see of their person's mask.

        Args:
            sampling_results (list[SamplingResult]): RoIs of each image, xyxy
                in image pixels, and their persons.
            batch_gt_instances (list[InstanceData]): ``masks`` of each image's
                persons.
            rcnn_train_cfg (ConfigDict): ``mask_size``, M or height and width;
                ``soft_mask_target``: shares in the place of 0 and 1.

        Returns:
            Tensor: Shape (P, M, M), 1 where at least half of a cell is of the
            person.
        """
        shares = torch.cat(
            [
                _cut(gts.masks, samples, _pair(rcnn_train_cfg.mask_size))
                for gts, samples in zip(batch_gt_instances, sampling_results)
            ]
        )
        if rcnn_train_cfg.get('soft_mask_target', False):
            return shares
        return (shares >= 0.5).to(shares)


def _cut(masks: BitmapMasks, samples: SamplingResult, size: tuple) -> Tensor:
    """Shares (P, M, M) of an image's RoIs."""
    boxes = samples.pos_priors
    if not len(boxes):
        return boxes.new_zeros(0, *size)
    last = boxes.new_tensor([masks.width, masks.height] * 2)
    rois = torch.cat(
        [samples.pos_assigned_gt_inds[:, None].to(boxes), boxes.clamp(min=0).minimum(last)], 1
    )
    # All of one person's RoIs read the same mask.
    bitmaps = torch.from_numpy(masks.to_ndarray()).to(boxes.device)
    # mmcv's operator reads memory as it lies.
    bitmaps = bitmaps[:, None].to(boxes).contiguous()
    return roi_align(bitmaps, rois, size, 1.0, 0, 'avg', True)[:, 0]
