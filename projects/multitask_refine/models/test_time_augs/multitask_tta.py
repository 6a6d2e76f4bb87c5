"""Test-time augmentation: outputs averaged over an image and its horizontal flip.

Coordinates are continuous, so x in an image of width W is W - x in the flipped image, and maps on
the cells of a RoI are flipped exactly.

Shape letters: B images, R RoIs, C classes, K keypoints, S heatmap side, P mask side.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmcv.ops import batched_nms
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_mapping, bbox_mapping_back
from mmdet.utils import InstanceList
from mmengine.model import BaseTTAModel
from torch import Tensor

from multitask_refine.models.detectors import CombinedRCNN
from multitask_refine.models.roi_heads import InstanceOutputs
from multitask_refine.utils.errors import ConfigError


def flip_tta_pipeline(pipeline: Sequence[dict]) -> list[dict]:
    """Make a test pipeline that returns each image and its horizontal flip.

    Args:
        pipeline (Sequence[dict]): Configs of the transforms of a test pipeline. The last one packs
            the inputs and has ``meta_keys``.

    Returns:
        list[dict]: The same transforms, with the last one applied to both images.
    """
    *transforms, pack = copy.deepcopy(list(pipeline))
    pack['meta_keys'] = (*pack['meta_keys'], 'flip', 'flip_direction', 'flip_indices')
    flips = [{'type': 'RandomFlip', 'prob': prob} for prob in (0.0, 1.0)]
    return [*transforms, {'type': 'TestTimeAug', 'transforms': [flips, [pack]]}]


@dataclass
class View:
    """Features and proposals of one augmentation of a batch.

    Attributes:
        feats (tuple[Tensor]): Feature maps of all levels.
        proposals (list[InstanceData]): ``bboxes`` and ``scores`` of each image, in pixels of this
            view.
        samples (list[DetDataSample]): The metainfo of each image.
    """

    feats: tuple[Tensor, ...]
    proposals: InstanceList
    samples: SampleList

    @property
    def metas(self) -> list[dict]:
        """list[dict]: Size, scale and flip of each image."""
        return [sample.metainfo for sample in self.samples]

    @property
    def flipped(self) -> bool:
        """bool: Whether the images are flipped."""
        return self.metas[0]['flip']

    def map_boxes(self, boxes: list[Tensor], source: 'View') -> list[Tensor]:
        """Map the boxes (R_i, 4) of each image from another view to this one."""
        if source is self:
            return boxes
        return [map_boxes(*each) for each in zip(boxes, source.metas, self.metas, strict=True)]

    def unflip(self, maps: Tensor) -> Tensor:
        """Undo the flip of maps on RoIs, shape (R, ..., S, S)."""
        return maps.flip(-1) if self.flipped else maps  # the width


@MODELS.register_module()
class MultitaskTTAModel(BaseTTAModel):
    """Average the outputs of a network over augmented views of each image.

    The proposals of all views are merged by the RPN's NMS. Then each head runs on the same RoIs in
    every view, and its outputs are averaged on the RoI: probabilities and deltas of the box head,
    probabilities of the masks and of the branches, and the refined heatmaps of the keypoint head,
    unflipped and with left and right keypoints swapped. The rest is the network's own: one NMS of
    the boxes, mask pasting and keypoint decoding.

    The views come from mmcv's ``TestTimeAug``, see :func:`flip_tta_pipeline`: original and
    horizontally flipped images, of one size or several. The samples need the meta keys 'flip' and
    'flip_direction', and, for keypoints, 'flip_indices'.

    Args:
        module (dict | nn.Module): The ``MultitaskRCNN``. Its box coder must be mmdet's
            ``DeltaXYWHBBoxCoder``.
        data_preprocessor (dict, optional): As in MMEngine.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(self.module, CombinedRCNN):
            raise ConfigError(
                'tta_model.module: expected one network, found a CombinedRCNN of two, which has '
                'no test-time augmentation. Test it without --tta.'
            )

    def test_step(self, data: dict[str, list]) -> SampleList:
        """Detect the people of a batch.

        Args:
            data (dict[str, list]): ``inputs`` and ``data_samples``, each a list of views, which
                are lists of B images.

        Returns:
            list[DetDataSample]: The samples of the first view that is not flipped, with
            ``pred_instances`` as in ``MultitaskRoIHead.predict``, in pixels of the original image.

        Raises:
            ConfigError: If a meta key is missing, a flip is not horizontal, or all views are
                flipped.
        """
        required = ['flip', 'flip_direction']
        if self.module.roi_head.with_keypoint:
            required.append('flip_indices')
        views = []
        for inputs, data_samples in zip(data['inputs'], data['data_samples'], strict=True):
            batch = self.module.data_preprocessor(
                {'inputs': inputs, 'data_samples': data_samples}, False
            )
            samples = batch['data_samples']
            meta = samples[0].metainfo
            missing = [key for key in required if key not in meta]
            if missing:
                raise ConfigError(
                    f'tta_pipeline: the samples lack the meta keys {missing}. Add them to '
                    'meta_keys of its last transform, or remove tta_pipeline from the config: '
                    'tools/test.py --tta then derives one from the test pipeline.'
                )
            if meta['flip'] and meta['flip_direction'] != 'horizontal':
                raise ConfigError(
                    "tta_pipeline: expected 'horizontal' flips only, found "
                    f'{meta["flip_direction"]!r}. Set the direction of its RandomFlip.'
                )
            feats = self.module.extract_feat(batch['inputs'])
            proposals = self.module.rpn_head.predict(feats, samples, rescale=False)
            views.append(View(feats, proposals, samples))
        return self.merge_preds(views)

    def merge_preds(self, views: list[View]) -> SampleList:
        """Run the heads on all views and merge their outputs.

        Args:
            views (list[View]): At least one is not flipped. The first of these is the reference,
                whose pixels are those of boxes and keypoints before the final rescaling.

        Returns:
            list[DetDataSample]: See :meth:`test_step`.

        Raises:
            ConfigError: If all views are flipped.
        """
        reference = next((view for view in views if not view.flipped), None)
        if reference is None:
            raise ConfigError(
                'tta_pipeline: expected a view of each image that is not flipped, found flipped '
                'views only. Add a RandomFlip with prob=0.0.'
            )
        head = self.module.roi_head
        proposals = self._merge_proposals(views, reference)
        cls_score, bbox_pred = self._average_bbox(views, reference, proposals)
        results = head.predict_bbox(cls_score, bbox_pred, proposals, reference.metas)
        boxes = [result.bboxes for result in results]
        mask_probs, heatmaps = [], []
        branches: dict[str, list[Tensor]] = {name: [] for name in head.branches}
        for view in views:
            feats = head.extract_instance_feats(view.feats, view.map_boxes(boxes, reference))
            outputs = head.instance_forward(feats)
            flip_indices = view.metas[0]['flip_indices'] if head.with_keypoint else []
            if head.with_mask:  # (R, C, 2P, 2P)
                mask_probs.append(view.unflip(outputs.mask_preds.sigmoid()))
            if head.with_keypoint:  # (R, K, S, S)
                maps = view.unflip(outputs.heatmaps)
                heatmaps.append(maps[:, flip_indices] if view.flipped else maps)
            for name, values in outputs.branches.items():
                flipped = head.branches[name].flip(values, flip_indices)
                branches[name].append(flipped if view.flipped else values)
        averaged = InstanceOutputs(
            # postprocess expects logits
            torch.stack(mask_probs).mean(0).logit() if head.with_mask else None,
            torch.stack(heatmaps).mean(0) if head.with_keypoint else None,
            {name: torch.stack(values).mean(0) for name, values in branches.items()},
        )
        results = head.postprocess(results, averaged, reference.metas, rescale=True)
        return self.module.add_pred_to_datasample(reference.samples, results)

    def _merge_proposals(self, views: list[View], reference: View) -> list[Tensor]:
        """Apply the RPN's NMS to the proposals of all views; return boxes (R_i, 4) per image."""
        cfg = self.module.test_cfg.rpn
        mapped = [
            reference.map_boxes([each.bboxes for each in view.proposals], view) for view in views
        ]
        merged = []
        for i in range(len(reference.samples)):
            boxes = torch.cat([boxes[i] for boxes in mapped])
            scores = torch.cat([view.proposals[i].scores for view in views])
            if len(boxes):
                level = torch.zeros_like(scores)  # one NMS for all
                _, keep = batched_nms(boxes, scores, level, cfg.nms, class_agnostic=True)
                boxes = boxes[keep[: cfg.max_per_img]]  # sorted by score
            merged.append(boxes)
        return merged

    def _average_bbox(
        self, views: list[View], reference: View, boxes: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Average the box head's outputs: logits (R, C + 1) and deltas (R, 4C)."""
        probs, deltas = [], []
        for view in views:
            cls_score, bbox_pred = self.module.roi_head.bbox_forward(
                view.feats, view.map_boxes(boxes, reference)
            )
            probs.append(cls_score.softmax(-1))  # (R, C + 1)
            deltas.append(flip_deltas(bbox_pred) if view.flipped else bbox_pred)
        # The softmax of the logarithm of probabilities returns the probabilities.
        return torch.stack(probs).mean(0).log(), torch.stack(deltas).mean(0)


def map_boxes(boxes: Tensor, source: dict, target: dict) -> Tensor:
    """Map boxes from one view of an image to another one.

    Args:
        boxes (Tensor): Boxes xyxy in pixels of the source, shape (R, 4).
        source (dict): Metainfo of the view: ``img_shape`` (height, width), ``scale_factor`` (x, y)
            and ``flip``.
        target (dict): Metainfo of the other view.

    Returns:
        Tensor: Boxes xyxy in pixels of the target, shape (R, 4).
    """
    original = bbox_mapping_back(
        boxes, source['img_shape'], tuple(source['scale_factor']) * 2, source['flip']
    )
    return bbox_mapping(
        original, target['img_shape'], tuple(target['scale_factor']) * 2, target['flip']
    )


def flip_deltas(deltas: Tensor) -> Tensor:
    """Flip box deltas horizontally.

    Args:
        deltas (Tensor): Shifts and log scales of boxes, shape (R, 4) or (R, 4C).

    Returns:
        Tensor: Deltas in the flipped image, of the same shape.
    """
    # dx changes its sign; dy and the logarithms of the scales do not.
    return (deltas.reshape(-1, 4) * deltas.new_tensor([-1, 1, 1, 1])).view_as(deltas)
