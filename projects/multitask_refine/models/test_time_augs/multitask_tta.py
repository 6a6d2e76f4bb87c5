"""Test-time augmentation: an image and its mirror image, seen together.

Coordinates are continuous, so x in an image of width W is W - x in its
mirror image, and what lies on a RoI's cells is turned around exactly.

Shape letters: B images, R RoIs, K keypoints, S heatmap side.
"""

import copy
from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

import torch
from mmcv.ops import batched_nms
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from mmengine.model import BaseTTAModel
from torch import Tensor

from multitask_refine.utils.errors import ConfigError


def flip_tta_pipeline(pipeline: Sequence[dict]) -> List[dict]:
    """Make a test pipeline that gives each image and its mirror image.

    Args:
        pipeline (Sequence[dict]): Configs of the transforms of a test
            pipeline. The last one packs and has ``meta_keys``.

    Returns:
        list[dict]: The same transforms, the last one done for both images.
    """
    *steps, pack = copy.deepcopy(list(pipeline))
    pack['meta_keys'] = (*pack['meta_keys'], 'flip', 'flip_direction', 'flip_indices')
    flips = [dict(type='RandomFlip', prob=share) for share in (0.0, 1.0)]
    return [*steps, dict(type='TestTimeAug', transforms=[flips, [pack]])]


@dataclass
class View:
    """What the network's first stage makes of one augmentation of a batch.

    Args:
        feats (tuple[Tensor]): Feature maps of all levels.
        proposals (list[InstanceData]): Each image's ``bboxes`` and
            ``scores``, in pixels of this view.
        samples (list[DetDataSample]): What the pipeline says of each image.
    """

    feats: Tuple[Tensor, ...]
    proposals: InstanceList
    samples: SampleList

    @property
    def metas(self) -> List[dict]:
        """list[dict]: Size, scale and mirroring of each image."""
        return [sample.metainfo for sample in self.samples]

    @property
    def mirrored(self) -> bool:
        """bool: Whether this view shows the mirror images."""
        return self.metas[0]['flip']

    def place(self, boxes: List[Tensor], source: 'View') -> List[Tensor]:
        """Find in this view the boxes (R_i, 4) of each image of another."""
        return [move_boxes(*image) for image in zip(boxes, source.metas, self.metas)]

    def unflip(self, maps: Tensor) -> Tensor:
        """Turn maps on RoIs, (R, ..., S, S), into those of the image."""
        return maps.flip(-1) if self.mirrored else maps


@MODELS.register_module()
class MultitaskTTAModel(BaseTTAModel):
    """Average a network's outputs over the views of each image.

    The proposals of all views are merged by the RPN's NMS. Then each head
    looks at the same RoIs in every view, and the outputs are averaged on the
    RoI: the box head's probabilities and deltas, the probabilities of the
    masks, and the keypoint head's refined heatmaps, those of a mirror image
    turned around and with left and right joints swapped. What follows is the
    network's own: one NMS of the boxes, pasting, decoding.

    The views come from mmcv's ``TestTimeAug``, see
    :func:`flip_tta_pipeline`: as they are and mirrored from left to right,
    of one size or several. The samples need the meta keys
    'flip' and 'flip_direction', and, for joints, 'flip_indices'.

    Args:
        module (dict | nn.Module): The ``MultitaskRCNN``. Its box coder
            must be mmdet's ``DeltaXYWHBBoxCoder``.
        data_preprocessor (dict, optional): As in MMEngine.
    """

    def test_step(self, data: Dict[str, list]) -> SampleList:
        """Find the people of a batch.

        Args:
            data (dict[str, list]): ``inputs`` and ``data_samples``, each a
                list of views, which are lists of B images.

        Returns:
            list[DetDataSample]: The samples of the first view that is not
            mirrored, with ``pred_instances`` as in
            ``MultitaskRoIHead.predict``, in pixels of the original image.

        Raises:
            ConfigError: If the samples do not say how they were mirrored, or
                if all views are mirrored.
        """
        return self.merge_preds(
            [self._look(dict(zip(data, view))) for view in zip(*data.values())]
        )

    def _look(self, batch: dict) -> View:
        batch = self.module.data_preprocessor(batch, False)
        samples = batch['data_samples']
        _check_meta(samples[0].metainfo, self.module.roi_head.with_keypoint)
        feats = self.module.extract_feat(batch['inputs'])
        proposals = self.module.rpn_head.predict(feats, samples, rescale=False)
        return View(feats, proposals, samples)

    def merge_preds(self, views: List[View]) -> SampleList:
        """Let the heads look at all views.

        Args:
            views (list[View]): At least one is not mirrored; its frame is
                that of the boxes until they are found.

        Returns:
            list[DetDataSample]: See :meth:`test_step`.
        """
        upright = [view for view in views if not view.mirrored]
        if not upright:
            raise ConfigError(
                'tta_pipeline: expected a view of each image '
                'that is not mirrored, found mirrored ones only'
            )
        frame, head = upright[0], self.module.roi_head
        proposals = self._merge_proposals(views, frame)
        results = head.predict_bbox(*self._rate(views, frame, proposals), proposals, frame.metas)
        boxes = [result.bboxes for result in results]
        feats = [
            head.extract_instance_feats(view.feats, view.place(boxes, frame)) for view in views
        ]
        masks = self._masks(views, feats) if head.with_mask else None
        joints = self._joints(views, feats, torch.cat(boxes)) if head.with_keypoint else None
        results = head.complete(results, masks, joints, frame.metas, rescale=True)
        return self.module.add_pred_to_datasample(frame.samples, results)

    def _merge_proposals(self, views: List[View], frame: View) -> List[Tensor]:
        """As many boxes (R_i, 4) of each image as the RPN may give."""
        placed = [frame.place([each.bboxes for each in view.proposals], view) for view in views]
        scores = [[each.scores for each in view.proposals] for view in views]
        cfg = self.module.test_cfg.rpn
        return [
            _suppress(torch.cat(boxes), torch.cat(rank), cfg.nms)[: cfg.max_per_img]
            for boxes, rank in zip(zip(*placed), zip(*scores))
        ]

    def _rate(self, views: List[View], frame: View, boxes: List[Tensor]) -> Tuple[Tensor, Tensor]:
        """Class logits (R, C + 1) and deltas (R, 4 C) in the frame's
        direction."""
        logits, deltas = zip(
            *[
                self.module.roi_head.bbox_forward(view.feats, view.place(boxes, frame))
                for view in views
            ]
        )
        # A softmax over the logarithm of probabilities gives them back.
        probability = _mean([each.softmax(-1) for each in logits])
        return probability.log(), _mean(
            [mirror_deltas(each) if view.mirrored else each for view, each in zip(views, deltas)]
        )

    def _masks(self, views: List[View], feats: List[Tensor]) -> Tensor:
        """Mask logits of all people, as the mask head gives them."""
        return _mean(
            [
                view.unflip(self.module.roi_head.mask_head(each).sigmoid())
                for view, each in zip(views, feats)
            ]
        ).logit()

    def _joints(
        self, views: List[View], feats: List[Tensor], rois: Tensor
    ) -> Tuple[Tensor, Tensor]:
        """Joints in pixels of the frame, (R, K, 2), and scores, (R, K)."""
        head = self.module.roi_head.keypoint_head
        if not len(rois):
            return head.predict(feats[0], rois)
        heatmaps = []
        for view, each in zip(views, feats):
            maps = view.unflip(head.refined_heatmaps(each))
            if view.mirrored:
                maps = maps[:, view.metas[0]['flip_indices']]
            heatmaps.append(maps)
        return head.codec.decode(_mean(heatmaps), rois)


