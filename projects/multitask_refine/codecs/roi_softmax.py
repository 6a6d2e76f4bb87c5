"""Joints as cells of a softmax on the RoI, and back.

Coordinates follow the half-pixel rule of :mod:`roi_heatmap`: a joint at x
lies in cell ``floor((x - x1) * S / w)``, and the centre of pixel i of a map
that was resized to W pixels lies at ``x1 + (i + 0.5) * w / W``.

Shape letters: R RoIs, K keypoints, S heatmap side.
"""

from typing import Tuple

import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor

from multitask_refine.utils.errors import ConfigError

_BICUBIC = -0.75  # the constant of torch's and OpenCV's bicubic kernel


@TASK_UTILS.register_module()
class RoISoftmaxCodec:
    """Cells for a softmax over the S x S grid of each RoI.

    Encoding and decoding are those of Mask R-CNN's keypoint branch (He et
    al. 2017, section 5) as Detectron2 and torchvision compute them: the
    logits are resized bicubically to the RoI's own size in pixels, rounded
    up, and the highest pixel is the joint.

    Args:
        heatmap_size (int): S.
        score (str): A joint's score. ``'probability'`` (Detectron2) is the
            exponential of the highest resized logit over the sum of the
            exponentials of the map's S x S cells; ``'logit'`` (torchvision)
            is the highest resized logit itself. Defaults to 'probability'.
        max_pixels (int): How many resized pixels are held in CUDA's memory
            at a time; those of one RoI always are. Defaults to 2**26.

    Raises:
        ConfigError: If ``heatmap_size`` or ``score`` is out of range.
    """

    def __init__(
        self, heatmap_size: int, score: str = 'probability', max_pixels: int = 2**26
    ) -> None:
        if heatmap_size < 1:
            raise ConfigError(f'heatmap_size must be positive, but is {heatmap_size}')
        if score not in ('probability', 'logit'):
            raise ConfigError(f"score: expected 'probability' or 'logit', got {score!r}")
        self.heatmap_size = heatmap_size
        self.score = score
        self.max_pixels = max_pixels

    def encode(self, keypoints: Tensor, shown: Tensor, rois: Tensor) -> Tuple[Tensor, Tensor]:
        """Find each joint's cell.

        Args:
            keypoints (Tensor): Joints in image pixels, shape (R, K, 2).
            shown (Tensor): Whether a joint is labelled, bool (R, K).
            rois (Tensor): Boxes xyxy in image pixels, shape (R, 4).

        Returns:
            tuple: Index of the cell, row by row, int64 (R, K), and whether
            the joint is labelled and inside its RoI, bool (R, K); the index
            of one that is not is 0.
        """
        origin, corner = rois[:, None, :2], rois[:, None, 2:]
        scale = self.heatmap_size / (corner - origin)
        cell = ((keypoints - origin) * scale).floor()
        # The far border belongs to the last cell.
        cell = torch.where(keypoints == corner, self.heatmap_size - 1.0, cell)
        inside = ((cell >= 0) & (cell < self.heatmap_size)).all(-1)
        counted = shown & inside
        cell = torch.where(counted[..., None], cell, 0.0).long()
        return cell[..., 1] * self.heatmap_size + cell[..., 0], counted

    def decode(self, logits: Tensor, rois: Tensor) -> Tuple[Tensor, Tensor]:
        """Find the joints in predicted maps.

        Args:
            logits (Tensor): Shape (R, K, S, S).
            rois (Tensor): Boxes xyxy in image pixels, shape (R, 4).

        Returns:
            tuple: Joints in image pixels, shape (R, K, 2), and their scores,
            shape (R, K).
        """
        extent = (rois[:, 2:] - rois[:, :2]).clamp(min=1)
        pixels = extent.ceil().long()
        cells, peaks = self.get_heatmap_maximum(logits, pixels)
        points = (cells + 0.5) * (extent / pixels)[:, None]
        return points + rois[:, None, :2], self._scores(peaks, logits)

    def get_heatmap_maximum(self, logits: Tensor, pixels: Tensor) -> Tuple[Tensor, Tensor]:
        """:func:`get_heatmap_maximum` with as many pixels at a time as are fast on the
        tensors' device."""
        # CUDA waits for steps, the CPU for pixels beyond a RoI's own.
        return get_heatmap_maximum(logits, pixels, self.max_pixels if logits.is_cuda else 1)

    def _scores(self, peaks: Tensor, logits: Tensor) -> Tensor:
        if self.score == 'logit':
            return peaks
        return (peaks - logits.logsumexp((2, 3))).exp()


