"""DARK and UDP decoding of heatmaps on RoIs, by MMPose.

Shape letters: R RoIs, K keypoints, S heatmap side.
"""

import numpy as np
import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor

from multitask_refine.utils.errors import ConfigError

from .roi_heatmap import _EPS, RoIHeatmapCodec

# MMPose's functions
_METHODS = dict(dark='refine_keypoints_dark', udp='refine_keypoints_dark_udp')


@TASK_UTILS.register_module()
class DarkRoIHeatmapCodec(RoIHeatmapCodec):
    """Decode by a Taylor expansion of the smoothed log-heatmap at its maximum.

    The targets are those of :class:`RoIHeatmapCodec`. Both methods blur the heatmap and solve for
    the maximum of its second-order expansion in x and y together; they differ in how they estimate
    the second derivatives. MMPose computes them on the CPU. UDP's other part, unbiased
    coordinates, is the half-pixel rule of all codecs here.

    Args:
        heatmap_size (int): As in :class:`RoIHeatmapCodec`.
        sigma (float): As in :class:`RoIHeatmapCodec`.
        method (str): 'dark' (Zhang et al. 2020) or 'udp' (Huang et al. 2020).
        blur_kernel_size (int): Of the blur, in heatmap cells, odd. Defaults to 11, MMPose's size
            for a sigma of 2.

    Raises:
        ConfigError: If ``method`` is unknown or ``blur_kernel_size`` is even or 1.
    """

    def __init__(
        self, heatmap_size: int, sigma: float = 1.0, *, method: str, blur_kernel_size: int = 11
    ) -> None:
        """Check and store the settings."""
        super().__init__(heatmap_size, sigma)
        if method not in _METHODS:
            raise ConfigError(
                f"DarkRoIHeatmapCodec: method: expected 'dark' or 'udp', found {method!r}"
            )
        if blur_kernel_size < 3 or blur_kernel_size % 2 == 0:
            raise ConfigError(
                'DarkRoIHeatmapCodec: blur_kernel_size: expected an odd number from 3, '
                f'found {blur_kernel_size}'
            )
        from mmpose.codecs import utils  # Importing all of MMPose's codecs takes long.

        self.refine = getattr(utils, _METHODS[method])
        self.blur_kernel_size = blur_kernel_size

    def decode(self, heatmaps: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
        """Find the keypoints in predicted heatmaps, see :class:`RoIHeatmapCodec`."""
        scores, index = heatmaps.flatten(2).max(-1)  # (R, K)
        side = self.heatmap_size
        cells = torch.stack([index % side, index // side], -1).cpu().numpy().astype(np.float32)
        # a copy, because MMPose blurs in place, and positive, because it divides by the maximum
        positive = heatmaps.float().clamp(min=_EPS).cpu().numpy()
        for own, maps in zip(cells, positive, strict=True):
            own[:] = self.refine(own[None], maps, self.blur_kernel_size)[0]
        # The expansion of a flat map may lead anywhere.
        uv = torch.from_numpy(cells.clip(-0.5, side - 0.5)).to(heatmaps)
        origin, cell_size = self._get_grid(rois)
        return origin + (uv + 0.5) * cell_size, scores
