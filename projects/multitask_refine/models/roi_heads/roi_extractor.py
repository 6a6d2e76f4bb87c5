"""RoI features from one pyramid level each, by any registered pooling."""

from typing import Optional, Tuple

from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from mmdet.utils import ConfigType
from torch import Tensor, nn


@MODELS.register_module()
class RegistryRoIExtractor(SingleRoIExtractor):
    """mmdet's ``SingleRoIExtractor`` with a pooling layer from the registry.

    mmdet's own takes the layers of mmcv only. Arguments as there.
    """

    def build_roi_layers(self, layer_cfg: ConfigType, featmap_strides: list) -> nn.ModuleList:
        """Build the pooling of each level; the strides are image pixels."""
        return nn.ModuleList(
            [MODELS.build(dict(layer_cfg, spatial_scale=1 / stride)) for stride in featmap_strides]
        )

    def forward(
        self, feats: Tuple[Tensor], rois: Tensor, roi_scale_factor: Optional[float] = None
    ) -> Tensor:
        """As in mmdet; without RoIs, too, every parameter is reached."""
        pooled = super().forward(feats, rois, roi_scale_factor)
        if len(rois):
            return pooled
        return pooled + 0 * sum(p.sum() for p in self.parameters())
