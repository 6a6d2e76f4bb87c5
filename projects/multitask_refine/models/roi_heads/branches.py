"""Branches: small heads that judge what the mask or the keypoint head found in a RoI.

Shape letters: R RoIs, C channels, P side of the pooled feature, M maps of a head (1 mask or K
heatmaps), S their side, K keypoints.
"""

from abc import abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptMultiConfig
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from torch import Tensor, nn

from multitask_refine.models.losses.avg_factor import reduce_avg_factor, zero_loss


class BaseBranch(BaseModule):
    """Network of all branches, after mmdet's ``MaskIoUHead``.

    The feature that mask and keypoint head share and the maps of the judged head, averaged to its
    resolution, go through 3x3 convolutions and one predicting layer, which starts at zero: a
    branch that was just added tells nothing. The maps are detached, so that the judged head
    learns from its own loss alone.

    Args:
        num_maps (int): M.
        in_channels (int): C of the RoI feature. Defaults to 256.
        num_convs (int): Number of 3x3 convolutions. Defaults to 2.
        conv_channels (int): Their output channels. Defaults to 256.
        loss_weight (float): Factor of the loss. Defaults to 1.0.
        norm_cfg (dict, optional): Config of their normalization. Defaults to none.
        init_cfg (dict, optional): MMEngine's initialization.

    Attributes:
        source (str): The judged head, 'mask' or 'keypoint'.
        field (str): Field of the predicted instances.
        pred (nn.Module): The predicting layer, which a subclass builds.
    """

    source: ClassVar[str]
    field: ClassVar[str]
    pred: nn.Module

    def __init__(
        self,
        num_maps: int,
        in_channels: int = 256,
        num_convs: int = 2,
        conv_channels: int = 256,
        loss_weight: float = 1.0,
        norm_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        """Build the convolutions."""
        super().__init__(init_cfg=init_cfg)
        self.loss_weight = loss_weight
        self.convs = nn.Sequential(
            *[
                ConvModule(
                    conv_channels if i else in_channels + num_maps,
                    conv_channels,
                    3,
                    padding=1,
                    norm_cfg=norm_cfg,
                )
                for i in range(num_convs)
            ]
        )

    def init_weights(self) -> None:
        """Initialize the predicting layer to zero."""
        super().init_weights()
        nn.init.zeros_(self.pred.weight)
        nn.init.zeros_(self.pred.bias)

    @property
    @abstractmethod
    def output_shape(self) -> tuple[int, ...]:
        """tuple[int, ...]: Shape of the logits of one RoI."""

    @abstractmethod
    def to_probabilities(self, preds: Tensor) -> Tensor:
        """Convert the output of the judged head to probabilities, (R, M, S, S)."""

    @abstractmethod
    def predict_logits(self, feats: Tensor, maps: Tensor) -> Tensor:
        """Predict the logits.

        Args:
            feats (Tensor): Output of the convolutions, shape (R, C, P, P).
            maps (Tensor): Probabilities at this resolution, shape (R, M, P, P).

        Returns:
            Tensor: Shape (R, *output_shape).
        """

    @abstractmethod
    def activate(self, logits: Tensor) -> Tensor:
        """Convert logits to the probabilities that :meth:`predict_by_feat` takes."""

    def forward(self, feats: Tensor, preds: Tensor) -> Tensor:
        """Predict the logits.

        Args:
            feats (Tensor): RoI features, shape (R, C, P, P).
            preds (Tensor): Output of the judged head, shape (R, M, S, S).

        Returns:
            Tensor: Shape (R, *output_shape). Without RoIs the layers do not run; the result has
            zero gradients for every parameter.
        """
        if not len(feats):
            return feats.new_zeros(0, *self.output_shape) + zero_loss(self, feats)
        maps = self.to_probabilities(preds.detach()).to(feats)
        side = int(feats.shape[-1])  # a number, also when it is traced
        # Where it can, by the pooling that ONNX has.
        stride, rest = divmod(int(maps.shape[-1]), side)
        maps = F.adaptive_avg_pool2d(maps, side) if rest else F.avg_pool2d(maps, stride)
        return self.predict_logits(self.convs(torch.cat([feats, maps], 1)), maps)

    @abstractmethod
    def loss_and_target(
        self,
        logits: Tensor,
        preds: Tensor,
        targets: Tensor | tuple[Tensor, Tensor],
        sampling_results: list[SamplingResult],
        batch_gt_instances: InstanceList,
        rcnn_train_cfg: ConfigDict,
    ) -> dict[str, Tensor]:
        """Compute targets and loss.

        A collective operation (see :func:`reduce_avg_factor`): every rank must call it.

        Args:
            logits (Tensor): See :meth:`forward`.
            preds (Tensor): Output of the judged head, shape (R, M, S, S).
            targets (Tensor | tuple[Tensor, Tensor]): Its targets, as its ``loss_and_target``
                returns them.
            sampling_results (list[SamplingResult]): ``pos_priors`` xyxy in image pixels and
                ``pos_assigned_gt_inds`` of each image, R in total.
            batch_gt_instances (list[InstanceData]): Annotations of each image.
            rcnn_train_cfg (ConfigDict): As in mmdet's heads.

        Returns:
            dict[str, Tensor]: The loss by its name.
        """

    def flip(self, values: Tensor, flip_indices: list[int]) -> Tensor:
        """Convert probabilities of a flipped image to those of the image.

        Args:
            values (Tensor): From :meth:`activate`.
            flip_indices (list[int]): Index of the mirrored keypoint of each keypoint.
        """
        return values

    def predict_by_feat(
        self, values: tuple[Tensor, ...], results_list: InstanceList
    ) -> InstanceList:
        """Attach the probabilities to the detections.

        Args:
            values (tuple[Tensor]): Probabilities of each image's detections, from
                :meth:`activate`.
            results_list (list[InstanceData]): Detections of each image.

        Returns:
            list[InstanceData]: ``results_list`` with the field of the branch.
        """
        for each, results in zip(values, results_list, strict=True):
            results[self.field] = each.to(results.bboxes)
        return results_list


@MODELS.register_module()
class KeypointVisibilityBranch(BaseBranch):
    """Classify each keypoint as absent, occluded or visible: COCO's visibility 0, 1, 2.

    Absent are the keypoints that are not labeled in an instance with labeled keypoints, and those
    outside the image. A 1x1 convolution gives each cell logits for each keypoint; their mean over
    the cells, weighted by the keypoint's heatmap, are the keypoint's.

    Args:
        num_keypoints (int): K, that of the keypoint head unless given.
        codec (dict): Codec of the heatmaps, that of the keypoint head unless given.
        kwargs: As in :class:`BaseBranch`, without ``num_maps``.
    """

    source = 'keypoint'
    field = 'keypoints_visible_probs'
    num_levels = 3

    def __init__(self, num_keypoints: int, codec: ConfigType, **kwargs) -> None:
        """Build the layers."""
        super().__init__(num_maps=num_keypoints, **kwargs)
        self.num_keypoints = num_keypoints
        self.codec = TASK_UTILS.build(codec)
        channels = self.convs[-1].out_channels
        self.pred = nn.Conv2d(channels, self.num_levels * num_keypoints, 1)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """tuple[int, ...]: (K, 3)."""
        return self.num_keypoints, self.num_levels

    def to_probabilities(self, preds: Tensor) -> Tensor:
        """Convert heatmaps to probabilities, see the base class."""
        return self.codec.to_probabilities(preds)

    def predict_logits(self, feats: Tensor, maps: Tensor) -> Tensor:
        """Average the logits of the cells with the weights of the heatmaps, (R, K, 3)."""
        weights = maps / maps.sum((2, 3), keepdim=True).clamp(min=1e-6)  # (R, K, P, P)
        logits = self.pred(feats).unflatten(1, self.output_shape)  # (R, K, 3, P, P)
        return (logits * weights[:, :, None]).sum((3, 4))

    def activate(self, logits: Tensor) -> Tensor:
        """Return the probabilities of the three classes, (R, K, 3)."""
        return logits.float().softmax(-1)

    def loss_and_target(
        self,
        logits: Tensor,
        preds: Tensor,
        targets: tuple[Tensor, Tensor],
        sampling_results: list[SamplingResult],
        batch_gt_instances: InstanceList,
        rcnn_train_cfg: ConfigDict,
    ) -> dict[str, Tensor]:
        """Compute the cross-entropy, averaged over the keypoints that the categories have.

        Arguments as in the base class.
        """
        visible = _gather('keypoints_visible', sampling_results, batch_gt_instances)  # (R, K)
        valid = visible >= 0
        avg_factor = reduce_avg_factor(valid.sum(), logits.device)
        loss = F.cross_entropy(
            logits.float().flatten(0, 1), visible.clamp(min=0).flatten().long(), reduction='none'
        )
        return {'loss_visibility': self.loss_weight * (loss * valid.flatten()).sum() / avg_factor}

    def flip(self, values: Tensor, flip_indices: list[int]) -> Tensor:
        """Swap left and right keypoints, see the base class."""
        return values[:, flip_indices]

    def predict_by_feat(
        self, values: tuple[Tensor, ...], results_list: InstanceList
    ) -> InstanceList:
        """Attach the probabilities, and the likeliest class as ``keypoints_visible`` (N, K).

        Arguments and result as in the base class.
        """
        for results in super().predict_by_feat(values, results_list):
            results.keypoints_visible = results[self.field].argmax(-1)
        return results_list


def _gather(
    field: str, sampling_results: list[SamplingResult], batch_gt_instances: InstanceList
) -> Tensor:
    """Return a field of the instance of each RoI, shape (R, ...)."""
    pairs = zip(batch_gt_instances, sampling_results, strict=True)
    return torch.cat([gt[field][sample.pos_assigned_gt_inds] for gt, sample in pairs])