def move_boxes(boxes: Tensor, source: dict, target: dict) -> Tensor:
    """Find boxes of one view of an image in another view of it.

    Args:
        boxes (Tensor): xyxy in pixels of the first, (R, 4).
        source, target (dict): The views' ``img_shape`` (height, width),
            ``scale_factor`` (x, y) and ``flip``.

    Returns:
        Tensor: xyxy in pixels of the second, (R, 4).
    """
    scale = boxes.new_tensor(target['scale_factor']) / boxes.new_tensor(source['scale_factor'])
    if source['flip']:
        boxes = mirror_boxes(boxes, source['img_shape'][1])
    boxes = boxes * scale.repeat(2)
    if target['flip']:
        boxes = mirror_boxes(boxes, target['img_shape'][1])
    return boxes


def mirror_boxes(boxes: Tensor, width: float) -> Tensor:
    """Boxes xyxy (R, 4) in the mirror image of an image of this width."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([width - x2, y1, width - x1, y2], -1)


def mirror_deltas(deltas: Tensor) -> Tensor:
    """Mirror box deltas from left to right.

    Args:
        deltas (Tensor): Shift and growth of boxes, (R, 4) or, one box for
            each of C classes, (R, 4 C).

    Returns:
        Tensor: Those in the mirror image, of the same shape.
    """
    mirrored = deltas.reshape(-1, 4) * deltas.new_tensor([-1, 1, 1, 1])
    return mirrored.view_as(deltas)


def _suppress(boxes: Tensor, scores: Tensor, nms: dict) -> Tensor:
    """The boxes (R, 4) that are left after NMS, best first."""
    if not len(boxes):
        return boxes
    _, keep = batched_nms(boxes, scores, torch.zeros_like(scores), nms, class_agnostic=True)
    return boxes[keep]


def _mean(outputs: List[Tensor]) -> Tensor:
    return torch.stack(outputs).mean(0)


def _check_meta(meta: dict, with_keypoint: bool) -> None:
    needed = ['flip', 'flip_direction'] + ['flip_indices'] * with_keypoint
    missing = [key for key in needed if key not in meta]
    if missing:
        raise ConfigError(
            f'test-time augmentation: the samples lack {missing}. Add them to '
            'meta_keys of the last transform of tta_pipeline; without a '
            'tta_pipeline in the config tools/test.py --tta does so.'
        )
    if meta['flip'] and meta['flip_direction'] != 'horizontal':
        raise ConfigError(
            f"tta_pipeline: expected 'horizontal' flips only, found {meta['flip_direction']!r}"
        )
