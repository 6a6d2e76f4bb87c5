"""Decoder of the softmax codec with a loop that ONNX can hold.

Shape letters: R RoIs, K keypoints, S heatmap side.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from multitask_refine.codecs import RoISoftmaxCodec


class LoopedSoftmaxCodec(RoISoftmaxCodec):
    """``RoISoftmaxCodec`` that is exported with a loop over the RoIs.

    The resized heatmaps of one RoI at a time are in memory. Arguments as there.
    """

    def get_heatmap_maximum(self, logits: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Find the maximum of each resized heatmap, as :class:`RoISoftmaxCodec`."""
        maxima = heatmap_maxima(F.pad(logits, (2, 2, 2, 2), mode='replicate'), pixels)
        return maxima[..., :2], maxima[..., 2]


@torch.jit.script
def bicubic_matrix(size: Tensor, side: int) -> Tensor:
    """Compute the matrix that resizes a row of S cells with its ends repeated twice.

    Args:
        size (Tensor): Number of pixels, an int64 scalar.
        side (int): S.

    Returns:
        Tensor: Weights, shape (size, S + 4), of the cubic convolution kernel (Keys, 1981)
        with the constant -0.75 of torch and OpenCV.
    """
    pixels = torch.arange(int(size)).float() + 0.5
    position = pixels * (side / size.float()) - 0.5
    d = (position[:, None] - torch.arange(-2, side + 2).float()).abs()
    near = (1.25 * d - 2.25) * d * d + 1
    far = -0.75 * (((d - 5) * d + 8) * d - 4)
    return torch.where(d <= 1, near, torch.where(d < 2, far, 0 * d))


@torch.jit.script
def heatmap_maxima(logits: Tensor, pixels: Tensor) -> Tensor:
    """Resize each heatmap to the pixels of its RoI and find the maximum.

    Args:
        logits (Tensor): Heatmaps with their border repeated twice on each side, shape
            (R, K, S + 4, S + 4).
        pixels (Tensor): Width and height of each RoI, int64, shape (R, 2).

    Returns:
        Tensor: x, y and value of the maximum, shape (R, K, 3).
    """
    side = logits.size(3) - 4
    maxima = logits[:0, :, 0, :3]  # (0, K, 3)
    for i in range(logits.size(0)):
        weight_x = bicubic_matrix(pixels[i, 0], side)
        weight_y = bicubic_matrix(pixels[i, 1], side)
        resized = weight_y.matmul(logits[i]).matmul(weight_x.t())  # (K, height, width)
        values, index = resized.flatten(1).max(1)
        y = torch.div(index, pixels[i, 0], rounding_mode='floor')
        x = index - y * pixels[i, 0]
        maximum = torch.stack([x.float(), y.float(), values], 1)  # (K, 3)
        maxima = torch.cat([maxima, maximum[None]])
    return maxima
