"""RoI extractor with pooling layers from the registry."""

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

        Without RoIs the result has zero gradients for every parameter.
        """
        pooled = super().forward(feats, rois, roi_scale_factor)
        if len(rois):
            return pooled
        return pooled + 0 * sum(parameter.sum() for parameter in self.parameters())
