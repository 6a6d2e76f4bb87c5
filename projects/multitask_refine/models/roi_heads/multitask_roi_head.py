"""The RoI head: features are pooled once, then three heads run in parallel.

Shape letters: B images, R RoIs, C channels, K keypoints, P side of a pooled feature.
"""

from typing import NamedTuple

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
from torch import Tensor, nn

from multitask_refine.models.losses.avg_factor import sync_avg_factor
from multitask_refine.models.utils.points import divide_points
from multitask_refine.utils.errors import ConfigError


class InstanceOutputs(NamedTuple):
    """Outputs of mask head, keypoint head and branches for R RoIs.

    Attributes:
        mask_preds: Mask logits, (R, classes, 2P, 2P); None without a mask head.
        heatmaps: Refined heatmaps, (R, K, S, S); None without a keypoint head.
        branches: Probabilities of each branch by its name, (R, ...).
    """

    mask_preds: Tensor | None
    heatmaps: Tensor | None
    branches: dict[str, Tensor]


@MODELS.register_module()
class MultitaskRoIHead(BaseRoIHead):
    """Box, mask and keypoint heads in parallel on pooled RoI features.

    The box head takes a pooled feature of all RoIs. The mask head and the keypoint head share one
    pooled feature of the foreground RoIs, which is extracted before any head runs. Without a RoI
    extractor of its own (``bbox_roi_extractor=None``) the box head takes that feature too, of all
    RoIs and averaged to the box head's ``roi_feat_size`` (from 14x14 to 7x7 by 2x2), so that all
    three heads share one pooling (report section 3.1, literally).

    Without an FPN (C4), ``shared_head`` is the last stage of the backbone, which then runs once on
    the pooled feature before the three heads.

    ``branches`` judge what mask or keypoint head found, from their output and the same feature:
    the visibility of keypoints, for example. They change no other prediction.

    With a ``mask_gate`` the keypoint head, and its branches, take the shared feature modulated by
    the predicted mask.

    Another task needs a head with the same verbs as these three, ``loss_and_target`` and
    ``predict_by_feat``, a method beside :meth:`_forward_keypoint`, and a field in
    :meth:`postprocess`.

    Two settings of ``test_cfg.rcnn`` make the tasks of an instance consistent: with
    ``roi_scale_factor`` mask and keypoint head see RoIs that are larger than the boxes by this
    factor, and ``postprocess`` is a list of configs of what is applied to the detections of an
    image, such as :class:`~multitask_refine.models.InstanceNMS`.

    Args:
        bbox_head (dict): Config of the box head.
        instance_roi_extractor (dict): Config of the RoI extractor that mask and keypoint head
            share.
        bbox_roi_extractor (dict, optional): Config of the box head's own RoI extractor.
        mask_head (dict, optional): Config of the mask head.
        keypoint_head (dict, optional): Config of the keypoint head.
        shared_head (dict, optional): Config of the layers between the shared RoI extractor and the
            heads.
        branches (dict[str, dict]): Configs of the branches by name; those of the keypoint head
            get its ``num_keypoints`` and ``codec``. Defaults to none.
        mask_gate (dict, optional): Config of the gate.
        kwargs: ``train_cfg``, ``test_cfg`` and ``init_cfg`` as in mmdet's RoI heads.

    Raises:
        ConfigError: If there are both a ``shared_head`` and a RoI extractor of the box head, a
            branch or the gate lacks its head, or a setting of ``test_cfg.rcnn.postprocess``
            needs a head that there is not.
    """

    def __init__(
        self,
        bbox_head: ConfigType,
        instance_roi_extractor: ConfigType,
        bbox_roi_extractor: OptConfigType = None,
        mask_head: OptConfigType = None,
        keypoint_head: OptConfigType = None,
        shared_head: OptConfigType = None,
        branches: dict[str, ConfigType] | None = None,
        mask_gate: OptConfigType = None,
        **kwargs,
    ) -> None:
        """Build the RoI extractors and the heads."""
        if shared_head and bbox_roi_extractor:
            raise ConfigError(
                'roi_head: a shared_head needs one RoI extractor for all heads; '
                'set bbox_roi_extractor=None'
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
        configs = (self.test_cfg or {}).get('postprocess', [])
        self.postprocessors = [TASK_UTILS.build(each) for each in configs]
        heads = dict(masks=self.with_mask, keypoints=self.with_keypoint)
        for each in self.postprocessors:
            for field in each.fields:
                if not heads.get(field, True):
                    raise ConfigError(
                        f'model.test_cfg.rcnn.postprocess: {type(each).__name__} needs {field}, '
                        'and there is no head for them. Remove it, or train with that head.'
                    )
        shared = dict(
            mask={},
            keypoint={key: (keypoint_head or {}).get(key) for key in ('num_keypoints', 'codec')},
        )
        self.branches = nn.ModuleDict()
        for name, branch in (branches or {}).items():
            kind = branch.get('type')
            source = getattr(MODELS.get(kind), 'source', None) if kind else None
            if source not in shared:
                raise ConfigError(
                    f'model.roi_head.branches.{name}.type: expected a branch such as '
                    f'KeypointVisibilityBranch, found {kind!r}. Correct the type.'
                )
            self._require_source(f'branches.{name}', source)
            self.branches[name] = MODELS.build(branch, default_args=shared[source])
        self.mask_gate = mask_gate and MODELS.build(mask_gate)
        if mask_gate:
            self._require_source('mask_gate', 'mask')
            self._require_source('mask_gate', 'keypoint')

    def _require_source(self, setting: str, source: str) -> None:
        """Raise an error unless the head that a component reads is there."""
        head = getattr(self, f'{source}_head', None)
        if head is None:
            raise ConfigError(
                f'model.roi_head.{setting}: expected a {source}_head, whose output it reads, '
                f'found none. Remove {setting} or add the head.'
            )
        if source == 'mask' and head.conv_logits.out_channels != 1:
            raise ConfigError(
                f'model.roi_head.{setting}: expected a mask_head with one mask for each RoI, '
                f'found {head.conv_logits.out_channels}. Set mask_head.class_agnostic=True.'
            )

    def init_bbox_head(self, bbox_roi_extractor: OptConfigType, bbox_head: ConfigType) -> None:
        """Build the box head and its RoI extractor, if it has one."""
        self.bbox_roi_extractor = bbox_roi_extractor and MODELS.build(bbox_roi_extractor)
        self.bbox_head = MODELS.build(bbox_head)

    def init_mask_head(self, _: OptConfigType, mask_head: ConfigType) -> None:
        """Build the mask head; its RoI extractor is the shared one."""
        self.mask_head = MODELS.build(mask_head)

    def init_assigner_sampler(self) -> None:
        """Build assigner and sampler of the RoIs."""
        if self.train_cfg:
            self.bbox_assigner = TASK_UTILS.build(self.train_cfg.assigner)
            self.bbox_sampler = TASK_UTILS.build(
                self.train_cfg.sampler, default_args={'context': self}
            )

    @property
    def with_keypoint(self) -> bool:
        """bool: Whether there is a keypoint head."""
        return self.keypoint_head is not None

    # ---- training

    def loss(
        self, x: tuple[Tensor], rpn_results_list: InstanceList, batch_data_samples: SampleList
    ) -> dict[str, Tensor]:
        """Sample RoIs, extract their features and compute the losses of all heads.

        Args:
            x (tuple[Tensor]): Feature maps of all levels, (B, C, H, W) each.
            rpn_results_list (list[InstanceData]): Proposals of each image.
            batch_data_samples (list[DetDataSample]): Annotations.

        Returns:
            dict[str, Tensor]: The losses (Eq. 1), the same keys for every batch. Each is a sum
            over this rank's RoIs divided by the average factor over all ranks.
        """
        gts, ignored, _ = unpack_gt_instances(batch_data_samples)
        samples = []
        for proposals, gt, ignore in zip(rpn_results_list, gts, ignored, strict=True):
            # A new object: the caller's proposals do not change.
            priors = InstanceData(priors=proposals.bboxes)
            assigned = self.bbox_assigner.assign(priors, gt, ignore)
            samples.append(self.bbox_sampler.sample(assigned, priors, gt))
        rois = bbox2roi([sample.priors for sample in samples])  # (R, 5)
        # Each image's foreground RoIs come first.
        foreground, start = [], 0
        for sample in samples:
            stop = start + len(sample.pos_priors)
            foreground.append(torch.arange(start, stop, device=rois.device))
            start = stop + len(sample.neg_priors)
        # (R, C, 7, 7) and (R_fg, C, 14, 14), before and independent of any head
        bbox_feats, instance_feats = self._pool(x, rois, torch.cat(foreground))
        labeled = self._find_labeled(samples, gts)
        losses = self._forward_bbox(bbox_feats, samples)
        if self.with_mask:
            losses.update(self._forward_mask(instance_feats, samples, gts, labeled['mask']))
        if self.with_keypoint:
            losses.update(
                self._forward_keypoint(instance_feats, samples, gts, labeled['keypoint'])
            )
        return losses

    def _find_labeled(self, samples: list[SamplingResult], gts: InstanceList) -> dict[str, Tensor]:
        """Find the foreground RoIs that mask and keypoint head are trained with.

        Returns:
            dict[str, Tensor]: Whether the instance of a RoI has a ``mask`` (all have one if
            ``gts`` have no ``has_mask``) and a labeled ``keypoint``, bool (R_fg) on the CPU.
        """
        pairs = [
            (gt, sample.pos_assigned_gt_inds) for gt, sample in zip(gts, samples, strict=True)
        ]
        flags = {}
        if self.with_mask:
            flags['mask'] = [
                gt.has_mask[index]
                if 'has_mask' in gt
                else torch.ones_like(index, dtype=torch.bool)
                for gt, index in pairs
            ]
        if self.with_keypoint:
            flags['keypoint'] = [
                (gt.keypoints_visible[index] > 0).any(-1)  # (R_i, K) to (R_i)
                for gt, index in pairs
            ]
        if not flags:
            return {}
        # One copy to the host for both heads.
        values = torch.stack([torch.cat(each) for each in flags.values()]).cpu()
        return dict(zip(flags, values, strict=True))

    def _forward_bbox(self, feats: Tensor, samples: list[SamplingResult]) -> dict[str, Tensor]:
        """Run the box head on all RoIs, features (R, C, 7, 7), and compute its losses."""
        rois = bbox2roi([sample.priors for sample in samples])
        cls_score, bbox_pred = self.bbox_head(feats)
        losses = self.bbox_head.loss_and_target(
            cls_score, bbox_pred, rois, samples, self.train_cfg
        )['loss_bbox']
        # mmdet omits these without any RoI.
        losses.setdefault('loss_cls', cls_score.sum())
        losses.setdefault('acc', cls_score.new_zeros(1))
        return sync_avg_factor(losses, len(rois))

    def _forward_mask(
        self, feats: Tensor, samples: list[SamplingResult], gts: InstanceList, labeled: Tensor
    ) -> dict[str, Tensor]:
        """Run the mask head on foreground RoIs whose instance has a mask; compute its loss."""
        feats, selected = _select_foreground(feats, samples, labeled)
        mask_preds = self.mask_head(feats)  # (R_labeled, classes, 2P, 2P)
        found = self.mask_head.loss_and_target(mask_preds, selected, gts, self.train_cfg)
        return {
            **sync_avg_factor(found['loss_mask'], len(mask_preds)),
            **self._forward_branches(
                'mask', feats, mask_preds, found['mask_targets'], selected, gts
            ),
        }

    def _forward_keypoint(
        self, feats: Tensor, samples: list[SamplingResult], gts: InstanceList, labeled: Tensor
    ) -> dict[str, Tensor]:
        """Run the keypoint head on foreground RoIs with a labeled keypoint; compute its loss."""
        feats, selected = _select_foreground(feats, samples, labeled)
        if self.mask_gate is not None:
            # Not the masks of the loss: those are of the RoIs that have a labeled mask.
            with torch.no_grad():
                mask_preds = self.mask_head(feats)
            feats = self.gate_feats(feats, mask_preds)
        heatmaps = self.keypoint_head.refined_heatmaps(feats)  # (R_labeled, K, S, S)
        # The head synchronizes its average factor, which may be a number of keypoints.
        found = self.keypoint_head.loss_and_target(heatmaps, selected, gts, self.train_cfg)
        return {
            **found['loss_keypoint'],
            **self._forward_branches(
                'keypoint', feats, heatmaps, found['keypoint_targets'], selected, gts
            ),
        }

    def _forward_branches(
        self,
        source: str,
        feats: Tensor,
        preds: Tensor,
        targets: Tensor | tuple[Tensor, Tensor],
        selected: InstanceList,
        gts: InstanceList,
    ) -> dict[str, Tensor]:
        """Run the branches of a head on its RoIs, features (R, C, P, P), and compute their losses.

        Arguments as in :meth:`BaseBranch.loss_and_target`.
        """
        losses: dict[str, Tensor] = {}
        for branch in self.branches.values():
            if branch.source != source:
                continue
            logits = branch(feats, preds)
            losses.update(
                branch.loss_and_target(logits, preds, targets, selected, gts, self.train_cfg)
            )
        return losses

    # ---- RoI features

    def _pool(self, x: tuple[Tensor], rois: Tensor, foreground: Tensor) -> tuple[Tensor, Tensor]:
        """Extract the features of all heads.

        Args:
            x (tuple[Tensor]): Feature maps of all levels.
            rois (Tensor): Image index and box xyxy of all RoIs, shape (R, 5).
            foreground (Tensor): Indices of the RoIs that are assigned to an instance, (R_fg).

        Returns:
            tuple[Tensor, Tensor]: The box head's feature of all RoIs, (R, C, 7, 7), and the shared
            feature of the foreground RoIs, (R_fg, C, 14, 14), or the output of ``shared_head``.
        """
        if self.bbox_roi_extractor is None:
            feats = self._pool_instances(x, rois)
            return F.adaptive_avg_pool2d(feats, self.bbox_head.roi_feat_size), feats[foreground]
        return self._pool_boxes(x, rois), self._pool_instances(x, rois[foreground])

    def _pool_boxes(self, x: tuple[Tensor], rois: Tensor) -> Tensor:
        if self.bbox_roi_extractor is None:
            feats = self._pool_instances(x, rois)
            return F.adaptive_avg_pool2d(feats, self.bbox_head.roi_feat_size)
        return self.bbox_roi_extractor(x[: self.bbox_roi_extractor.num_inputs], rois)

    def _pool_instances(self, x: tuple[Tensor], rois: Tensor) -> Tensor:
        feats = self.instance_roi_extractor(x[: self.instance_roi_extractor.num_inputs], rois)
        return self.shared_head(feats) if self.with_shared_head else feats

    def gate_feats(self, feats: Tensor, mask_preds: Tensor | None) -> Tensor:
        """Return the feature of the keypoint head.

        Args:
            feats (Tensor): Shared features, shape (R, C, P, P).
            mask_preds (Tensor, optional): Mask logits, (R, 1, M, M).

        Returns:
            Tensor: ``feats``, modulated by the masks if there is a gate.
        """
        return feats if self.mask_gate is None else self.mask_gate(feats, mask_preds)

    # ---- prediction

    def forward(
        self,
        x: tuple[Tensor],
        rpn_results_list: InstanceList,
        batch_data_samples: SampleList | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the raw outputs of the heads for all proposals (to count FLOPs)."""
        boxes = [proposals.bboxes for proposals in rpn_results_list]
        outputs = self.bbox_forward(x, boxes)
        # As in mmdet's StandardRoIHead, mask and keypoint head see at most 100 RoIs.
        found = self.instance_forward(self._pool_instances(x, bbox2roi(boxes)[:100]))
        heads = (found.mask_preds, found.heatmaps, *found.branches.values())
        return outputs + tuple(each for each in heads if each is not None)

    def predict(
        self,
        x: tuple[Tensor],
        rpn_results_list: InstanceList,
        batch_data_samples: SampleList,
        rescale: bool = False,
    ) -> InstanceList:
        """Detect the people of each image.

        Args:
            x (tuple[Tensor]): Feature maps of all levels, (B, C, H, W) each.
            rpn_results_list (list[InstanceData]): Proposals of each image.
            batch_data_samples (list[DetDataSample]): Sizes of the images.
            rescale (bool): Whether to return coordinates in the original image instead of the
                network's input. Defaults to False.

        Returns:
            list[InstanceData]: For the N detections of each image ``bboxes`` (N, 4) xyxy,
            ``scores`` (N), ``labels`` (N) and, from the heads that exist, ``masks`` (N, H, W)
            bool, ``keypoints`` (N, K, 2) and ``keypoint_scores`` (N, K), all in image pixels, and
            the fields of the branches. For categories with keypoints of their own these are the
            head's K keypoints; metric, inferencer and visualizer select those of an instance's
            category by the metainfo's ``category_metas``.
        """
        metas = [sample.metainfo for sample in batch_data_samples]
        proposals = [proposal.bboxes for proposal in rpn_results_list]
        results = self.predict_bbox(*self.bbox_forward(x, proposals), proposals, metas)
        feats = self.extract_instance_feats(x, [result.bboxes for result in results])
        return self.postprocess(results, self.instance_forward(feats), metas, rescale)

    def bbox_forward(self, x: tuple[Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Run the box head on given boxes.

        Args:
            x (tuple[Tensor]): Feature maps of all levels, (B, C, H, W) each.
            boxes (list[Tensor]): Boxes xyxy of each image in pixels of the network's input,
                (R_i, 4).

        Returns:
            tuple[Tensor, Tensor]: Logits of the classes and background, (R, classes + 1), and box
            deltas, (R, 4 classes), concatenated over the images. They are float32 in mixed
            precision, too.
        """
        cls_score, bbox_pred = self.bbox_head(self._pool_boxes(x, bbox2roi(boxes)))
        return cls_score.float(), bbox_pred.float()

    def predict_bbox(
        self, cls_score: Tensor, bbox_pred: Tensor, boxes: list[Tensor], metas: list[dict]
    ) -> InstanceList:
        """Decode the box deltas, apply NMS and keep the top-scoring boxes.

        Args:
            cls_score (Tensor): See :meth:`bbox_forward`.
            bbox_pred (Tensor): See :meth:`bbox_forward`.
            boxes (list[Tensor]): The boxes that the deltas refer to.
            metas (list[dict]): The images' ``img_shape``.

        Returns:
            list[InstanceData]: Detections of each image with ``bboxes`` (N, 4) in pixels of the
            network's input, ``scores`` (N) and ``labels`` (N).
        """
        counts = [len(each) for each in boxes]
        results = self.bbox_head.predict_by_feat(
            bbox2roi(boxes).split(counts),
            cls_score.split(counts),
            bbox_pred.split(counts),
            metas,
            rcnn_test_cfg=self.test_cfg,
            rescale=False,
        )
        # Drop boxes that were clipped to (almost) nothing at the border of the image.
        min_size = self.test_cfg.get('min_bbox_size', 0)
        return [
            # Width and height; a mask would be converted to indices for each field.
            result[
                (result.bboxes[:, 2:] - result.bboxes[:, :2] > min_size).all(-1).nonzero()[:, 0]
            ]
            for result in results
        ]

    def extract_instance_feats(self, x: tuple[Tensor], boxes: list[Tensor]) -> Tensor:
        """Extract the feature that mask and keypoint head share.

        Args:
            x (tuple[Tensor]): Feature maps of all levels, (B, C, H, W) each.
            boxes (list[Tensor]): Boxes xyxy of each image in pixels of the network's input,
                (R_i, 4).

        Returns:
            Tensor: Shape (R, C, 14, 14), or the output of ``shared_head``.
        """
        return self._pool_instances(x, bbox2roi([self.scale_rois(each) for each in boxes]))

    def scale_rois(self, boxes: Tensor) -> Tensor:
        """Scale boxes (R, 4) about their centers to the RoIs of mask and keypoint head."""
        factor = self.test_cfg.get('roi_scale_factor', 1)
        if factor == 1:
            return boxes
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        half = factor * (boxes[:, 2:] - boxes[:, :2]) / 2
        return torch.cat([centers - half, centers + half], 1)

    def instance_forward(self, feats: Tensor, mask_feats: Tensor | None = None) -> InstanceOutputs:
        """Run mask head, keypoint head and branches.

        Args:
            feats (Tensor): See :meth:`extract_instance_feats`.
            mask_feats (Tensor, optional): Those of the mask head, if it has its own.

        Returns:
            InstanceOutputs: Outputs of the heads that exist.
        """
        mask_feats = feats if mask_feats is None else mask_feats
        mask_preds = self.mask_head(mask_feats) if self.with_mask else None
        feats = self.gate_feats(feats, mask_preds)
        heatmaps = self.keypoint_head.refined_heatmaps(feats) if self.with_keypoint else None
        inputs = dict(mask=(mask_feats, mask_preds), keypoint=(feats, heatmaps))
        return InstanceOutputs(
            mask_preds,
            heatmaps,
            {
                name: branch.activate(branch(*inputs[branch.source]))
                for name, branch in self.branches.items()
            },
        )

    def postprocess(
        self, results: InstanceList, outputs: InstanceOutputs, metas: list[dict], rescale: bool
    ) -> InstanceList:
        """Attach masks, keypoints and the fields of the branches to the detections.

        Args:
            results (list[InstanceData]): Detections from :meth:`predict_bbox`, R in total.
            outputs (InstanceOutputs): Those of their RoIs.
            metas (list[dict]): Sizes of the images.
            rescale (bool): As in :meth:`predict`.

        Returns:
            list[InstanceData]: As in :meth:`predict`.
        """
        counts = [len(result) for result in results]  # to split R into images
        boxes = [result.bboxes for result in results]
        for result in results:  # Masks and keypoints are on the cells of the RoIs.
            result.bboxes = self.scale_rois(result.bboxes)
        if outputs.mask_preds is not None:
            # Copies, because mmdet's mask head rescales the boxes in place.
            copies = [
                InstanceData(bboxes=result.bboxes.clone(), labels=result.labels)
                for result in results
            ]
            copies = self.mask_head.predict_by_feat(
                outputs.mask_preds.split(counts), copies, metas, self.test_cfg, rescale=rescale
            )
            for result, with_masks in zip(results, copies, strict=True):
                result.masks = with_masks.masks
        if outputs.heatmaps is not None:
            results = self.keypoint_head.predict_by_feat(
                outputs.heatmaps.split(counts), results, metas, self.test_cfg, rescale=rescale
            )
        for name, values in outputs.branches.items():
            results = self.branches[name].predict_by_feat(values.split(counts), results)
        for result, own, meta in zip(results, boxes, metas, strict=True):
            if rescale:
                own = divide_points(own.unflatten(1, (2, 2)), meta['scale_factor']).flatten(1)
            result.bboxes = own
        for postprocessor in self.postprocessors:
            results = [postprocessor(result) for result in results]
        return results


def _select_foreground(
    feats: Tensor, samples: list[SamplingResult], labeled: Tensor
) -> tuple[Tensor, list[InstanceData]]:
    """Select some of the foreground RoIs.

    Args:
        feats (Tensor): Features of all, shape (R_fg, C, P, P).
        samples (list[SamplingResult]): All RoIs of each image.
        labeled (Tensor): Whether to keep a foreground RoI, bool (R_fg), on the CPU.

    Returns:
        tuple[Tensor, list[InstanceData]]: The selected features, and priors, instances and labels
        of each image.
    """
    counts = [len(sample.pos_priors) for sample in samples]
    kept = [int(each.sum()) for each in labeled.split(counts)]
    index = labeled.nonzero()[:, 0].to(feats.device, non_blocking=True)
    fields = {
        name: torch.cat([getattr(sample, name) for sample in samples])[index].split(kept)
        for name in ('pos_priors', 'pos_assigned_gt_inds', 'pos_gt_labels')
    }
    return feats[index], [
        InstanceData(**dict(zip(fields, values, strict=True)))
        for values in zip(*fields.values(), strict=True)
    ]
