"""Deformable RoI pooling: RoIAlign with learned offsets of its bins.

Shape letters: B images, R RoIs, C channels, P side of the pooled feature, S samples per bin and
axis.
"""

import mmcv.ops
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class DeformRoIPool(nn.Module):
    """RoIAlign with learned offsets of its bins (report section 3.2).

    A convolution of the pooled feature predicts an offset of each bin, and the feature is pooled
    again with the bins moved: deformable RoI pooling (Dai et al. 2017, section 2.2, whose offsets
    come from fully connected layers). The offsets start at 0; the output is then that of RoIAlign.

    On CUDA this is mmcv's ``deform_roi_pool``. mmcv has no CPU kernel; there ``grid_sample`` gives
    the same values.

    Args:
        output_size (int): P.
        in_channels (int): C.
        spatial_scale (float): Feature pixels per image pixel. Defaults to 1.0.
        sampling_ratio (int): S, positive. Defaults to 2.
        gamma (float): An offset of 1 moves a bin by this fraction of the RoI's width or height.
            Defaults to 0.1.

    Raises:
        ValueError: If ``sampling_ratio`` is not positive.
    """

    def __init__(
        self,
        output_size: int,
        in_channels: int,
        spatial_scale: float = 1.0,
        sampling_ratio: int = 2,
        gamma: float = 0.1,
    ) -> None:
        """Build the pooling with zero offsets."""
        super().__init__()
        if sampling_ratio <= 0:
            raise ValueError(
                f'sampling_ratio: expected a positive number, found {sampling_ratio}; '
                "for an adaptive number use mmcv's RoIAlign"
            )
        self.output_size = (output_size, output_size)
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.gamma = gamma
        self.conv_offset = nn.Conv2d(in_channels, 2, 3, padding=1)
        nn.init.zeros_(self.conv_offset.weight)
        if self.conv_offset.bias is not None:
            nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        """Pool the features of RoIs.

        Args:
            x (Tensor): Features, shape (B, C, H, W).
            rois (Tensor): Image index and box xyxy in image pixels, shape (R, 5).

        Returns:
            Tensor: Shape (R, C, P, P).
        """
        pool = deform_roi_pool_by_grid_sample if x.is_cpu else deform_roi_pool_by_mmcv
        settings = (self.output_size[0], self.spatial_scale, self.sampling_ratio, self.gamma)
        offsets = self.conv_offset(pool(x, rois, None, *settings))
        return pool(x, rois, offsets, *settings)


def deform_roi_pool_by_mmcv(
    x: Tensor,
    rois: Tensor,
    offsets: Tensor | None,
    output_size: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float = 0.1,
) -> Tensor:
    """Pool the features of RoIs with moved bins by mmcv's operator (CUDA only).

    Args:
        x (Tensor): Features, shape (B, C, H, W).
        rois (Tensor): Image index and box xyxy in image pixels, shape (R, 5).
        offsets (Tensor, optional): Offset of each bin, x before y, in fractions ``gamma`` of the
            RoI's width and height, shape (R, 2, P, P). None for no offsets.
        output_size (int): P.
        spatial_scale (float): Feature pixels per image pixel.
        sampling_ratio (int): S.
        gamma (float): See ``offsets``. Defaults to 0.1.

    Returns:
        Tensor: Shape (R, C, P, P).
    """
    size = (output_size, output_size)
    pooled: Tensor = mmcv.ops.deform_roi_pool(
        x, rois, offsets, size, spatial_scale, sampling_ratio, gamma
    )
    return pooled


def deform_roi_pool_by_grid_sample(
    x: Tensor,
    rois: Tensor,
    offsets: Tensor | None,
    output_size: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float = 0.1,
) -> Tensor:
    """Compute :func:`deform_roi_pool_by_mmcv` by bilinear sampling, on any device.

    Values and gradients are the same, with one exception: samples beyond the center of the
    outermost pixels read the border pixel, and their offsets get no gradient here.
    """
    height, width = x.shape[-2:]
    side = output_size * sampling_ratio  # samples along one axis
    corner, extent = rois[:, 1:3], rois[:, 3:5] - rois[:, 1:3]
    steps = (torch.arange(side).to(rois) + 0.5) / side
    # (R, 2, side): positions along each axis in feature pixels
    positions = spatial_scale * (corner[..., None] + extent[..., None] * steps)
    columns = positions[:, 0, None, :].expand(-1, side, -1)
    rows = positions[:, 1, :, None].expand(-1, -1, side)  # (R, side, side)
    if offsets is not None:
        # All samples of a bin move together.
        bins = torch.arange(side, device=x.device) // sampling_ratio
        moves = offsets[:, :, bins][..., bins]  # (R, 2, side, side)
        moves = (gamma * spatial_scale * extent)[:, :, None, None] * moves
        columns, rows = columns + moves[:, 0], rows + moves[:, 1]
    # RoIAlign's border rule: samples more than half a pixel outside the map count as 0.
    inside = (columns >= -0.5) & (columns <= width + 0.5) & (rows >= -0.5) & (rows <= height + 0.5)
    # grid_sample normalizes positions so that the map's borders are at -1 and 1.
    grid = torch.stack([2 * columns / width - 1, 2 * rows / height - 1], -1)  # (R, side, side, 2)
    if len(x) == 1:
        samples = _sample_image(x[0], grid)
    else:
        samples = x.new_zeros(len(grid), x.shape[1], side, side)
        for i, feature in enumerate(x):
            index = (rois[:, 0] == i).nonzero().flatten()
            samples = samples.index_copy(0, index, _sample_image(feature, grid[index]))
    # The mean over the S x S samples of each bin: (R, C, P, P)
    return F.avg_pool2d(samples * inside[:, None].to(columns), sampling_ratio)


def _sample_image(feature: Tensor, grid: Tensor) -> Tensor:
    """Sample a feature (C, H, W) at normalized positions (R, side, side, 2).

    Returns:
        Tensor: Shape (R, C, side, side).
    """
    # All RoIs form one tall grid: (1, C, R side, side).
    samples = F.grid_sample(
        feature[None], grid.flatten(0, 1)[None], padding_mode='border', align_corners=False
    )
    side = grid.shape[1]
    return samples.reshape(len(feature), -1, side, side).transpose(0, 1)
