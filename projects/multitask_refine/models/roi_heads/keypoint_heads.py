"""The keypoint heads: K heatmaps, refined by 2K offsets.

Shape letters: R RoIs, C channels, K keypoints, S heatmap side.
"""

from abc import abstractmethod
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from mmengine.model import BaseModule
from torch import Tensor, nn

from multitask_refine.models.losses.avg_factor import reduce_avg_factor, zero_loss
from multitask_refine.ops import bound_offsets, resample_heatmaps


class BaseKeypointHead(BaseModule):
    """The network that all keypoint heads share.

    A stack of 3x3 convolutions on the pooled RoI feature, a transposed
    convolution that doubles the resolution to K heatmaps (and 2K offsets),
    and a bilinear resize to S x S. What the heatmaps mean, and so the loss,
    is up to the subclass.

    Args:
        num_keypoints (int): K.
        codec (dict): Config of the encoder and decoder; its
            ``heatmap_size`` is S.
        in_channels (int): C of the RoI feature. Defaults to 256.
        num_convs (int): Number of 3x3 convolutions. Defaults to 8.
        conv_channels (int): Their width. Defaults to 512.
        refine (bool): Predict offsets and refine the heatmaps with them.
            Defaults to True.
        max_offset (float, optional): Bound of each component of an offset,
            in heatmap pixels: see
            :func:`~multitask_refine.ops.bound_offsets`. Defaults to
            none.
        loss_weight (float): Factor of the loss. Defaults to 1.0.
        conv_cfg (dict, optional): The 3x3 convolutions, e.g.
            ``dict(type='RefinedConv2d')`` for refinement in the head (H).
        norm_cfg (dict, optional): Their normalisation. Defaults to none.
        init_cfg (dict, optional): MMEngine's initialisation.
    """

    def __init__(
        self,
        num_keypoints: int,
        codec: ConfigType,
        in_channels: int = 256,
        num_convs: int = 8,
        conv_channels: int = 512,
        refine: bool = True,
        max_offset: Optional[float] = None,
        loss_weight: float = 1.0,
        conv_cfg: OptConfigType = None,
        norm_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
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
        width = conv_channels if num_convs else in_channels
        self.heatmap_pred = nn.ConvTranspose2d(width, num_keypoints, 4, stride=2, padding=1)
        self.offset_pred = (
            nn.ConvTranspose2d(width, 2 * num_keypoints, 4, stride=2, padding=1)
            if refine
            else None
        )

    def init_weights(self) -> None:
        """Start with no refinement."""
        super().init_weights()
        for module in self.convs.modules():
            if isinstance(module, nn.Conv2d):
                _init_by_fan_out(module)
        # Only now: a refined convolution clears its offsets again.
        for module in self.convs.modules():
            if hasattr(module, 'conv_offset'):
                module.init_weights()
        if self.offset_pred is not None:
            nn.init.zeros_(self.offset_pred.weight)
            nn.init.zeros_(self.offset_pred.bias)

    def forward(self, feats: Tensor) -> Tuple[Tensor, Optional[Tensor]]:
        """Run the network.

        Args:
            feats (Tensor): RoI features, shape (R, C, 14, 14).

        Returns:
            tuple: Heatmap logits, shape (R, K, S, S), and offsets in heatmap
            pixels, shape (R, 2K, S, S), or None without refinement.
        """
        feats = self.convs(feats)
        logits = self._resize(self.heatmap_pred(feats))
        if self.offset_pred is None:
            return logits, None
        offsets = self._resize(self.offset_pred(feats))
        return logits, bound_offsets(offsets, self.max_offset)

    @abstractmethod
    def refined_heatmaps(self, feats: Tensor) -> Tensor:
        """Run the network up to what loss and decoder see, (R, K, S, S)."""

    @abstractmethod
    def loss(
        self, feats: Tensor, keypoints: Tensor, visible: Tensor, rois: Tensor, num_images: int
    ) -> dict:
        """Compare with the annotated joints.

        Without a joint to compare with, the loss is a zero that still
        reaches every parameter. All ranks divide by the same number.

        Args:
            feats (Tensor): Features of the foreground RoIs,
                shape (R, C, 14, 14).
            keypoints (Tensor): Joints of each RoI's person in image pixels,
                shape (R, K, 2).
            visible (Tensor): COCO's visibility, shape (R, K); -1 where the
                category of a RoI's instance has no such keypoint, whose
                heatmap then adds nothing to the loss.
            rois (Tensor): The RoIs' boxes xyxy in image pixels, (R, 4).
            num_images (int): B, images of this rank.

        Returns:
            dict: ``loss_keypoint``, a scalar tensor.
        """

    def predict(self, feats: Tensor, rois: Tensor) -> Tuple[Tensor, Tensor]:
        """Find the joints.

        Args:
            feats (Tensor): RoI features, shape (R, C, 14, 14).
            rois (Tensor): Boxes xyxy in image pixels, shape (R, 4).

        Returns:
            tuple: Joints in image pixels, shape (R, K, 2), and their scores
            as the codec defines them, shape (R, K).
        """
        if not len(rois):
            empty = rois.new_zeros(0, self.num_keypoints, 2)
            return empty, empty[..., 0]
        # In the boxes' precision, also where the network ran in half.
        return self.codec.decode(self.refined_heatmaps(feats).to(rois), rois)

    def _resize(self, maps: Tensor) -> Tensor:
        size = self.codec.heatmap_size
        if maps.shape[-1] == size:
            return maps
        return F.interpolate(maps, size=(size, size), mode='bilinear', align_corners=False)


@MODELS.register_module()
class KeypointOffsetHead(BaseKeypointHead):
    """Predict K heatmaps and resample each by its own offsets (section 3.3).

    The refined probability map ``F(p) = sigmoid(x)(p + dp)`` (Eq. 6) is what
    the loss and the decoder see.

    Args:
        supervise_occluded (bool): Whether a joint that is labelled as
            covered (COCO's visibility 1) gets a Gaussian, or the zero map of
            the report. Defaults to True.
        init_probability (float): The heatmaps' value before training.
            Defaults to 0.01.
        kwargs: As in :class:`BaseKeypointHead`; the codec is a
            ``RoIHeatmapCodec``.
    """

    def __init__(
        self, *, supervise_occluded: bool = True, init_probability: float = 0.01, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.supervise_occluded = supervise_occluded
        self.init_probability = init_probability

    def init_weights(self) -> None:
        """Start with small probabilities and with no refinement."""
        super().init_weights()
        nn.init.normal_(self.heatmap_pred.weight, std=0.001)
        nn.init.constant_(
            self.heatmap_pred.bias, torch.logit(torch.tensor(self.init_probability)).item()
        )

    def refined_heatmaps(self, feats: Tensor) -> Tensor:
        """Run the network up to the refined probabilities, (R, K, S, S)."""
        logits, offsets = self(feats)
        heatmaps = logits.sigmoid()
        return heatmaps if offsets is None else resample_heatmaps(heatmaps, offsets)

    def loss(
        self, feats: Tensor, keypoints: Tensor, visible: Tensor, rois: Tensor, num_images: int
    ) -> dict:
        """Eq. 9, summed over cells and the joints of a RoI's category,
        averaged over the RoIs that have a labelled joint. Arguments and
        result as in the base class."""
        supervised = (visible > 0).any(-1)
        num_supervised = reduce_avg_factor(int(supervised.sum()), feats.device)
        if not supervised.any():
            return dict(loss_keypoint=zero_loss(self, feats))
        shown = visible > (0 if self.supervise_occluded else 1)
        target = self.codec.encode(keypoints[supervised], shown[supervised], rois[supervised])
        heatmaps = self.refined_heatmaps(feats[supervised])
        # Without difference and gradient where there is no such keypoint.
        absent = (visible[supervised] < 0)[..., None, None]
        target = torch.where(absent, heatmaps.detach(), target)
        loss = F.mse_loss(heatmaps, target, reduction='sum') / num_supervised
        return dict(loss_keypoint=self.loss_weight * loss)


@MODELS.register_module()
class KeypointSoftmaxHead(BaseKeypointHead):
    """Choose for each joint one of the S x S cells (Mask R-CNN, section 5).

    The loss is the cross-entropy of a softmax over a map's cells, as in the
    Keypoint R-CNN of Detectron2 and torchvision, whose weights run here.
    The refinement is the same as in :class:`KeypointOffsetHead`, on the
    logits: there, a cell outside the map counts as the map's least likely
    one, which is 0 for a probability.

    Args:
        loss_normalizer (float, optional): What the loss of an image is
            divided by: Detectron2's static normaliser, K times the RoIs
            sampled from an image times the share of foreground. Without it
            the batch's loss is divided by its number of joints.
        kwargs: As in :class:`BaseKeypointHead`; the codec is a
            ``RoISoftmaxCodec``.
    """

    def __init__(self, *, loss_normalizer: Optional[float] = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.loss_normalizer = loss_normalizer

    def init_weights(self) -> None:
        """Start with no refinement."""
        super().init_weights()
        _init_by_fan_out(self.heatmap_pred)

    def refined_heatmaps(self, feats: Tensor) -> Tensor:
        """Run the network up to the refined logits, (R, K, S, S)."""
        logits, offsets = self(feats)
        if offsets is None:
            return logits
        least = logits.detach().amin((2, 3), keepdim=True)
        return resample_heatmaps(logits - least, offsets) + least

    def loss(
        self, feats: Tensor, keypoints: Tensor, visible: Tensor, rois: Tensor, num_images: int
    ) -> dict:
        """Cross-entropy over cells, averaged over the labelled joints inside
        their RoI. Arguments and result as in the base class."""
        cells, counted = self.codec.encode(keypoints, visible > 0, rois)
        if self.loss_normalizer is None:
            divisor = reduce_avg_factor(int(counted.sum()), feats.device)
        else:
            divisor = self.loss_normalizer * num_images
        supervised = counted.any(-1)
        if not supervised.any():
            return dict(loss_keypoint=zero_loss(self, feats))
        logits = self.refined_heatmaps(feats[supervised]).flatten(2)
        counted = counted[supervised]
        loss = F.cross_entropy(logits[counted], cells[supervised][counted], reduction='sum')
        return dict(loss_keypoint=self.loss_weight * loss / divisor)


def _init_by_fan_out(layer: nn.Module) -> None:
    nn.init.kaiming_normal_(layer.weight, mode='fan_out', nonlinearity='relu')
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
