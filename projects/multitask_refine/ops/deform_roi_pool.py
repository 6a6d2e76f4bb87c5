"""RoIAlign that learns where to look.

Shape letters: B images, R RoIs, C channels, P side of the pooled feature, s
samples a bin and axis.
"""

from typing import Optional, Tuple

import mmcv.ops
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class DeformRoIPool(nn.Module):
    """RoIAlign that learns where each bin looks (report section 3.2).

    A convolution on the plainly pooled feature predicts for each bin an
    offset, and the feature is pooled again with the bins moved: deformable
    RoI pooling (Dai et al. 2017, section 2.2, whose offsets come from fully
    connected layers). The offsets start at zero, so the result is then the
    plain RoIAlign.

    On CUDA this is mmcv's ``deform_roi_pool``; on the CPU, where mmcv has no
    kernel, the same values come from ``grid_sample``.

    Args:
        output_size (int): P.
        in_channels (int): C.
        spatial_scale (float): Feature pixels per image pixel.
            Defaults to 1.0.
        sampling_ratio (int): s, above zero. Defaults to 2.
        gamma (float): An offset of 1 moves a bin by this share of the RoI's
            width or height. Defaults to 0.1.
    """

    def __init__(
        self,
        output_size: int,
        in_channels: int,
        spatial_scale: float = 1.0,
        sampling_ratio: int = 2,
        gamma: float = 0.1,
    ) -> None:
        super().__init__()
        _check_sampling_ratio(sampling_ratio)
        self.output_size = (output_size, output_size)
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.gamma = gamma
        self.conv_offset = nn.Conv2d(in_channels, 2, 3, padding=1)
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        """Pool features (B, C, H, W) of RoIs (R, 5), the image's index and
        the box xyxy in image pixels, to (R, C, P, P)."""
        offsets = self.conv_offset(self._pool(x, rois, None))
        return self._pool(x, rois, offsets)

    def _pool(self, x: Tensor, rois: Tensor, offsets: Optional[Tensor]) -> Tensor:
        way = deform_roi_pool_by_mmcv if x.is_cuda else deform_roi_pool_by_grid_sample
        return way(
            x,
            rois,
            offsets,
            self.output_size[0],
            self.spatial_scale,
            self.sampling_ratio,
            self.gamma,
        )


def deform_roi_pool_by_mmcv(
    x: Tensor,
    rois: Tensor,
    offsets: Optional[Tensor],
    size: int,
    scale: float,
    ratio: int,
    gamma: float = 0.1,
) -> Tensor:
    """RoIAlign with moved bins, by mmcv's operator (CUDA only).

    Args:
        x (Tensor): Features, shape (B, C, H, W).
        rois (Tensor): The image's index and the box xyxy in image pixels,
            shape (R, 5).
        offsets (Tensor, optional): How far each bin is moved, x before y, in
            shares ``gamma`` of the RoI's width and height,
            shape (R, 2, P, P). None moves nothing.
        size (int): P.
        scale (float): Feature pixels per image pixel.
        ratio (int): s.
        gamma (float): See ``offsets``. Defaults to 0.1.

    Returns:
        Tensor: Shape (R, C, P, P).
    """
    return mmcv.ops.deform_roi_pool(x, rois, offsets, (size, size), scale, ratio, gamma)


def deform_roi_pool_by_grid_sample(
    x: Tensor,
    rois: Tensor,
    offsets: Optional[Tensor],
    size: int,
    scale: float,
    ratio: int,
    gamma: float = 0.1,
) -> Tensor:
    """:func:`deform_roi_pool_by_mmcv` by bilinear sampling, on any device.

    The values are the same; so are the gradients, except for the offsets of
    samples beyond the middle of the outermost pixels, which are read there:
    theirs is zero here.
    """
    side = size * ratio
    columns, rows = _sample_positions(rois, side, scale)
    columns = columns[:, None, :].expand(-1, side, -1)
    rows = rows[:, :, None].expand(-1, -1, side)
    if offsets is not None:
        bins = torch.arange(side, device=x.device) // ratio
        moves = offsets[:, :, bins][..., bins]
        extent = gamma * scale * (rois[:, 3:5] - rois[:, 1:3])
        moves = extent[:, :, None, None] * moves
        columns, rows = columns + moves[:, 0], rows + moves[:, 1]
    grid, weight = _to_grid(columns, rows, x.shape[-2:])
    return F.avg_pool2d(_sample(x, grid, rois[:, 0]) * weight, ratio)


def _sample(x: Tensor, grid: Tensor, images: Tensor) -> Tensor:
    """Read features (B, C, H, W) at the positions (R, side, side, 2) of RoIs
    in the images (R): (R, C, side, side)."""
    if len(x) == 1:
        return _sample_image(x[0], grid)
    samples = x.new_zeros(len(grid), x.shape[1], *grid.shape[1:3])
    for i, feature in enumerate(x):
        chosen = (images == i).nonzero().flatten()
        samples = samples.index_copy(0, chosen, _sample_image(feature, grid[chosen]))
    return samples


def _sample_image(feature: Tensor, grid: Tensor) -> Tensor:
    """:func:`_sample` for one image's feature (C, H, W)."""
    # All its RoIs are one tall grid.
    samples = F.grid_sample(
        feature[None], grid.flatten(0, 1)[None], padding_mode='border', align_corners=False
    )
    side = grid.shape[1]
    return samples.reshape(len(feature), -1, side, side).transpose(0, 1)


def _sample_positions(rois: Tensor, side: int, scale: float) -> Tuple[Tensor, Tensor]:
    """Columns and rows of the samples in feature pixels, each (R, side)."""
    steps = (torch.arange(side).to(rois) + 0.5) / side
    corner, extent = rois[:, 1:3], rois[:, 3:5] - rois[:, 1:3]
    positions = scale * (corner[..., None] + extent[..., None] * steps)
    return positions[:, 0], positions[:, 1]


def _to_grid(columns: Tensor, rows: Tensor, size: Tuple[int, int]) -> Tuple[Tensor, Tensor]:
    """What grid_sample and RoIAlign's border rule ask for.

    Args:
        columns, rows (Tensor): Positions in feature pixels,
            shape (R, side, side).
        size (tuple[int]): Height and width of the map.

    Returns:
        tuple: Positions in half map sizes from the middle of the map,
        shape (R, side, side, 2), and 0 for samples more than half a pixel
        outside the map, else 1, shape (R, 1, side, side).
    """
    height, width = size
    near_x = (columns >= -0.5) & (columns <= width + 0.5)
    near_y = (rows >= -0.5) & (rows <= height + 0.5)
    grid = torch.stack([2 * columns / width - 1, 2 * rows / height - 1], -1)
    return grid, (near_x & near_y)[:, None].to(columns)


def _check_sampling_ratio(ratio: int) -> None:
    if ratio <= 0:
        raise ValueError(
            f'sampling_ratio must be positive, but is {ratio}; '
            "for an adaptive number use mmcv's RoIAlign"
        )
