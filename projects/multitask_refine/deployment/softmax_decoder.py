"""The softmax codec's decoder with a loop that an ONNX file can hold.

Shape letters: R RoIs, K keypoints, S heatmap side.
"""

from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from multitask_refine.codecs import RoISoftmaxCodec


class LoopedSoftmaxCodec(RoISoftmaxCodec):
    """A ``RoISoftmaxCodec`` that is recorded with a loop over the RoIs.

    Resized maps of one RoI at a time are in memory. Arguments as there.
    """

    def get_heatmap_maximum(self, logits: Tensor, pixels: Tensor) -> Tuple[Tensor, Tensor]:
        """As in :class:`RoISoftmaxCodec`."""
        found = peaks_by_loop(F.pad(logits, (2, 2, 2, 2), mode='replicate'), pixels)
        return found[..., :2], found[..., 2]


@torch.jit.script
def bicubic_matrix(size: Tensor, side: int) -> Tensor:
    """What resizes a row of S cells, its ends repeated twice.

    Args:
        size (Tensor): Number of pixels, an int64 scalar.
        side (int): S.

    Returns:
        Tensor: Weights, shape (size, S + 4), of Keys' cubic convolution
        kernel (1981) with torch's and OpenCV's constant.
    """
    pixels = torch.arange(int(size)).float() + 0.5
    position = pixels * (side / size.float()) - 0.5
    d = (position[:, None] - torch.arange(-2, side + 2).float()).abs()
    near = (1.25 * d - 2.25) * d * d + 1
    far = -0.75 * (((d - 5) * d + 8) * d - 4)
    return torch.where(d <= 1, near, torch.where(d < 2, far, 0 * d))


@torch.jit.script
def peaks_by_loop(logits: Tensor, pixels: Tensor) -> Tensor:
    """Resize each map to its RoI's pixels and find the highest of them.

    Args:
        logits (Tensor): Maps with their border repeated twice on each side,
            shape (R, K, S + 4, S + 4).
        pixels (Tensor): Width and height of each RoI, int64 (R, 2).

    Returns:
        Tensor: x, y and height of the highest pixel, shape (R, K, 3).
    """
    side = logits.size(3) - 4
    found = logits[:0, :, 0, :3]
    for i in range(logits.size(0)):
        across = bicubic_matrix(pixels[i, 0], side)
        down = bicubic_matrix(pixels[i, 1], side)
        resized = down.matmul(logits[i]).matmul(across.t())
        peaks, index = resized.flatten(1).max(1)
        y = torch.div(index, pixels[i, 0], rounding_mode='floor')
        x = index - y * pixels[i, 0]
        peak = torch.stack([x.float(), y.float(), peaks], 1)
        found = torch.cat([found, peak[None]])
    return found
