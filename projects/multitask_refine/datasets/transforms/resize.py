"""Resize of torchvision's detection models."""

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.datasets.transforms import Resize
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class FloatResize(Resize):
    """Resize as torchvision's detection models do.

    The image is converted to float32 before the bilinear resize, so that no value is rounded, and
    its new height and width are rounded down. Masks have the same size.

    Args:
        scale (tuple[int, int]): Maximum of the longer and of the shorter side in pixels; the
            aspect ratio is kept.
    """

    def __init__(self, scale: tuple[int, int]) -> None:
        super().__init__(scale)

    def _resize_img(self, results: dict) -> None:
        height, width = results['img'].shape[:2]
        longest, shortest = max(results['scale']), min(results['scale'])
        ratio = min(shortest / min(height, width), longest / max(height, width))
        size = int(width * ratio), int(height * ratio)  # mmcv rounds to the nearest instead
        # Pillow's BGR image is a view with a negative stride, which torch does not accept.
        image = torch.from_numpy(results['img'].astype(np.float32, order='C'))
        # (H, W, 3) to (1, 3, H, W)
        resized = F.interpolate(
            image.permute(2, 0, 1)[None], size[::-1], mode='bilinear', align_corners=False
        )
        results['img'] = resized[0].permute(1, 2, 0).contiguous().numpy()  # (H, W, 3)
        results['img_shape'] = size[::-1]
        results['scale_factor'] = (size[0] / width, size[1] / height)
        results['keep_ratio'] = self.keep_ratio

    def _resize_masks(self, results: dict) -> None:
        if results.get('gt_masks') is not None:
            results['gt_masks'] = results['gt_masks'].resize(results['img_shape'])
