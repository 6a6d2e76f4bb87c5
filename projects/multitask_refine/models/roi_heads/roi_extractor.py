"""RoI extractor with pooling layers from the registry."""

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from mmdet.utils import ConfigType
from torch import Tensor, nn


@MODELS.register_module()
class RegistryRoIExtractor(SingleRoIExtractor):
    """mmdet's ``SingleRoIExtractor`` with a pooling layer from the registry.

    mmdet's takes only layers of mmcv. Arguments as there.
    """

    def build_roi_layers(self, layer_cfg: ConfigType, featmap_strides: list[int]) -> nn.ModuleList:
        """Build the pooling layer of each level; the strides are in image pixels."""
        return nn.ModuleList(
            [MODELS.build(dict(layer_cfg, spatial_scale=1 / stride)) for stride in featmap_strides]
        )

    def forward(
        self, feats: tuple[Tensor], rois: Tensor, roi_scale_factor: float | None = None
    ) -> Tensor:
        """Extract the features of RoIs as in mmdet.

        The host waits for the device once, for the number of RoIs of each level.

        Args:
            feats (tuple[Tensor]): Feature maps of all levels, shape (B, C, H, W) each.
            rois (Tensor): Image index and box xyxy in image pixels, shape (R, 5).
            roi_scale_factor (float, optional): Scale of the boxes. Defaults to 1.

        Returns:
            Tensor: Shape (R, C, P, P). It has zero gradients for the maps and parameters of levels
            without RoIs.
        """
        rois = rois.type_as(feats[0])  # in mixed precision
        num_levels = len(feats)
        if num_levels == 1 and len(rois):
            pooled: Tensor = self.roi_layers[0](feats[0], rois)
            return pooled
        levels = self.map_roi_levels(rois, num_levels)
        if roi_scale_factor is not None:
            rois = self.roi_rescale(rois, roi_scale_factor)
        pooled = feats[0].new_zeros(len(rois), self.out_channels, *self.roi_layers[0].output_size)
        by_level = self.group_by_level(levels, num_levels)
        for layer, feat, index in zip(self.roi_layers, feats, by_level, strict=False):
            if len(index):
                pooled[index] = layer(feat, rois[index])
            else:  # other ranks may wait for the gradients of this level
                pooled += 0 * sum(each.sum() for each in (feat, *layer.parameters()))
        return pooled

    def group_by_level(self, levels: Tensor, num_levels: int) -> tuple[Tensor, ...]:
        """Return the indices of the RoIs of each level, in their order.

        Args:
            levels (Tensor): Level of each RoI, int64 (R).
            num_levels (int): Number of levels.
        """
        numbers = torch.arange(num_levels, device=levels.device)
        counts = (levels[:, None] == numbers).sum(0).tolist()
        return levels.argsort(stable=True).split(counts)
