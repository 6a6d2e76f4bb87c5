"""Keypoints in image pixels to cells of a softmax on RoIs, and back.

Coordinates follow the half-pixel rule of :mod:`roi_heatmap`: a keypoint at x lies in cell
``floor((x - x1) * S / w)``, and the center of pixel i of a map that was resized to W pixels lies
at ``x1 + (i + 0.5) * w / W``.

Shape letters: R RoIs, K keypoints, S heatmap side, H x W pixels of the largest RoI.
"""

import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor

from multitask_refine.utils.errors import ConfigError

_BICUBIC = -0.75  # the constant of PyTorch's and OpenCV's bicubic kernel


@TASK_UTILS.register_module()
class RoISoftmaxCodec:
    """Cells of a softmax over the S x S grid of each RoI.

    Encoding and decoding are those of Mask R-CNN's keypoint branch (He et al. 2017, section 5) as
    Detectron2 and torchvision compute them: the logits are resized bicubically to the RoI's own
    size in pixels, rounded up, and the pixel with the maximum is the keypoint.

    Args:
        heatmap_size (int): S.
        score (str): Score of a keypoint. ``'probability'`` (Detectron2) is the exponential of the
            maximum of the resized logits, divided by the sum of the exponentials of the map's
            S x S cells; ``'logit'`` (torchvision) is the maximum itself. Defaults to
            'probability'.
        max_pixels (int): Number of resized pixels that are held in CUDA memory at a time; those
            of one RoI always are. Defaults to 2**26.

    Raises:
        ConfigError: If ``heatmap_size`` or ``score`` is out of range.
    """

    def __init__(
        self, heatmap_size: int, score: str = 'probability', max_pixels: int = 2**26
    ) -> None:
        """Check and store the settings."""
        if heatmap_size < 1:
            raise ConfigError(f'heatmap_size: expected a positive number, found {heatmap_size}')
        if score not in ('probability', 'logit'):
            raise ConfigError(f"score: expected 'probability' or 'logit', found {score!r}")
        self.heatmap_size = heatmap_size
        self.score = score
        self.max_pixels = max_pixels

    def encode(
        self, keypoints: Tensor, keypoints_visible: Tensor, rois: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Find the cell of each keypoint.

        Args:
            keypoints (Tensor): x, y in image pixels, shape (R, K, 2).
            keypoints_visible (Tensor): Whether a keypoint is labeled, bool (R, K).
            rois (Tensor): Boxes xyxy in image pixels, shape (R, 4).

        Returns:
            tuple[Tensor, Tensor]: Index of the cell, row by row, int64 (R, K), 0 for keypoints
            that are not valid; and whether a keypoint is valid, that is labeled and inside its
            RoI, bool (R, K).
        """
        origin, corner = rois[:, None, :2], rois[:, None, 2:]
        scale = self.heatmap_size / (corner - origin)  # cells per image pixel, (R, 1, 2)
        cell = ((keypoints - origin) * scale).floor()  # (R, K, 2)
        # The right and lower border belong to the last cell.
        cell = torch.where(keypoints == corner, self.heatmap_size - 1.0, cell)
        valid = keypoints_visible & ((cell >= 0) & (cell < self.heatmap_size)).all(-1)
        cell = torch.where(valid[..., None], cell, 0.0).long()
        return cell[..., 1] * self.heatmap_size + cell[..., 0], valid

    def decode(self, logits: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
        """Find the keypoints in predicted maps.

        Args:
            logits (Tensor): Shape (R, K, S, S).
            rois (Tensor): Boxes xyxy in image pixels, shape (R, 4).

        Returns:
            tuple[Tensor, Tensor]: Keypoints in image pixels, shape (R, K, 2), and their scores,
            shape (R, K).
        """
        extent = (rois[:, 2:] - rois[:, :2]).clamp(min=1)
        sizes = extent.ceil().long()
        pixels, maxima = self.get_heatmap_maximum(logits, sizes)
        # Centers of the resized pixels; these are a little smaller than image pixels, because the
        # RoI's size was rounded up.
        keypoints = (pixels + 0.5) * (extent / sizes)[:, None] + rois[:, None, :2]
        if self.score == 'logit':
            return keypoints, maxima
        return keypoints, (maxima - logits.logsumexp((2, 3))).exp()

    def to_probabilities(self, logits: Tensor) -> Tensor:
        """Return the softmax over the cells of each map, shape (R, K, S, S)."""
        return logits.flatten(2).softmax(-1).view_as(logits)

    def get_heatmap_maximum(self, logits: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Compute :func:`get_heatmap_maximum` with the batch that is fast on the device."""
        # CUDA is faster in few large steps, the CPU without padding: one RoI at a time.
        return get_heatmap_maximum(logits, sizes, 1 if logits.is_cpu else self.max_pixels)


def get_heatmap_maximum(logits: Tensor, sizes: Tensor, max_pixels: int) -> tuple[Tensor, Tensor]:
    """Resize each map to its RoI's size in pixels and find the maximum.

    Resizing is PyTorch's bicubic interpolation, by two matrix products for RoIs of similar size
    together.

    Args:
        logits (Tensor): Shape (R, K, S, S).
        sizes (Tensor): Width and height of each RoI in pixels, int64 (R, 2).
        max_pixels (int): Number of resized pixels that are held at a time; those of one RoI always
            are.

    Returns:
        tuple[Tensor, Tensor]: Index of the pixel with the maximum as (x, y), shape (R, K, 2), and
        the maximum, shape (R, K).
    """
    device = logits.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        # Products in half precision would move the maximum.
        with torch.autocast(device, enabled=False):
            return get_heatmap_maximum(logits, sizes, max_pixels)
    pixels = torch.empty_like(logits[..., 0, :2])
    maxima = torch.empty_like(pixels[..., 0])
    if not len(logits):
        return pixels, maxima
    pixels_of_largest = logits.shape[1] * int(sizes.amax(0).prod())
    by_area = sizes.prod(1).argsort()  # RoIs of similar size waste the least padding.
    for rois in by_area.split(max(1, max_pixels // pixels_of_largest)):
        widths, heights = sizes[rois].unbind(1)
        resize_x, resize_y = (_bicubic_matrix(each, logits) for each in (widths, heights))
        # (R, 1, H, S) @ (R, K, S, S) @ (R, 1, S, W): (R, K, H, W)
        resized = resize_y @ (logits[rois] @ resize_x.transpose(-1, -2))
        height, width = resized.shape[-2:]
        if len(rois) > 1:
            # Mask the padding pixels outside each RoI.
            steps = torch.arange(max(width, height), device=sizes.device)
            outside_x = steps[:width] >= widths[:, None]
            outside_y = steps[:height] >= heights[:, None]
            outside = outside_x[:, None, None, :] | outside_y[:, None, :, None]  # (R, 1, H, W)
            resized = resized.masked_fill(outside, float('-inf'))
        maxima[rois], index = resized.flatten(2).max(-1)  # (R, K) each, row by row
        pixels[rois] = torch.stack([index % width, index // width], -1).to(pixels)
    return pixels, maxima


def _bicubic_matrix(sizes: Tensor, logits: Tensor) -> Tensor:
    """Make the matrices that resize a row of S cells to each RoI's number of pixels.

    The kernel is Keys' cubic convolution (1981).

    Args:
        sizes (Tensor): Numbers of pixels, int64 (R).
        logits (Tensor): Gives S, type and device.

    Returns:
        Tensor: Shape (R, 1, largest size, S); rows beyond a RoI's own size are meaningless.
    """
    side = logits.shape[-1]
    pixels = torch.arange(int(sizes.max()), device=sizes.device) + 0.5
    position = (side / sizes.to(logits))[:, None] * pixels - 0.5  # (R, size), in cell indices
    first = position.floor()
    # The four cells around a pixel, (R, size, 4); cells outside repeat the border.
    taps = torch.arange(-1, 3, device=sizes.device)
    d = ((position - first)[..., None] - taps).abs()  # (R, size, 4)
    # Keys' two polynomials, by Horner's rule
    near = ((_BICUBIC + 2) * d - (_BICUBIC + 3)) * d * d + 1
    far = _BICUBIC * (((d - 5) * d + 8) * d - 4)
    weights = torch.where(d <= 1, near, far)
    cells = (first[..., None] + taps).clamp(0, side - 1).long()
    matrix = weights.new_zeros(*position.shape, side)
    # Taps that were clamped to the same border cell add up. The axis of the keypoints is new.
    return matrix.scatter_add_(-1, cells, weights)[:, None]
