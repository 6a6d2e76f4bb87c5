"""RoIAlign whose CPU path is vectorised.

Shape letters: B images, R RoIs, C channels, P side of the pooled feature, s
samples a bin and axis.
"""
from typing import Tuple

import mmcv.ops
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class SampledRoIAlign(mmcv.ops.RoIAlign):
    """RoIAlign with a fixed number of samples a bin.

    On CUDA this is mmcv's operator. On the CPU, where that walks through
    every value on its own, the same samples are read by ``grid_sample``.
    Arguments as in ``mmcv.ops.RoIAlign`` (average pooling, aligned).

    Raises:
        ValueError: If ``sampling_ratio`` is not positive: an adaptive number
            of samples has no fixed grid; take mmcv's ``RoIAlign``.
    """

    def __init__(self, output_size: int, spatial_scale: float = 1.0,
                 sampling_ratio: int = 1) -> None:
        super().__init__(output_size, spatial_scale, sampling_ratio)
        if sampling_ratio <= 0:
            raise ValueError('sampling_ratio must be positive, but is '
                             f'{sampling_ratio}; for an adaptive number use '
                             "mmcv's RoIAlign")

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        """Pool features (B, C, H, W) of RoIs (R, 5), the image's index and
        the box xyxy in image pixels, to (R, C, P, P)."""
        if x.is_cuda:
            return super().forward(x, rois)
        side = self.output_size[0] * self.sampling_ratio
        columns, rows = _sample_positions(rois, side, self.spatial_scale)
        grid, weight = _to_grid(columns, rows, x.shape[-2:])
        pooled = x.new_zeros(len(rois), x.shape[1], side, side)
        for i, feature in enumerate(x):
            chosen = (rois[:, 0] == i).nonzero().flatten()
            # All RoIs of an image are one tall grid.
            samples = F.grid_sample(
                feature[None],
                grid[chosen].reshape(1, -1, side, 2),
                padding_mode='border',
                align_corners=False)
            samples = samples.reshape(x.shape[1], len(chosen), side, side)
            pooled = pooled.index_copy(0, chosen, samples.transpose(0, 1))
        return F.avg_pool2d(pooled * weight, self.sampling_ratio)


def _sample_positions(rois: Tensor, side: int,
                      scale: float) -> Tuple[Tensor, Tensor]:
    """Columns and rows of the samples in feature pixels, each (R, side)."""
    steps = (torch.arange(side, device=rois.device) + 0.5) / side
    corner, extent = rois[:, 1:3], rois[:, 3:5] - rois[:, 1:3]
    positions = scale * (corner[..., None] + extent[..., None] * steps)
    return positions[:, 0], positions[:, 1]


def _to_grid(columns: Tensor, rows: Tensor,
             size: Tuple[int, int]) -> Tuple[Tensor, Tensor]:
    """What grid_sample and RoIAlign's border rule ask for.

    Returns:
        tuple: Positions in half map sizes from the middle of the map,
        shape (R, side, side, 2), and 0 for samples more than half a pixel
        outside the map, else 1, shape (R, 1, side, side).
    """
    height, width = size
    side = columns.shape[-1]
    x = (2 * columns / width - 1)[:, None, :].expand(-1, side, -1)
    y = (2 * rows / height - 1)[:, :, None].expand(-1, -1, side)
    near_x = (columns >= -0.5) & (columns <= width + 0.5)
    near_y = (rows >= -0.5) & (rows <= height + 0.5)
    near = near_y[:, None, :, None] & near_x[:, None, None, :]
    return torch.stack([x, y], -1), near.to(columns)
