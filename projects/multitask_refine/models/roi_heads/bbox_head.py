"""Box head for weights of a classifier with many classes.

Shape letters: R RoIs, C channels.
"""

import torch
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmdet.registry import MODELS
from torch import Tensor, nn

from multitask_refine.utils.errors import ConfigError


@MODELS.register_module()
class PersonBBoxHead(Shared2FCBBoxHead):
    """Box head that reduces a classifier of many classes to person and background.

    Networks trained on COCO's 80 classes distribute the probability of a RoI over all of them, so
    the score of a person depends on the logits of the other classes, too. These remain part of the
    classifier, and their logits are merged with the background's by log-sum-exp: the softmax over
    the two resulting classes gives the person's probability in the softmax over all.

    The rows of ``fc_cls`` are the person, the other classes and the background.

    Args:
        num_other_classes (int): Number of classes besides the person and the background, e.g. 79
            for COCO.
        kwargs: As in mmdet's ``Shared2FCBBoxHead``, with ``num_classes=1``.

    Raises:
        ConfigError: If ``num_classes`` is not 1.
    """

    def __init__(self, num_other_classes: int, **kwargs) -> None:
        """Build the head with a classifier of all classes."""
        super().__init__(**kwargs)
        if self.num_classes != 1:
            raise ConfigError(
                'PersonBBoxHead: num_classes: expected 1, the person, '
                f'found {self.num_classes}. Set it to 1; the other classes are num_other_classes.'
            )
        # Only the classifier grows: num_classes stays 1, so that losses, targets and decoding of
        # mmdet's head see one class.
        self.fc_cls = nn.Linear(self.fc_cls.in_features, 2 + num_other_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Classify RoIs and predict the deltas of their boxes.

        Args:
            x (Tensor): Pooled features, shape (R, C, 7, 7).

        Returns:
            tuple[Tensor, Tensor]: Logits of person and background, shape (R, 2), and the person's
            box deltas, shape (R, 4).
        """
        logits, bbox_pred = super().forward(x)
        background = logits[:, 1:].logsumexp(1, keepdim=True)  # (R, 1)
        return torch.cat([logits[:, :1], background], 1), bbox_pred
