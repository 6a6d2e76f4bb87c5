"""Gate that shows the keypoint head where the person is.

Shape letters: R RoIs, C channels, P side of the pooled feature, M side of the mask.
"""

import torch
from mmdet.registry import MODELS
from mmdet.utils import OptMultiConfig
from mmengine.model import BaseModule
from torch import Tensor, nn

from multitask_refine.models.utils.maps import pool_maps


@MODELS.register_module()
class MaskGate(BaseModule):
    """Modulate RoI features by the predicted masks: ``x (1 + w m)``.

    Limbs of a neighbor in the RoI look like those of the person; the mask ``m``, a probability
    from 0 to 1, tells them apart. The weight ``w`` of each channel starts at 0, so that a gate
    that was just added changes nothing. The masks are detached: their head learns from its own
    loss alone.

    Args:
        in_channels (int): C. Defaults to 256.
        init_cfg (dict, optional): MMEngine's initialization.
    """

    def __init__(self, in_channels: int = 256, init_cfg: OptMultiConfig = None) -> None:
        """Build the weights."""
        super().__init__(init_cfg=init_cfg)
        self.weight = nn.Parameter(torch.zeros(in_channels))

    def forward(self, feats: Tensor, mask_preds: Tensor) -> Tensor:
        """Modulate the features.

        Args:
            feats (Tensor): RoI features, shape (R, C, P, P).
            mask_preds (Tensor): Mask logits, shape (R, 1, M, M).

        Returns:
            Tensor: Shape (R, C, P, P).
        """
        masks = pool_maps(mask_preds.detach().sigmoid().to(feats), feats)  # (R, 1, P, P)
        return feats * (1 + self.weight[:, None, None] * masks)
