"""Keypoints in image pixels to Gaussian heatmaps on RoIs, and back.

The half-pixel rule, used everywhere in this project: coordinates are continuous. Image pixel (or
heatmap cell) ``i`` covers the interval [i, i + 1) and its center is at ``i + 0.5``. A RoI of width
w is divided into S cells of w / S image pixels, so a keypoint at x lies at

    u = (x - x1) * S / w - 0.5

counted in cell indices, and the cell index u lies at the image coordinate
x1 + (u + 0.5) * w / S.

Shape letters: R RoIs, K keypoints, S heatmap side.
"""

import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor

from multitask_refine.utils.errors import ConfigError

_EPS = 1e-12


@TASK_UTILS.register_module()
class RoIHeatmapCodec:
    """Gaussian heatmaps on the S x S grid of each RoI.

    Encoding follows the report (section 3.3): a Gaussian of height 1 centered on the keypoint, and
    a map of zeros for a keypoint that is not visible or lies outside the RoI. Decoding takes the
    cell with the maximum and refines it by the vertex of the parabola through the logarithm of the
    cell and its two neighbors on each axis. The logarithm of a Gaussian is a parabola, so an
    encoded keypoint is decoded exactly, also between cells and at the border.

    Args:
        heatmap_size (int): S. At least 3.
        sigma (float): Standard deviation in heatmap cells. Defaults to 1.0.

    Raises:
        ConfigError: If ``heatmap_size`` or ``sigma`` is out of range.
    """

    def __init__(self, heatmap_size: int, sigma: float = 1.0) -> None:
        """Check and store the settings."""
        if heatmap_size < 3:
            raise ConfigError(
                'heatmap_size: expected at least 3, because the maximum needs two neighbors, '
                f'found {heatmap_size}'
            )
        if sigma <= 0:
            raise ConfigError(f'sigma: expected a positive number, found {sigma}')
        self.heatmap_size = heatmap_size
        self.sigma = sigma

    def encode(self, keypoints: Tensor, keypoints_visible: Tensor, rois: Tensor) -> Tensor:
        """Generate the target heatmaps.

        Args:
            keypoints (Tensor): x, y in image pixels, shape (R, K, 2).
            keypoints_visible (Tensor): Whether a keypoint gets a Gaussian, bool (R, K).
            rois (Tensor): Boxes xyxy in image pixels, shape (R, 4).

        Returns:
            Tensor: Heatmaps, shape (R, K, S, S).
        """
        origin, cell_size = self._get_grid(rois)
        uv = (keypoints - origin) / cell_size - 0.5  # (R, K, 2)
        inside = ((uv >= -0.5) & (uv < self.heatmap_size - 0.5)).all(-1)  # (R, K)
        cells = torch.arange(self.heatmap_size, dtype=uv.dtype, device=uv.device)
        # (R, K, 2, S): the Gaussian is the product of one factor for each axis.
        factors = torch.exp(-((cells - uv[..., None]) ** 2) / (2 * self.sigma**2))
        # (R, K, S, 1) * (R, K, 1, S)
        heatmaps = factors[:, :, 1, :, None] * factors[:, :, 0, None, :]
        return heatmaps * (keypoints_visible & inside)[..., None, None]

    def decode(self, heatmaps: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
        """Find the keypoints in predicted heatmaps.

        Args:
            heatmaps (Tensor): Probabilities, shape (R, K, S, S).
            rois (Tensor): Boxes xyxy in image pixels, shape (R, 4).

        Returns:
            tuple[Tensor, Tensor]: Keypoints in image pixels, shape (R, K, 2), and their scores,
            the maxima of the heatmaps, shape (R, K).
        """
        row_maxima, columns = heatmaps.max(-1)  # (R, K, S)
        scores, peak_y = row_maxima.max(-1)  # (R, K)
        # (R, K): the column of the maximum in the row that holds the map's maximum
        peak_x = columns.gather(-1, peak_y[..., None])[..., 0]
        logs = heatmaps.clamp(min=_EPS).log()
        # (R, K, S) through the maximum, along x and, transposed, along y
        u = self.refine_subpixel(_take_rows(logs, peak_y), peak_x)
        v = self.refine_subpixel(_take_rows(logs.transpose(2, 3), peak_x), peak_y)
        origin, cell_size = self._get_grid(rois)
        return origin + (torch.stack([u, v], -1) + 0.5) * cell_size, scores

    def to_probabilities(self, heatmaps: Tensor) -> Tensor:
        """Return predicted heatmaps (R, K, S, S) as probabilities, which they are."""
        return heatmaps

    def refine_subpixel(self, log_heatmaps: Tensor, peak: Tensor) -> Tensor:
        """Return the vertex of the parabola through three cells around the maximum.

        Args:
            log_heatmaps (Tensor): Logarithm of the heatmaps along one axis, shape (R, K, S).
            peak (Tensor): Index of the maximum, shape (R, K).

        Returns:
            Tensor: Position in cell indices, at most half a cell from the maximum, shape (R, K).
        """
        # At the border the parabola goes through the three outermost cells.
        center = peak.clamp(1, self.heatmap_size - 2)
        stencil = center[..., None] + torch.arange(-1, 2, device=peak.device)  # (R, K, 3)
        left, middle, right = log_heatmaps.gather(-1, stencil).unbind(-1)
        curvature = left - 2 * middle + right
        shift = 0.5 * (left - right) / curvature.clamp(max=-_EPS)  # the parabola's derivative is 0
        # A flat maximum has no vertex: stay on the cell.
        vertex = torch.where(curvature < 0, center + shift, peak.to(log_heatmaps))
        return vertex.clamp(peak - 0.5, peak + 0.5)

    def _get_grid(self, rois: Tensor) -> tuple[Tensor, Tensor]:
        """Return the top left corner and the cell size in image pixels, each (R, 1, 2)."""
        origin = rois[:, None, :2]
        extent = (rois[:, None, 2:] - origin).clamp(min=_EPS)
        return origin, extent / self.heatmap_size


def _take_rows(maps: Tensor, index: Tensor) -> Tensor:
    """Take one row, (R, K, S), of each map (R, K, S, S) by its index (R, K)."""
    index = index[..., None, None].expand(-1, -1, 1, maps.shape[-1])  # (R, K, 1, S)
    return maps.gather(2, index)[:, :, 0]
