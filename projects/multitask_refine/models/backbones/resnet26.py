"""A small backbone for small datasets."""

from mmdet.models.backbones import ResNet
from mmdet.models.backbones.resnet import Bottleneck
from mmdet.registry import MODELS


@MODELS.register_module()
class ResNet26(ResNet):
    """ResNet with two bottlenecks per stage: 26 layers.

    mmdet's ResNets with bottlenecks, which are the ones that take deformable convolutions, begin
    at 50 layers: too deep to be trained from scratch in minutes. Arguments as in
    ``mmdet.models.ResNet``, without ``depth``.
    """

    arch_settings = {26: (Bottleneck, (2, 2, 2, 2))}

    def __init__(self, **kwargs) -> None:
        """Build the backbone."""
        super().__init__(depth=26, **kwargs)
