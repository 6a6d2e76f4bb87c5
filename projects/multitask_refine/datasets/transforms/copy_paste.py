"""Copy-paste augmentation for boxes, masks and keypoints."""

import numpy as np
import torch
from mmdet.datasets.transforms import CopyPaste
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks

from multitask_refine.utils.errors import ConfigError


@TRANSFORMS.register_module()
class MultitaskCopyPaste(CopyPaste):
    """Paste instances of another image, as mmdet's ``CopyPaste``, with keypoints.

    Source: Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation Method for Instance
    Segmentation, CVPR 2021.

    An instance that is partly covered gets the box of its remaining mask, and its covered
    keypoints become occluded (visibility 1); without a mask it keeps its box. It is removed if
    ``mask_occluded_thr`` pixels or fewer remain and its box changes, or, without a mask, if all
    of its box is covered. Crowds and instances without a mask are not pasted. The pipeline before
    this transform must give all images the same size.

    Args:
        max_num_pasted (int): Maximal number of pasted instances. Defaults to 100.
        bbox_occluded_thr (int): An instance whose box changes by this many pixels or fewer is
            kept, however small its mask. Defaults to 10.
        mask_occluded_thr (int): An instance with more pixels is kept. Defaults to 300.
        selected (bool): Paste a random selection instead of all instances. Defaults to True.

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
        """Paste instances of ``mix_results`` into the image."""
        (source,) = results['mix_results']
        for each in (results, source):
            if not isinstance(each.get('gt_masks'), BitmapMasks):
                raise ConfigError(
                    'MultitaskCopyPaste: expected bitmap masks, found '
                    f'{type(each.get("gt_masks")).__name__}. Set '
                    'LoadMultitaskAnnotations(with_mask=True).'
                )
        sizes = [each['img'].shape[:2] for each in (results, source)]
        if sizes[0] != sizes[1]:
            raise ConfigError(
                'MultitaskCopyPaste: expected images of one size, found '
                f"{sizes[0]} and {sizes[1]} (height, width). Add dict(type='Pad', size=(WIDTH, "
                'HEIGHT)) after the resize of the inner pipeline.'
            )
        results['replaced_images'] = [
            *results.get('replaced_images', ()),
            *source.get('replaced_images', ()),
        ]
        is_usable = ~source['gt_ignore_flags'] & source['gt_masks'].masks.any(axis=(1, 2))  # (M)
        for key in ('gt_bboxes', 'gt_bboxes_labels', 'gt_masks', 'gt_ignore_flags'):
            source[key] = source[key][np.flatnonzero(is_usable)]
        if self.selected:
            source = self._select_object(source)
        return self._copy_paste(results, source)

    def _copy_paste(self, dst_results: dict, src_results: dict) -> dict:
        pasted = src_results['gt_masks'].masks  # (M, H, W)
        if len(pasted) == 0:
            return dst_results
        covered = pasted.any(axis=0)  # (H, W)
        boxes, masks = dst_results['gt_bboxes'], dst_results['gt_masks'].masks  # (N, H, W)
        remaining = np.where(covered, 0, masks)
        keep = np.ones(len(boxes), dtype=bool)
        for i, (before, after) in enumerate(zip(masks, remaining, strict=True)):
            if not before.any():  # without a mask
                # all that is known of its pixels
                x1, y1, x2, y2 = boxes.tensor[i].round().int().tolist()
                keep[i] = not covered[y1:y2, x1:x2].all()
            elif not after.any():
                keep[i] = False
            elif after.sum() != before.sum():
                ys, xs = np.nonzero(after)
                box = boxes.tensor.new_tensor([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
                shift = (box - boxes.tensor[i]).abs().max()  # of the side that moved most
                keep[i] = shift <= self.bbox_occluded_thr or len(xs) > self.mask_occluded_thr
                boxes.tensor[i] = box

        height, width = covered.shape
        x, y = boxes.keypoints.floor().long().unbind(-1)  # (N, K) each
        # (N, K)
        is_hidden = torch.from_numpy(covered)[y.clamp(0, height - 1), x.clamp(0, width - 1)]
        # not beyond the border, where the clamp read
        is_hidden &= (x >= 0) & (x < width) & (y >= 0) & (y < height)
        boxes.keypoints_visible[is_hidden & (boxes.keypoints_visible == 2)] = 1

        joined = dict(
            img=np.where(covered[..., None], src_results['img'], dst_results['img']),  # (H, W, 3)
            gt_bboxes=boxes.cat([boxes[keep], src_results['gt_bboxes']]),
            gt_masks=BitmapMasks(np.concatenate([remaining[keep], pasted]), *covered.shape),
        )
        for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
            joined[key] = np.concatenate([dst_results[key][keep], src_results[key]])
        return {**dst_results, **joined}
