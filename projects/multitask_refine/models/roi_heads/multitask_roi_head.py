"""The RoI head: pool once, then three heads side by side.

Shape letters: B images, R RoIs, C channels, K keypoints.
"""

from typing import List, Optional, Tuple

import torch
import torch.nn.functional as F
from mmdet.models.roi_heads import BaseRoIHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import ConfigType, InstanceList, OptConfigType
from mmengine.structures import InstanceData
from torch import Tensor

from multitask_refine.models.losses.avg_factor import share_losses, zero_loss
from multitask_refine.utils.errors import ConfigError


@MODELS.register_module()
class MultitaskRoIHead(BaseRoIHead):
    """Box, mask and keypoint heads in parallel on pooled RoI features.

    The box head takes a pooled feature of all RoIs. The mask and the
    keypoint head take one and the same pooled feature of the foreground
    RoIs, which is computed before any head runs. Without a pooling of its
    own (``bbox_roi_extractor=None``) the box head takes that feature too,
    of all RoIs and averaged down to the box head's ``roi_feat_size`` (from
    14x14 to 7x7 by 2x2), so that all three heads share one pooling (the
    report's section 3.1 to the letter).

    Without an FPN (C4), ``shared_head`` is the backbone's last stage, which
    then runs on the one pooled feature before the three heads.

    Args:
        bbox_head (dict): Config of the box head.
        instance_roi_extractor (dict): The pooling that mask and keypoint
            head share.
        bbox_roi_extractor (dict, optional): The box head's own pooling.
        shared_head (dict, optional): Layers between the shared pooling and
            the heads.
        mask_head (dict, optional): Config of the mask head.
        keypoint_head (dict, optional): Config of the keypoint head.
        train_cfg, test_cfg, init_cfg: As in mmdet's RoI heads.

    Raises:
        ConfigError: If there are both a ``shared_head`` and a pooling for
            the box head alone.
    """

    def __init__(
        self,
        bbox_head: ConfigType,
        instance_roi_extractor: ConfigType,
        bbox_roi_extractor: OptConfigType = None,
        mask_head: OptConfigType = None,
        keypoint_head: OptConfigType = None,
        shared_head: OptConfigType = None,
        **kwargs,
    ) -> None:
        if shared_head and bbox_roi_extractor:
            raise ConfigError(
                'roi_head: a shared_head works on the one pooling of all '
                'heads; set bbox_roi_extractor=None'
            )
        super().__init__(
            bbox_roi_extractor=bbox_roi_extractor,
            bbox_head=bbox_head,
            mask_roi_extractor=instance_roi_extractor,
            mask_head=mask_head,
            shared_head=shared_head,
            **kwargs,
        )
        self.instance_roi_extractor = MODELS.build(instance_roi_extractor)
        self.keypoint_head = keypoint_head and MODELS.build(keypoint_head)

    def init_bbox_head(self, bbox_roi_extractor: OptConfigType, bbox_head: ConfigType) -> None:
        """Build the box head and its pooling, if it has one."""
        self.bbox_roi_extractor = bbox_roi_extractor and MODELS.build(bbox_roi_extractor)
        self.bbox_head = MODELS.build(bbox_head)

    def init_mask_head(self, _: OptConfigType, mask_head: ConfigType) -> None:
        """Build the mask head; its pooling is the shared one."""
        self.mask_head = MODELS.build(mask_head)

    def init_assigner_sampler(self) -> None:
        """Build what chooses the RoIs to train on."""
        if self.train_cfg:
            self.bbox_assigner = TASK_UTILS.build(self.train_cfg.assigner)
            self.bbox_sampler = TASK_UTILS.build(
                self.train_cfg.sampler, default_args=dict(context=self)
            )

    @property
    def with_keypoint(self) -> bool:
        """bool: Whether there is a keypoint head."""
        return self.keypoint_head is not None

    # ---- training

    def loss(
        self, x: Tuple[Tensor], rpn_results_list: InstanceList, batch_data_samples: SampleList
    ) -> dict:
        """Sample RoIs, pool, and sum up what the heads have to say.

        Args:
            x (tuple[Tensor]): Feature maps of all levels, (B, C, H, W) each.
            rpn_results_list (list[InstanceData]): Proposals of each image.
            batch_data_samples (list[DetDataSample]): Annotations.

        Returns:
            dict[str, Tensor]: The losses (Eq. 1), the same keys for every
            batch. Each is a sum over this rank's RoIs divided by the ranks'
            mean number of RoIs.
        """
        gts, ignored, _ = unpack_gt_instances(batch_data_samples)
        samples = [self._sample(*image) for image in zip(rpn_results_list, gts, ignored)]
        rois = bbox2roi([sample.priors for sample in samples])
        foreground = torch.cat([_is_foreground(s) for s in samples])
        bbox_feats, instance_feats = self._pool(x, rois, foreground)
        losses = self._bbox_loss(bbox_feats, rois, samples)
        if self.with_mask:
            losses.update(self._mask_loss(instance_feats, samples, gts))
        if self.with_keypoint:
            losses.update(self._keypoint_loss(instance_feats, samples, gts))
        return losses

    def _sample(
        self, proposals: InstanceData, gt: InstanceData, ignored: InstanceData
    ) -> SamplingResult:
        """Choose the RoIs of one image; the inputs are left as they are."""
        priors = InstanceData(priors=proposals.bboxes)
        assigned = self.bbox_assigner.assign(priors, gt, ignored)
        return self.bbox_sampler.sample(assigned, priors, gt)

    def _bbox_loss(self, feats: Tensor, rois: Tensor, samples: List[SamplingResult]) -> dict:
        cls_score, bbox_pred = self.bbox_head(feats)
        losses = self.bbox_head.loss_and_target(
            cls_score, bbox_pred, rois, samples, self.train_cfg
        )['loss_bbox']
        # mmdet leaves these out where there is no RoI at all.
        losses.setdefault('loss_cls', cls_score.sum())
        losses.setdefault('acc', cls_score.new_zeros(1))
        return share_losses(losses, len(rois))

    def _mask_loss(self, feats: Tensor, samples: List[SamplingResult], gts: InstanceList) -> dict:
        """Compute the mask loss of the foreground RoIs whose instance has a
        mask (all instances, if ``gts`` lack ``has_mask``)."""
        labelled = [
            gt.has_mask[sample.pos_assigned_gt_inds]
            if 'has_mask' in gt
            else torch.ones_like(sample.pos_gt_labels, dtype=torch.bool)
            for gt, sample in zip(gts, samples)
        ]
        feats_labelled = feats[torch.cat(labelled)]
        if not len(feats_labelled):
            losses = dict(loss_mask=zero_loss(self.mask_head, feats))
            return share_losses(losses, 0)
        rois = [
            InstanceData(
                pos_priors=sample.pos_priors,
                pos_assigned_gt_inds=sample.pos_assigned_gt_inds,
                pos_gt_labels=sample.pos_gt_labels,
            )[keep]
            for sample, keep in zip(samples, labelled)
        ]
        losses = self.mask_head.loss_and_target(
            self.mask_head(feats_labelled), rois, gts, self.train_cfg
        )['loss_mask']
        return share_losses(losses, len(feats_labelled))

    def _keypoint_loss(
        self, feats: Tensor, samples: List[SamplingResult], gts: InstanceList
    ) -> dict:
        pairs = list(zip(gts, samples))
        return self.keypoint_head.loss(
            feats,
            torch.cat([g.keypoints[s.pos_assigned_gt_inds] for g, s in pairs]),
            torch.cat([g.keypoints_visible[s.pos_assigned_gt_inds] for g, s in pairs]),
            torch.cat([s.pos_priors for s in samples]),
            len(gts),
        )

    # ---- pooling

    def _pool(self, x: Tuple[Tensor], rois: Tensor, foreground: Tensor) -> Tuple[Tensor, Tensor]:
        """Pool the features of all heads.

        Args:
            x (tuple[Tensor]): Feature maps of all levels.
            rois (Tensor): All RoIs with their image's index, shape (R, 5).
            foreground (Tensor): Which of them show a person, bool (R).

        Returns:
            tuple: The box head's feature of all RoIs, (R, C, 7, 7), and the
            shared feature of the foreground RoIs, (R_fg, C, 14, 14), or
            what the ``shared_head`` makes of it.
        """
        if self.bbox_roi_extractor is None:
            feats = self._pool_instances(x, rois)
            return self._average(feats), feats[foreground]
        return self._pool_boxes(x, rois), self._pool_instances(x, rois[foreground])

    def _pool_boxes(self, x: Tuple[Tensor], rois: Tensor) -> Tensor:
        if self.bbox_roi_extractor is None:
            return self._average(self._pool_instances(x, rois))
        levels = x[: self.bbox_roi_extractor.num_inputs]
        return self.bbox_roi_extractor(levels, rois)

    def _pool_instances(self, x: Tuple[Tensor], rois: Tensor) -> Tensor:
        levels = x[: self.instance_roi_extractor.num_inputs]
        feats = self.instance_roi_extractor(levels, rois)
        return self.shared_head(feats) if self.with_shared_head else feats

    def _average(self, feats: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(feats, self.bbox_head.roi_feat_size)

    # ---- prediction

    def forward(
        self,
        x: Tuple[Tensor],
        rpn_results_list: InstanceList,
        batch_data_samples: Optional[SampleList] = None,
    ) -> tuple:
        """Raw outputs of the heads on all proposals (used to count FLOPs)."""
        rois = bbox2roi([proposals.bboxes for proposals in rpn_results_list])
        outputs = self.bbox_head(self._pool_boxes(x, rois))
        feats = self._pool_instances(x, rois[:100])
        if self.with_mask:
            outputs += (self.mask_head(feats),)
        if self.with_keypoint:
            outputs += (self.keypoint_head.refined_heatmaps(feats),)
        return outputs

    def predict(
        self,
        x: Tuple[Tensor],
        rpn_results_list: InstanceList,
        batch_data_samples: SampleList,
        rescale: bool = False,
    ) -> InstanceList:
        """Find the people of each image.

        Args:
            x (tuple[Tensor]): Feature maps of all levels, (B, C, H, W) each.
            rpn_results_list (list[InstanceData]): Proposals of each image.
            batch_data_samples (list[DetDataSample]): The images' sizes.
            rescale (bool): Give coordinates in the original image instead of
                the network's input. Defaults to False.

        Returns:
            list[InstanceData]: For the N people of each image ``bboxes``
            (N, 4) xyxy, ``scores`` (N), ``labels`` (N), and from the heads
            that are there ``masks`` (N, H, W) bool, ``keypoints`` (N, K, 2)
            and ``keypoint_scores`` (N, K), all in image pixels. Of
            categories that have keypoints of their own these are all that
            the head knows: metric, inferencer and visualizer take those of
            an instance's category by ``category_metas`` of the metainfo.
        """
        metas = [sample.metainfo for sample in batch_data_samples]
        proposals = [proposal.bboxes for proposal in rpn_results_list]
        results = self.predict_bbox(*self.bbox_forward(x, proposals), proposals, metas)
        boxes = [result.bboxes for result in results]
        feats = self.extract_instance_feats(x, boxes)
        masks = self.mask_head(feats) if self.with_mask else None
        joints = (
            self.keypoint_head.predict(feats, torch.cat(boxes)) if self.with_keypoint else None
        )
        return self.complete(results, masks, joints, metas, rescale)

    def bbox_forward(self, x: Tuple[Tensor], boxes: List[Tensor]) -> Tuple[Tensor, Tensor]:
        """Run the box head on given boxes.

        Args:
            x (tuple[Tensor]): Feature maps of all levels, (B, C, H, W) each.
            boxes (list[Tensor]): Boxes xyxy of each image in pixels of the
                network's input, (R_i, 4).

        Returns:
            tuple: The logits of person and no person, (R, 2), and the box
            deltas, (R, 4), of all images' boxes one after the other.
        """
        scores, deltas = self.bbox_head(self._pool_boxes(x, bbox2roi(boxes)))
        return scores.float(), deltas.float()  # also in mixed precision

    def predict_bbox(
        self, cls_score: Tensor, bbox_pred: Tensor, boxes: List[Tensor], metas: List[dict]
    ) -> InstanceList:
        """Move the boxes as the box head says and keep the best of them.

        Args:
            cls_score, bbox_pred (Tensor): What :meth:`bbox_forward` returns.
            boxes (list[Tensor]): What it was given.
            metas (list[dict]): The images' ``img_shape``.

        Returns:
            list[InstanceData]: Each image's people with ``bboxes`` (N, 4) in
            pixels of the network's input, ``scores`` (N) and ``labels`` (N).
        """
        counts = [len(box) for box in boxes]
        results = self.bbox_head.predict_by_feat(
            bbox2roi(boxes).split(counts),
            cls_score.split(counts),
            bbox_pred.split(counts),
            metas,
            rcnn_test_cfg=self.test_cfg,
            rescale=False,
        )
        smallest = self.test_cfg.get('min_bbox_size', 0)
        return [_drop_small(result, smallest) for result in results]

    def extract_instance_feats(self, x: Tuple[Tensor], boxes: List[Tensor]) -> Tensor:
        """Pool what mask and keypoint head take, (R, C, 14, 14), of the boxes
        (R_i, 4) of each image in pixels of the network's input."""
        return self._pool_instances(x, bbox2roi(boxes))

    def complete(
        self,
        results: InstanceList,
        masks: Optional[Tensor],
        joints: Optional[Tuple[Tensor, Tensor]],
        metas: List[dict],
        rescale: bool,
    ) -> InstanceList:
        """Give each person what the heads found.

        Args:
            results (list[InstanceData]): From :meth:`predict_bbox`.
            masks (Tensor, optional): Mask logits of all people one after the
                other, (R, 1, 2P, 2P), where P is the side of their feature.
            joints (tuple[Tensor], optional): Their joints in pixels of the
                network's input, (R, K, 2), and the joints' scores, (R, K).
            metas (list[dict]): The images' sizes.
            rescale (bool): As in :meth:`predict`.

        Returns:
            list[InstanceData]: As in :meth:`predict`.
        """
        counts = [len(result) for result in results]
        if masks is not None:
            self._paste_masks(masks.split(counts), results, metas, rescale)
        if joints is not None:
            for result, points, scores in zip(results, *(part.split(counts) for part in joints)):
                result.keypoints = points
                result.keypoint_scores = scores
        if rescale:
            for result, meta in zip(results, metas):
                _rescale(result, meta['scale_factor'])
        return results

    def _paste_masks(
        self, logits: Tuple[Tensor], results: InstanceList, metas: List[dict], rescale: bool
    ) -> None:
        # mmdet's mask head rescales the boxes it is given in place.
        scratch = [
            InstanceData(bboxes=result.bboxes.clone(), labels=result.labels) for result in results
        ]
        scratch = self.mask_head.predict_by_feat(
            logits, scratch, metas, self.test_cfg, rescale=rescale
        )
        for result, pasted in zip(results, scratch):
            result.masks = pasted.masks


def _is_foreground(sample: SamplingResult) -> Tensor:
    """Which of an image's sampled RoIs show a person: the first ones."""
    order = torch.arange(len(sample.priors), device=sample.priors.device)
    return order < len(sample.pos_priors)


def _drop_small(result: InstanceData, smallest: float) -> InstanceData:
    """Leave out boxes of which the image's border left (next to) nothing.

    Args:
        result (InstanceData): People with ``bboxes`` xyxy.
        smallest (float): Width and height must be greater, in pixels.
    """
    extent = result.bboxes[:, 2:] - result.bboxes[:, :2]
    return result[(extent > smallest).all(-1)]


def _rescale(result: InstanceData, scale_factor: Tuple[float, float]) -> None:
    """Bring boxes and joints to the original image."""
    factor = result.bboxes.new_tensor(scale_factor)
    result.bboxes = result.bboxes / factor.repeat(2)
    if 'keypoints' in result:
        result.keypoints = result.keypoints / factor
