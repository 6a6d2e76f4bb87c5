"""A box head that knows more classes than it tells of."""

import torch
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmdet.registry import MODELS
from torch import Tensor, nn

from multitask_refine.utils.errors import ConfigError


@MODELS.register_module()
class PersonBBoxHead(Shared2FCBBoxHead):
    """Person or not, from a classifier of many classes.

    Networks trained on COCO's 80 classes share each RoI's probability among
    all of them, so a person's score depends on the other classes' logits,
    too. Here these stay part of the classifier and are told of as one, "no
    person", whose logit is the logarithm of the sum of their exponentials:
    the softmax over the two is the person's share of the softmax over all.

    The rows of ``fc_cls`` are the person, the other classes and the
    background.

    Args:
        num_other_classes (int): Classes besides the person and the
            background, e.g. 79 for COCO.
        kwargs: As in mmdet's ``Shared2FCBBoxHead``, with ``num_classes=1``.

    Raises:
        ConfigError: If ``num_classes`` is not 1.
    """

    def __init__(self, num_other_classes: int, **kwargs) -> None:
        super().__init__(**kwargs)
        if self.num_classes != 1:
            raise ConfigError(
                f'PersonBBoxHead: num_classes must be 1, the person, but is {self.num_classes}'
            )
        self.fc_cls = nn.Linear(self.fc_cls.in_features, 2 + num_other_classes)

    def forward(self, x: Tensor) -> tuple:
        """From pooled features (R, C, 7, 7) to the logits of person and no
        person, (R, 2), and the person's box deltas, (R, 4)."""
        logits, deltas = super().forward(x)
        others = logits[:, 1:].logsumexp(1, keepdim=True)
        return torch.cat([logits[:, :1], others], 1), deltas
