"""Branches: small heads that judge what the mask or the keypoint head found in a RoI.

Shape letters: R RoIs, C channels, P side of the pooled feature, M maps of a head (1 mask or K
heatmaps), S their side, K keypoints.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptMultiConfig
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from multitask_refine.models.losses.avg_factor import reduce_avg_factor, zero_loss
from multitask_refine.models.utils.maps import pool_maps
from multitask_refine.utils.errors import ConfigError


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
        maps = pool_maps(maps, feats)
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


class BaseScoreBranch(BaseBranch):
    """Predict the quality of an output, from 0 to 1 (Mask Scoring R-CNN, section 3).

    One linear layer predicts it from the mean of the feature. The loss is the binary cross-entropy
    with the quality of the current output as its target, which is lowest where the prediction is
    the expected quality.
    """

    def __init__(self, num_maps: int, **kwargs) -> None:
        """Build the layers."""
        super().__init__(num_maps=num_maps, **kwargs)
        self.pred = nn.Linear(self.convs[-1].out_channels, 1)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """tuple[int, ...]: One number."""
        return ()

    def predict_logits(self, feats: Tensor, maps: Tensor) -> Tensor:
        """Predict the logits of the scores, (R,)."""
        return self.pred(feats.mean((2, 3)))[:, 0]

    def activate(self, logits: Tensor) -> Tensor:
        """Return the scores, (R,)."""
        return logits.float().sigmoid()

    @abstractmethod
    def get_targets(
        self,
        preds: Tensor,
        targets: Tensor | tuple[Tensor, Tensor],
        sampling_results: list[SamplingResult],
        batch_gt_instances: InstanceList,
    ) -> Tensor:
        """Compute the quality of the output, from 0 to 1, shape (R,).

        Arguments as in :meth:`loss_and_target`.
        """

    def loss_and_target(
        self,
        logits: Tensor,
        preds: Tensor,
        targets: Tensor | tuple[Tensor, Tensor],
        sampling_results: list[SamplingResult],
        batch_gt_instances: InstanceList,
        rcnn_train_cfg: ConfigDict,
    ) -> dict[str, Tensor]:
        """Compute the binary cross-entropy, averaged over the RoIs.

        Arguments as in the base class.
        """
        quality = self.get_targets(preds.detach(), targets, sampling_results, batch_gt_instances)
        loss = F.binary_cross_entropy_with_logits(logits.float(), quality, reduction='sum')
        avg_factor = reduce_avg_factor(len(logits), logits.device)
        name = f'loss_{self.field.removesuffix("s")}'
        return {name: self.loss_weight * loss / avg_factor}


@MODELS.register_module()
class KeypointScoreBranch(BaseScoreBranch):
    """Predict the OKS of a pose: ``pose_scores``, (N,).

    The area of a person in OKS is that of the mask. Where it is not labeled, it is a fixed share
    of the box, 0.53 as in MMPose and CrowdPose.

    Args:
        num_keypoints (int): K, that of the keypoint head unless given.
        codec (dict): Codec of the heatmaps, that of the keypoint head unless given.
        sigmas (Sequence[float]): OKS sigma of each keypoint.
        area_per_box (float): See above. Defaults to 0.53.
        kwargs: As in :class:`BaseBranch`, without ``num_maps``.

    Raises:
        ConfigError: If there is another number of sigmas.
    """

    source = 'keypoint'
    field = 'pose_scores'

    def __init__(
        self,
        num_keypoints: int,
        codec: ConfigType,
        sigmas: Sequence[float],
        area_per_box: float = 0.53,
        **kwargs,
    ) -> None:
        """Build the layers."""
        super().__init__(num_maps=num_keypoints, **kwargs)
        if len(sigmas) != num_keypoints:
            raise ConfigError(
                f'KeypointScoreBranch: sigmas: expected {num_keypoints}, one for each keypoint, '
                f'found {len(sigmas)}. Take those of the meta file.'
            )
        self.codec = TASK_UTILS.build(codec)
        self.sigmas = tuple(sigmas)
        self.area_per_box = area_per_box

    def to_probabilities(self, preds: Tensor) -> Tensor:
        """Convert heatmaps to probabilities, see the base class."""
        return self.codec.to_probabilities(preds)

    def get_targets(
        self,
        preds: Tensor,
        targets: tuple[Tensor, Tensor],
        sampling_results: list[SamplingResult],
        batch_gt_instances: InstanceList,
    ) -> Tensor:
        """Compute the OKS of the decoded keypoints over the labeled ones, see the base class."""
        rois = torch.cat([sample.pos_priors for sample in sampling_results])
        keypoints, _ = self.codec.decode(preds.to(rois), rois)  # (R, K, 2)
        truth = _gather('keypoints', sampling_results, batch_gt_instances)
        labeled = _gather('keypoints_visible', sampling_results, batch_gt_instances) > 0  # (R, K)
        areas = torch.cat(
            [
                self._get_areas(gt)[sample.pos_assigned_gt_inds]
                for gt, sample in zip(batch_gt_instances, sampling_results, strict=True)
            ]
        )
        variances = (2 * keypoints.new_tensor(self.sigmas)) ** 2 * areas[:, None]  # (R, K)
        squared = ((keypoints - truth) ** 2).sum(-1)
        similarity = torch.exp(-squared / (2 * variances.clamp(min=1e-6)))
        return (similarity * labeled).sum(-1) / labeled.sum(-1).clamp(min=1)

    def _get_areas(self, gt: InstanceData) -> Tensor:
        """Return the areas of an image's instances in square pixels, (N,)."""
        width, height = (gt.bboxes[:, 2:] - gt.bboxes[:, :2]).unbind(1)
        areas = self.area_per_box * width * height
        if 'masks' not in gt:
            return areas
        labeled = torch.as_tensor(gt.masks.areas).to(areas, non_blocking=True)
        return torch.where(labeled > 0, labeled, areas)


