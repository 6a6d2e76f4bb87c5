"""Copy-paste augmentation for boxes, masks and keypoints."""

import numpy as np
import torch
from mmdet.datasets.transforms import CopyPaste
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks

from multitask_refine.structures import KeypointBoxes
from multitask_refine.utils.errors import ConfigError


@TRANSFORMS.register_module()
class MultitaskCopyPaste(CopyPaste):
    """Paste instances of another image into this one.

    mmdet's ``CopyPaste`` for instances with keypoints. An instance that a
    pasted one covers in part gets the box of what is left of its mask, and
    its covered keypoints are labelled as occluded (visibility 1); one without
    a mask keeps its box. One that is covered but for ``mask_occluded_thr``
    pixels, or without a mask in all of its box, is removed. Crowds and
    instances without a mask are not pasted. The pipeline before it must give
    all images the same size.

    The arguments are those of mmdet's ``CopyPaste`` without ``paste_by_box``.

    Args:
        max_num_pasted (int): Most instances that are pasted. Defaults to 100.
        bbox_occluded_thr (int): An instance whose box moves by no more than
            so many pixels stays, however small its mask. Defaults to 10.
        mask_occluded_thr (int): See above. Defaults to 300.
        selected (bool): Paste a random selection instead of all. Defaults to
            True.

    Raises:
        ConfigError: If there are no masks or the images differ in size.
    """

    def __init__(
        self,
        max_num_pasted: int = 100,
        bbox_occluded_thr: int = 10,
        mask_occluded_thr: int = 300,
        selected: bool = True,
    ) -> None:
        super().__init__(max_num_pasted, bbox_occluded_thr, mask_occluded_thr, selected)

    def transform(self, results: dict) -> dict:
        (source,) = results['mix_results']
        for each in (results, source):
            if not isinstance(each.get('gt_masks'), BitmapMasks):
                raise ConfigError(
                    'MultitaskCopyPaste: expected masks of pixels, found '
                    f'{type(each.get("gt_masks")).__name__}. Set '
                    'LoadMultitaskAnnotations(with_mask=True).'
                )
        sizes = [each['img'].shape[:2] for each in (results, source)]
        if sizes[0] != sizes[1]:
            raise ConfigError(
                'MultitaskCopyPaste: expected images of one size, found '
                f'{sizes[0]} and {sizes[1]} (height, width). Put '
                "dict(type='Pad', size=(WIDTH, HEIGHT)) behind the resize of "
                'the inner pipeline.'
            )
        results['replaced_images'] = [
            *results.get('replaced_images', ()),
            *source.get('replaced_images', ()),
        ]
        usable = np.flatnonzero(
            ~source['gt_ignore_flags'] & source['gt_masks'].masks.any(axis=(1, 2))
        )
        for key in ('gt_bboxes', 'gt_bboxes_labels', 'gt_masks', 'gt_ignore_flags'):
            source[key] = source[key][usable]
        if self.selected:
            source = self._select_object(source)
        return self._copy_paste(results, source)

    def _copy_paste(self, dst_results: dict, src_results: dict) -> dict:
        pasted = src_results['gt_masks'].masks
        if len(pasted) == 0:
            return dst_results
        cover = pasted.any(axis=0)  # (H, W)
        boxes = dst_results['gt_bboxes']
        masks = dst_results['gt_masks'].masks  # (N, H, W)
        left = np.where(cover, 0, masks)
        keep = np.ones(len(boxes), dtype=bool)
        for i, (before, after) in enumerate(zip(masks, left)):
            if not before.any():  # no mask: only its box is known
                x1, y1, x2, y2 = boxes.tensor[i].round().int().tolist()
                keep[i] = not cover[y1:y2, x1:x2].all()
            elif after.sum() != before.sum():
                keep[i] = after.any() and self._cut_box(boxes, i, after)
        self._cover_keypoints(boxes, cover)
        joined = dict(
            img=np.where(cover[..., None], src_results['img'], dst_results['img']),
            gt_bboxes=boxes.cat([boxes[keep], src_results['gt_bboxes']]),
            gt_masks=BitmapMasks(np.concatenate([left[keep], pasted]), *cover.shape),
        )
        for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
            joined[key] = np.concatenate([dst_results[key][keep], src_results[key]])
        return {**dst_results, **joined}

    def _cut_box(self, boxes: KeypointBoxes, i: int, mask: np.ndarray) -> bool:
        """Fit box i to the mask that is left; return whether it is kept."""
        ys, xs = np.nonzero(mask)
        box = boxes.tensor.new_tensor([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        moved = (box - boxes.tensor[i]).abs().max()
        boxes.tensor[i] = box
        return bool(moved <= self.bbox_occluded_thr or len(xs) > self.mask_occluded_thr)

    @staticmethod
    def _cover_keypoints(boxes: KeypointBoxes, cover: np.ndarray) -> None:
        """Label visible keypoints below the pasted instances as occluded."""
        height, width = cover.shape
        x, y = boxes.keypoints.floor().long().unbind(-1)
        covered = torch.from_numpy(cover)[y.clamp(0, height - 1), x.clamp(0, width - 1)]
        covered &= (x >= 0) & (x < width) & (y >= 0) & (y < height)
        boxes.keypoints_visible[covered & (boxes.keypoints_visible == 2)] = 1
