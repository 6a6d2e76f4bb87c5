"""Keypoint heads: K heatmaps, refined by 2K offsets.

Shape letters: R RoIs, C channels, K keypoints, S heatmap side, B images.
"""

from abc import abstractmethod

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
from multitask_refine.models.utils.points import divide_points
from multitask_refine.ops import bound_offsets, resample_heatmaps


class BaseKeypointHead(BaseModule):
    """Network of all keypoint heads.

    A stack of 3x3 convolutions of the pooled RoI feature, a transposed convolution that doubles
    the resolution and predicts K heatmaps (and another one for 2K offsets), and a bilinear resize
    to S x S. A subclass defines the meaning of the heatmaps, and so targets and loss.

    Args:
        num_keypoints (int): K.
        codec (dict): Config of the encoder and decoder; its ``heatmap_size`` is S.
        in_channels (int): C of the RoI feature. Defaults to 256.
        num_convs (int): Number of 3x3 convolutions. Defaults to 8.
        conv_channels (int): Their output channels. Defaults to 512.
        refine (bool): Whether to predict offsets and refine the heatmaps with them. Defaults to
            True.
        max_offset (float, optional): Bound of each component of an offset, in heatmap cells: see
            :func:`~multitask_refine.ops.bound_offsets`. Defaults to no bound.
        loss_weight (float): Factor of the loss. Defaults to 1.0.
        conv_cfg (dict, optional): Config of the 3x3 convolutions, e.g.
            ``dict(type='RefinedConv2d')`` for refinement in the head (H).
        norm_cfg (dict, optional): Config of their normalization. Defaults to none.
        init_cfg (dict, optional): MMEngine's initialization.
    """

    def __init__(
        self,
        num_keypoints: int,
        codec: ConfigType,
        in_channels: int = 256,
        num_convs: int = 8,
        conv_channels: int = 512,
        refine: bool = True,
        max_offset: float | None = None,
        loss_weight: float = 1.0,
        conv_cfg: OptConfigType = None,
        norm_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        """Build the layers."""
        super().__init__(init_cfg=init_cfg)
        self.num_keypoints = num_keypoints
        self.codec = TASK_UTILS.build(codec)
        self.loss_weight = loss_weight
        self.max_offset = max_offset
        self.convs = nn.Sequential(
            *[
                ConvModule(
                    conv_channels if i else in_channels,
                    conv_channels,
                    3,
                    padding=1,
                    conv_cfg=conv_cfg,
                    norm_cfg=norm_cfg,
                )
                for i in range(num_convs)
            ]
        )
        # Kernel 4, stride 2, padding 1: the output is exactly twice the input's side, as in Mask
        # R-CNN.
        channels = conv_channels if num_convs else in_channels
        self.heatmap_pred = nn.ConvTranspose2d(channels, num_keypoints, 4, stride=2, padding=1)
        self.offset_pred = (
            nn.ConvTranspose2d(channels, 2 * num_keypoints, 4, stride=2, padding=1)
            if refine
            else None
        )

    def init_weights(self) -> None:
        """Initialize the convolutions, and the offsets to zero."""
        super().init_weights()
        for module in self.convs.modules():
            if isinstance(module, nn.Conv2d):
                _init_by_fan_out(module)
        # After their offset layers, which are convolutions too, were initialized.
        for module in self.convs.modules():
            if hasattr(module, 'conv_offset'):
                module.init_weights()
        if self.offset_pred is not None:
            nn.init.zeros_(self.offset_pred.weight)
            nn.init.zeros_(self.offset_pred.bias)

    def forward(self, feats: Tensor) -> tuple[Tensor, Tensor | None]:
        """Predict heatmaps and offsets.

        Args:
            feats (Tensor): RoI features, shape (R, C, 14, 14).

        Returns:
            tuple[Tensor, Tensor | None]: Heatmap logits, shape (R, K, S, S), and offsets in
            heatmap cells, shape (R, 2K, S, S), or None without refinement. Without RoIs the layers
            do not run; the logits have zero gradients for every parameter.
        """
        size = (self.codec.heatmap_size, self.codec.heatmap_size)
        if not len(feats):
            return feats.new_zeros(0, self.num_keypoints, *size) + zero_loss(self, feats), None
        feats = self.convs(feats)
        maps = [self.heatmap_pred(feats)]
        if self.offset_pred is not None:
            maps.append(self.offset_pred(feats))
        # (R, K or 2K, 28, 28) to (R, K or 2K, S, S)
        maps = [
            each
            if each.shape[-2:] == size
            else F.interpolate(each, size=size, mode='bilinear', align_corners=False)
            for each in maps
        ]
        if self.offset_pred is None:
            return maps[0], None
        return maps[0], bound_offsets(maps[1], self.max_offset)

    @abstractmethod
    def refined_heatmaps(self, feats: Tensor) -> Tensor:
        """Predict the heatmaps that loss and decoder take.

        Args:
            feats (Tensor): RoI features, shape (R, C, 14, 14).

        Returns:
            Tensor: Shape (R, K, S, S).
        """

    def loss_and_target(
        self,
        heatmaps: Tensor,
        sampling_results: list[SamplingResult],
        batch_gt_instances: InstanceList,
        rcnn_train_cfg: ConfigDict,
    ) -> dict:
        """Compute targets and loss of RoIs whose instance has a labeled keypoint.

        A collective operation (see :func:`reduce_avg_factor`): every rank must call it, including
        ranks without such RoIs. Their loss is 0.

        Args:
            heatmaps (Tensor): Refined heatmaps, shape (R, K, S, S).
            sampling_results (list[SamplingResult]): ``pos_priors`` xyxy in image pixels and
                ``pos_assigned_gt_inds`` of each image, R in total.
            batch_gt_instances (list[InstanceData]): ``keypoints`` in image pixels, (N, K, 2), and
                ``keypoints_visible``, COCO's visibility, (N, K), -1 where the category of an
                instance has no such keypoint. Its heatmap adds nothing to the loss.
            rcnn_train_cfg (ConfigDict): Not used; as in mmdet's heads.

        Returns:
            dict: ``loss_keypoint``, a dict of losses, and ``keypoint_targets``, the targets and
            the validity mask of :meth:`get_targets`.
        """
        pairs = list(zip(batch_gt_instances, sampling_results, strict=True))
        targets, valid = self.get_targets(
            torch.cat([gt.keypoints[sample.pos_assigned_gt_inds] for gt, sample in pairs]),
            torch.cat([gt.keypoints_visible[sample.pos_assigned_gt_inds] for gt, sample in pairs]),
            torch.cat([sample.pos_priors for sample in sampling_results]),
        )
        loss = self.loss_by_feat(heatmaps, targets, valid, len(batch_gt_instances))
        return {
            'loss_keypoint': {'loss_keypoint': self.loss_weight * loss},
            'keypoint_targets': (targets, valid),
        }

    @abstractmethod
    def get_targets(
        self, keypoints: Tensor, keypoints_visible: Tensor, rois: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Encode the annotated keypoints.

        Args:
            keypoints (Tensor): Keypoints of each RoI's instance in image pixels, shape (R, K, 2).
            keypoints_visible (Tensor): COCO's visibility or -1, shape (R, K).
            rois (Tensor): Boxes xyxy in image pixels, shape (R, 4).

        Returns:
            tuple[Tensor, Tensor]: The codec's targets, and whether a keypoint takes part in the
            loss, bool (R, K).
        """

    @abstractmethod
    def loss_by_feat(
        self, heatmaps: Tensor, targets: Tensor, valid: Tensor, num_images: int
    ) -> Tensor:
        """Compute the unweighted loss, a scalar.

        Args:
            heatmaps (Tensor): Refined heatmaps, shape (R, K, S, S).
            targets (Tensor): See :meth:`get_targets`.
            valid (Tensor): See :meth:`get_targets`.
            num_images (int): B, images of this rank.
        """

    def predict_by_feat(
        self,
        heatmaps: tuple[Tensor, ...],
        results_list: InstanceList,
        batch_img_metas: list[dict],
        rcnn_test_cfg: ConfigDict,
        rescale: bool = False,
    ) -> InstanceList:
        """Decode the heatmaps of detections.

        Args:
            heatmaps (tuple[Tensor]): Refined heatmaps of each image, shape (N, K, S, S).
            results_list (list[InstanceData]): ``bboxes`` (N, 4) xyxy of each image in pixels of
                the network's input.
            batch_img_metas (list[dict]): The images' ``scale_factor`` (x, y).
            rcnn_test_cfg (ConfigDict): Not used; as in mmdet's heads.
            rescale (bool): Whether to return keypoints in pixels of the original image. Defaults
                to False.

        Returns:
            list[InstanceData]: ``results_list`` with ``keypoints`` (N, K, 2) and
            ``keypoint_scores`` (N, K) as the codec defines them. The boxes do not change.
        """
        for maps, results, meta in zip(heatmaps, results_list, batch_img_metas, strict=True):
            # In the precision of the boxes, also if the network runs in half precision.
            keypoints, scores = self.codec.decode(maps.to(results.bboxes), results.bboxes)
            if rescale:
                keypoints = divide_points(keypoints, meta['scale_factor'])
            results.keypoints, results.keypoint_scores = keypoints, scores
        return results_list


@MODELS.register_module()
class KeypointOffsetHead(BaseKeypointHead):
    """Predict K heatmaps and resample each by its own offsets (report section 3.3).

    Loss and decoder take the refined probabilities ``F(p) = sigmoid(x)(p + dp)`` (Eq. 6).

    Args:
        supervise_occluded (bool): Whether the target of a keypoint that is labeled as occluded
            (COCO's visibility 1) is a Gaussian, or the report's map of zeros. Defaults to True.
        init_probability (float): Initial value of the heatmaps. Defaults to 0.01.
        kwargs: As in :class:`BaseKeypointHead`; the codec is a ``RoIHeatmapCodec``.
    """

    def __init__(
        self, *, supervise_occluded: bool = True, init_probability: float = 0.01, **kwargs
    ) -> None:
        """Build the layers."""
        super().__init__(**kwargs)
        self.supervise_occluded = supervise_occluded
        self.init_probability = init_probability

    def init_weights(self) -> None:
        """Initialize with small probabilities and zero offsets."""
        super().init_weights()
        nn.init.normal_(self.heatmap_pred.weight, std=0.001)
        # A focal prior, as RetinaNet's: almost all cells are background, and a start at 0.5 would
        # let their gradients dominate the first iterations.
        bias = torch.logit(torch.tensor(self.init_probability)).item()
        nn.init.constant_(self.heatmap_pred.bias, bias)

    def refined_heatmaps(self, feats: Tensor) -> Tensor:
        """Predict the refined probabilities, see the base class."""
        logits, offsets = self(feats)
        heatmaps = logits.sigmoid()
        return heatmaps if offsets is None else resample_heatmaps(heatmaps, offsets)

    def get_targets(
        self, keypoints: Tensor, keypoints_visible: Tensor, rois: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Encode heatmaps (R, K, S, S); all keypoints of an instance's category are valid.

        Arguments and result as in the base class.
        """
        # COCO: 0 unlabeled, 1 occluded, 2 visible
        supervised = keypoints_visible > (0 if self.supervise_occluded else 1)
        return self.codec.encode(keypoints, supervised, rois), keypoints_visible >= 0

    def loss_by_feat(
        self, heatmaps: Tensor, targets: Tensor, valid: Tensor, num_images: int
    ) -> Tensor:
        """Compute Eq. 9: squared errors summed over cells and keypoints, averaged over RoIs.

        Arguments as in the base class.
        """
        avg_factor = reduce_avg_factor(len(heatmaps), heatmaps.device)
        # No error and no gradient where there is no such keypoint.
        targets = torch.where(valid[..., None, None], targets, heatmaps.detach())
        return F.mse_loss(heatmaps, targets, reduction='sum') / avg_factor


@MODELS.register_module()
class KeypointSoftmaxHead(BaseKeypointHead):
    """Classify for each keypoint one of the S x S cells (Mask R-CNN, section 5).

    The loss is the cross-entropy of a softmax over the cells of a map, as in the Keypoint R-CNN of
    Detectron2 and torchvision, whose weights can be loaded. The refinement is that of
    :class:`KeypointOffsetHead`, applied to the logits: there, a cell outside the map has the map's
    lowest logit, which corresponds to 0 for a probability.

    Args:
        loss_normalizer (float, optional): Divisor of the loss of an image: Detectron2's static
            normalizer, K times the RoIs sampled per image times the fraction of foreground.
            Without it the loss is averaged over the keypoints of the batch.
        kwargs: As in :class:`BaseKeypointHead`; the codec is a ``RoISoftmaxCodec``.
    """

    def __init__(self, *, loss_normalizer: float | None = None, **kwargs) -> None:
        """Build the layers."""
        super().__init__(**kwargs)
        self.loss_normalizer = loss_normalizer

    def init_weights(self) -> None:
        """Initialize the convolutions, and the offsets to zero."""
        super().init_weights()
        _init_by_fan_out(self.heatmap_pred)

    def refined_heatmaps(self, feats: Tensor) -> Tensor:
        """Predict the refined logits, see the base class."""
        logits, offsets = self(feats)
        if offsets is None:
            return logits
        # Outside of a map the sampling reads 0. (R, K, 1, 1): the shift makes 0 the least likely
        # logit.
        lowest = logits.detach().amin((2, 3), keepdim=True)
        return resample_heatmaps(logits - lowest, offsets) + lowest

    def get_targets(
        self, keypoints: Tensor, keypoints_visible: Tensor, rois: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Encode indices of cells (R, K); labeled keypoints inside their RoI are valid.

        Arguments and result as in the base class.
        """
        return self.codec.encode(keypoints, keypoints_visible > 0, rois)

    def loss_by_feat(
        self, heatmaps: Tensor, targets: Tensor, valid: Tensor, num_images: int
    ) -> Tensor:
        """Compute the cross-entropy over cells, averaged over the valid keypoints.

        Arguments as in the base class.
        """
        if self.loss_normalizer is None:
            avg_factor = reduce_avg_factor(valid.sum(), heatmaps.device)
        else:
            avg_factor = self.loss_normalizer * num_images
        index = valid.flatten().nonzero()[:, 0]
        logits = heatmaps.flatten(2).flatten(0, 1)[index]  # (valid keypoints, S S)
        return F.cross_entropy(logits, targets.flatten()[index], reduction='sum') / avg_factor


def _init_by_fan_out(layer: nn.Module) -> None:
    nn.init.kaiming_normal_(layer.weight, mode='fan_out', nonlinearity='relu')
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