@MODELS.register_module()
class MaskScoreBranch(BaseScoreBranch):
    """Predict the IoU of a mask with its instance's: ``mask_scores``, (N,).

    Args:
        kwargs: As in :class:`BaseBranch`, without ``num_maps``.
    """

    source = 'mask'
    field = 'mask_scores'

    def __init__(self, **kwargs) -> None:
        """Build the layers."""
        super().__init__(num_maps=1, **kwargs)

    def to_probabilities(self, preds: Tensor) -> Tensor:
        """Convert mask logits to probabilities, see the base class."""
        return preds.sigmoid()

    def get_targets(
        self,
        preds: Tensor,
        targets: Tensor,
        sampling_results: list[SamplingResult],
        batch_gt_instances: InstanceList,
    ) -> Tensor:
        """Compute the IoU on the M x M cells of the RoI, see the base class.

        What of the instance's mask lies outside the RoI is part of the union.
        """
        masks = (preds[:, 0] > 0).to(targets)  # (R, M, M), at a probability of 0.5
        areas = []
        for gt, sample in zip(batch_gt_instances, sampling_results, strict=True):
            rois = sample.pos_priors
            if not len(rois):  # data loaded without masks have no gt.masks
                areas.append(rois.new_zeros(0))
                continue
            width, height = (rois[:, 2:] - rois[:, :2]).clamp(min=1e-6).unbind(1)
            pixels = torch.as_tensor(gt.masks.areas).to(rois, non_blocking=True)
            # in cells of the RoI
            cells = pixels[sample.pos_assigned_gt_inds] * targets[0].numel() / (width * height)
            areas.append(cells)
        overlap = (masks * targets).sum((1, 2))
        inside = targets.sum((1, 2))
        union = masks.sum((1, 2)) + torch.maximum(torch.cat(areas), inside) - overlap
        return overlap / union.clamp(min=1)


def _gather(
    field: str, sampling_results: list[SamplingResult], batch_gt_instances: InstanceList
) -> Tensor:
    """Return a field of the instance of each RoI, shape (R, ...)."""
    pairs = zip(batch_gt_instances, sampling_results, strict=True)
    return torch.cat([gt[field][sample.pos_assigned_gt_inds] for gt, sample in pairs])
