"""The two ends of the data pipeline; between them mmdet's own transforms, and
torchvision's way to resize."""

from typing import Tuple

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, Resize
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes

from multitask_refine.structures import KeypointBoxes


@TRANSFORMS.register_module()
class LoadMultitaskAnnotations(LoadAnnotations):
    """Load boxes, labels, masks (polygons and RLE) and joints.

    The joints travel inside ``gt_bboxes``, a
    :class:`~multitask_refine.structures.KeypointBoxes`, so every mmdet
    transform after this one moves them together with boxes and masks. An
    instance without a mask gets an empty one, and ``gt_bboxes.has_mask``
    says so.

    Args:
        with_mask (bool): Load the masks. Without, no instance has one.
            Defaults to True.

    The other arguments are those of mmdet's ``LoadAnnotations``.
    """

    def __init__(self, with_mask: bool = True, **kwargs) -> None:
        super().__init__(with_mask=with_mask, **kwargs)

    def transform(self, results: dict) -> dict:
        results = super().transform(results)
        flip_indices = results['flip_indices']
        joints = [ins['keypoints'] for ins in results['instances']]
        joints = torch.from_numpy(
            np.array(joints, dtype=np.float32).reshape(-1, len(flip_indices), 3)
        )
        has_mask = [self.with_mask and 'mask' in ins for ins in results['instances']]
        results['gt_bboxes'] = KeypointBoxes(
            results['gt_bboxes'].tensor,
            joints[..., :2],
            joints[..., 2],
            flip_indices,
            torch.tensor(has_mask, dtype=torch.bool),
        )
        return results

    def _process_masks(self, results: dict) -> list:
        """Collect the masks; an instance without one gets mmdet's empty
        polygon, but unlike there it is not ignored."""
        labelled = [ins for ins in results['instances'] if 'mask' in ins]
        masks = iter(super()._process_masks(dict(instances=labelled)))
        results['gt_ignore_flags'] = np.array(
            [ins['ignore_flag'] for ins in results['instances']], dtype=bool
        )
        return [next(masks) if 'mask' in ins else [np.zeros(6)] for ins in results['instances']]


@TRANSFORMS.register_module()
class PackMultitaskInputs(PackDetInputs):
    """Pack the image and its annotations for the network.

    ``gt_instances`` get ``bboxes`` (N, 4), ``labels`` (N), ``masks``,
    ``has_mask`` (N), bool, ``keypoints`` (N, K, 2) in image pixels and
    ``keypoints_visible`` (N, K), -1 where the category of an instance has no
    such keypoint; crowds go to ``ignored_instances``.
    """

    mapping_table = {
        **PackDetInputs.mapping_table,
        'gt_keypoints': 'keypoints',
        'gt_keypoints_visible': 'keypoints_visible',
        'gt_has_mask': 'has_mask',
    }

    def transform(self, results: dict) -> dict:
        boxes = results.get('gt_bboxes')
        if boxes is not None:
            results = dict(
                results,
                gt_bboxes=HorizontalBoxes(boxes.tensor),
                gt_keypoints=boxes.keypoints.numpy(),
                gt_keypoints_visible=boxes.keypoints_visible.numpy(),
                gt_has_mask=boxes.has_mask.numpy(),
            )
        packed = super().transform(results)
        if results.get('replaced_images'):
            packed['data_samples'].set_metainfo(dict(replaced_images=results['replaced_images']))
        return packed


@TRANSFORMS.register_module()
class FloatResize(Resize):
    """Resize as torchvision's detection models do.

    The image becomes float32 before the bilinear resize, so no value is
    rounded, and its new height and width are rounded down.

    Args:
        scale (tuple[int]): The most that the image's longer and shorter side
            may become, in pixels; the aspect ratio is kept.
    """

    def __init__(self, scale: Tuple[int, int]) -> None:
        super().__init__(scale)

    def _resize_img(self, results: dict) -> None:
        height, width = results['img'].shape[:2]
        longest, shortest = max(results['scale']), min(results['scale'])
        ratio = min(shortest / min(height, width), longest / max(height, width))
        size = int(width * ratio), int(height * ratio)
        # Pillow's BGR is RGB read backwards, which torch does not take.
        image = torch.from_numpy(results['img'].astype(np.float32, order='C'))
        resized = F.interpolate(
            image.permute(2, 0, 1)[None], size[::-1], mode='bilinear', align_corners=False
        )
        results['img'] = resized[0].permute(1, 2, 0).contiguous().numpy()
        results['img_shape'] = size[::-1]
        results['scale_factor'] = (size[0] / width, size[1] / height)
        results['keep_ratio'] = self.keep_ratio
