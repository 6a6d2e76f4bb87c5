"""Mask head with targets cut from each instance's mask on the device.

Shape letters: R foreground RoIs, C channels, P side of the pooled feature, M mask target side.
"""

import torch
from mmcv.ops import roi_align
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmdet.structures.mask import PolygonMasks, mask_target
from mmdet.utils import InstanceList
from mmengine.config import ConfigDict
from torch import Tensor
from torch.nn.modules.utils import _pair

from multitask_refine.models.losses.avg_factor import zero_loss


@MODELS.register_module()
class PersonMaskHead(FCNMaskHead):
    """mmdet's mask head with faster targets.

    The targets are those of mmdet, without a copy of the image's bitmaps for each RoI and without
    a copy to the host's memory.

    Args:
        aligned_targets (bool): Whether RoIs read the masks in continuous coordinates. False is
            torchvision's way: half a pixel to the right and down, like its features. Of polygons
            it changes nothing. Defaults to True.
        kwargs: As in mmdet's ``FCNMaskHead``.
    """

    def __init__(self, *, aligned_targets: bool = True, **kwargs) -> None:
        """Build the layers."""
        super().__init__(**kwargs)
        self.aligned_targets = aligned_targets

    def forward(self, x: Tensor) -> Tensor:
        """Predict mask logits.

        Args:
            x (Tensor): RoI features, shape (R, C, P, P).

        Returns:
            Tensor: Shape (R, classes, 2P, 2P). Without RoIs the layers do not run; the result has
            zero gradients for every parameter.
        """
        if len(x):
            return super().forward(x)
        side = x.shape[-1] * (self.scale_factor or 1)  # of the transposed convolution
        return x.new_zeros(0, self.conv_logits.out_channels, side, side) + zero_loss(self, x)

    def get_targets(
        self,
        sampling_results: list[SamplingResult],
        batch_gt_instances: InstanceList,
        rcnn_train_cfg: ConfigDict,
    ) -> Tensor:
        """Crop and resize the instances' masks to their RoIs.

        Polygons are moved and scaled, and rasterized on the M x M cells: the targets of
        Detectron2.

        Args:
            sampling_results (list[SamplingResult]): ``pos_priors`` xyxy in image pixels and
                ``pos_assigned_gt_inds`` of each image.
            batch_gt_instances (list[InstanceData]): ``masks`` of each image's instances.
            rcnn_train_cfg (ConfigDict): ``mask_size``, M or height and width; with
                ``soft_mask_target`` the targets are the covered fractions of the cells.

        Returns:
            Tensor: Shape (R, M, M), 1 where the mask covers at least half of a cell.
        """
        size = _pair(rcnn_train_cfg.mask_size)
        targets = []
        for gt, sample in zip(batch_gt_instances, sampling_results, strict=True):
            boxes = sample.pos_priors
            if not len(boxes):  # data loaded without masks have no gt.masks either
                targets.append(boxes.new_zeros(0, *size))
                continue
            masks = gt.masks
            if isinstance(masks, PolygonMasks):
                inds = sample.pos_assigned_gt_inds
                targets.append(mask_target([boxes], [inds], [masks], rcnn_train_cfg))
                continue
            x = boxes[:, 0::2].clamp(0, masks.width)
            y = boxes[:, 1::2].clamp(0, masks.height)
            # (R, 5): index of the mask in the place of the image's, so that all RoIs of an
            # instance read the same mask
            rois = torch.stack(
                [sample.pos_assigned_gt_inds.to(boxes), x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1
            )
            bitmaps = torch.from_numpy(masks.to_ndarray()).to(boxes.device, non_blocking=True)
            # mmcv's operator ignores strides.
            bitmaps = bitmaps[:, None].to(boxes).contiguous()  # (instances, 1, H, W)
            fractions = roi_align(bitmaps, rois, size, 1.0, 0, 'avg', self.aligned_targets)
            targets.append(fractions[:, 0])
        fractions = torch.cat(targets)
        if rcnn_train_cfg.get('soft_mask_target', False):
            return fractions
        return (fractions >= 0.5).to(fractions)
