"""Joints in the image to heatmaps on RoIs, and back.

The half-pixel rule, used by everything in this project: coordinates are
continuous. Image pixel (or heatmap cell) ``i`` covers the interval
[i, i + 1) and its centre is at ``i + 0.5``. A RoI of width w is divided into
S cells of w / S image pixels, so a joint at x lies at

    u = (x - x1) * S / w - 0.5

counted in cell indices, and the cell index u lies at the image coordinate
x1 + (u + 0.5) * w / S.

Shape letters: R RoIs, K keypoints, S heatmap side.
"""

from typing import Tuple

import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor

from multitask_refine.utils.errors import ConfigError

_EPS = 1e-12


@TASK_UTILS.register_module()
class RoIHeatmapCodec:
    """Gaussian heatmaps on the S x S grid of each RoI.

    Encoding follows the report (section 3.3): a Gaussian of height 1 centred
    on the joint, and an all-zero map for a joint that is not to be shown or
    lies outside the RoI. Decoding takes the highest cell and the vertex of
    the parabola through the logarithm of it and its two neighbours on each
    axis. The logarithm of a Gaussian is a parabola, so an encoded joint
    comes back exactly, also between cells and at the border.

    Args:
        heatmap_size (int): S. At least 3.
        sigma (float): Standard deviation in heatmap pixels. Defaults to 1.0.

    Raises:
        ConfigError: If ``heatmap_size`` or ``sigma`` is out of range.
    """

    def __init__(self, heatmap_size: int, sigma: float = 1.0) -> None:
        if heatmap_size < 3:
            raise ConfigError(
                'heatmap_size must be at least 3, because a '
                f'peak has neighbours, but is {heatmap_size}'
            )
        if sigma <= 0:
            raise ConfigError(f'sigma must be positive, but is {sigma}')
        self.heatmap_size = heatmap_size
        self.sigma = sigma

    def encode(self, keypoints: Tensor, shown: Tensor, rois: Tensor) -> Tensor:
        """Draw the target heatmaps.

        Args:
            keypoints (Tensor): Joints in image pixels, shape (R, K, 2).
            shown (Tensor): Whether a joint gets a Gaussian, bool (R, K).
            rois (Tensor): Boxes xyxy in image pixels, shape (R, 4).

        Returns:
            Tensor: Heatmaps H, shape (R, K, S, S).
        """
        uv = self._to_heatmap(keypoints, rois)
        inside = ((uv >= -0.5) & (uv < self.heatmap_size - 0.5)).all(-1)
        cells = torch.arange(self.heatmap_size, dtype=uv.dtype, device=uv.device)
        # (R, K, 2, S): the Gaussian is the product of one factor an axis.
        factors = torch.exp(-((cells - uv[..., None]) ** 2) / (2 * self.sigma**2))
        heatmaps = factors[:, :, 1, :, None] * factors[:, :, 0, None, :]
        return heatmaps * (shown & inside)[..., None, None]

    def decode(self, heatmaps: Tensor, rois: Tensor) -> Tuple[Tensor, Tensor]:
        """Find the joints in predicted heatmaps.

        Args:
            heatmaps (Tensor): Probabilities, shape (R, K, S, S).
            rois (Tensor): Boxes xyxy in image pixels, shape (R, 4).

        Returns:
            tuple: Joints in image pixels, shape (R, K, 2), and their scores,
            shape (R, K): the heights of the highest cells.
        """
        rows, columns = heatmaps.max(-1)
        scores, peak_y = rows.max(-1)
        peak_x = columns.gather(-1, peak_y[..., None])[..., 0]
        logs = heatmaps.clamp(min=_EPS).log()
        u = self.refine_subpixel(_take_rows(logs, peak_y), peak_x)
        v = self.refine_subpixel(_take_rows(logs.transpose(2, 3), peak_x), peak_y)
        return self._to_image(torch.stack([u, v], -1), rois), scores

    def refine_subpixel(self, logs: Tensor, peak: Tensor) -> Tensor:
        """Vertex of the parabola through three cells around the peak.

        Args:
            logs (Tensor): Log-heatmap along one axis, shape (R, K, S).
            peak (Tensor): Index of the highest cell, shape (R, K).

        Returns:
            Tensor: Position in cell indices, at most half a cell from the
            peak, shape (R, K).
        """
        centre = peak.clamp(1, self.heatmap_size - 2)
        stencil = centre[..., None] + torch.arange(-1, 2, device=peak.device)
        left, middle, right = logs.gather(-1, stencil).unbind(-1)
        curvature = left - 2 * middle + right
        shift = 0.5 * (left - right) / curvature.clamp(max=-_EPS)
        # A flat top has no vertex of its own: stay on the cell.
        vertex = torch.where(curvature < 0, centre + shift, peak.to(logs))
        return vertex.clamp(peak - 0.5, peak + 0.5)

    def _to_heatmap(self, points: Tensor, rois: Tensor) -> Tensor:
        origin, cell = self._grid(rois)
        return (points - origin) / cell - 0.5

    def _to_image(self, uv: Tensor, rois: Tensor) -> Tensor:
        origin, cell = self._grid(rois)
        return origin + (uv + 0.5) * cell

    def _grid(self, rois: Tensor) -> Tuple[Tensor, Tensor]:
        """Top left corner and cell size in image pixels, each (R, 1, 2)."""
        origin = rois[:, None, :2]
        extent = (rois[:, None, 2:] - origin).clamp(min=_EPS)
        return origin, extent / self.heatmap_size


def _take_rows(maps: Tensor, index: Tensor) -> Tensor:
    """One row, (R, K, S), of each map (R, K, S, S) by its index (R, K)."""
    index = index[..., None, None].expand(-1, -1, 1, maps.shape[-1])
    return maps.gather(2, index)[:, :, 0]
