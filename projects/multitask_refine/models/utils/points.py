"""Points in the image and in the network's input."""

from collections.abc import Sequence

import torch
from torch import Tensor


def divide_points(points: Tensor, scale_factor: Sequence[float]) -> Tensor:
    """Convert points from pixels of the network's input to pixels of the original image.

    Args:
        points (Tensor): x, y, shape (..., 2).
        scale_factor (Sequence[float]): Factors x, y of the resize. They are numbers, not a tensor,
            which would be copied to the device.

    Returns:
        Tensor: The points divided by the factors, of the same shape.
    """
    pairs = zip(points.unbind(-1), scale_factor, strict=True)
    return torch.stack([coordinate / factor for coordinate, factor in pairs], -1)