def get_heatmap_maximum(logits: Tensor, pixels: Tensor, max_pixels: int) -> Tuple[Tensor, Tensor]:
    """Resize each map to its RoI's pixels and find the highest of them.

    Resizing is torch's bicubic interpolation, by two matrix products for
    RoIs of like size together.

    Args:
        logits (Tensor): Shape (R, K, S, S).
        pixels (Tensor): Width and height of each RoI, int64 (R, 2).
        max_pixels (int): How many resized pixels are held at a time; those
            of one RoI always are.

    Returns:
        tuple: Index of the highest pixel as (x, y), shape (R, K, 2), and its
        height, shape (R, K).
    """
    cells = torch.empty_like(logits[..., 0, :2])
    peaks = torch.empty_like(cells[..., 0])
    for chosen in _batches(pixels, logits.shape[1], max_pixels):
        cells[chosen], peaks[chosen] = _highest_pixels(logits[chosen], pixels[chosen])
    return cells, peaks


def _batches(pixels: Tensor, num_keypoints: int, max_pixels: int) -> Tuple[Tensor, ...]:
    if not len(pixels):
        return ()
    largest = num_keypoints * int(pixels.amax(0).prod())
    order = pixels.prod(1).argsort()
    return order.split(max(1, max_pixels // largest))


def _highest_pixels(logits: Tensor, pixels: Tensor) -> Tuple[Tensor, Tensor]:
    """:func:`get_heatmap_maximum` in one batch."""
    across = _bicubic_matrix(pixels[:, 0], logits)
    down = _bicubic_matrix(pixels[:, 1], logits)
    resized = down @ (logits @ across.transpose(-1, -2))
    width, height = resized.shape[-1], resized.shape[-2]
    if len(pixels) > 1:
        resized = resized.masked_fill(_beyond(pixels, width, height), float('-inf'))
    peaks, index = resized.flatten(2).max(-1)
    return torch.stack([index % width, index // width], -1).to(peaks), peaks


def _beyond(pixels: Tensor, width: int, height: int) -> Tensor:
    """Which of a batch's pixels are not the RoI's, bool (R, 1, height,
    width)."""
    steps = torch.arange(max(width, height), device=pixels.device)
    return (steps[:width] >= pixels[:, 0, None])[:, None, None, :] | (
        steps[:height] >= pixels[:, 1, None]
    )[:, None, :, None]


def _bicubic_matrix(sizes: Tensor, logits: Tensor) -> Tensor:
    """What resizes a row of S cells to a number of pixels, for each RoI.

    Args:
        sizes (Tensor): Numbers of pixels, int64 (R).
        logits (Tensor): Gives S, type and device.

    Returns:
        Tensor: Weights, shape (R, 1, largest size, S); rows beyond a RoI's
        own size mean nothing.
    """
    side = logits.shape[-1]
    pixels = torch.arange(int(sizes.max()), device=sizes.device) + 0.5
    position = (side / sizes.to(logits))[:, None] * pixels - 0.5
    first = position.floor()
    # The four cells around a pixel; the border's cells repeat outside.
    taps = torch.arange(-1, 3, device=sizes.device)
    weights = _bicubic_kernel((position - first)[..., None] - taps)
    cells = (first[..., None] + taps).clamp(0, side - 1).long()
    matrix = weights.new_zeros(*position.shape, side)
    return matrix.scatter_add_(-1, cells, weights)[:, None]


def _bicubic_kernel(distance: Tensor) -> Tensor:
    """Keys' cubic convolution kernel (1981) within two cells."""
    d = distance.abs()
    near = ((_BICUBIC + 2) * d - (_BICUBIC + 3)) * d * d + 1
    far = ((d - 5) * d + 8) * d - 4
    return torch.where(d <= 1, near, _BICUBIC * far)
