"""3x3 convolutions with a quarter of the multiplications, for the CPU.

Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", 2016, sections 4.1 and 4.3): 4 x 4 results
from 6 x 6 pixels by 36 products for each pair of channels in the place of
144. With the channels last everything is matrix products: one that transforms
the pixels, one for each of the 36 positions that sums over the channels, and
one that transforms the results.

Shape letters: B images, C input channels, D output channels, H x W map,
T tiles of 4 x 4 results.
"""
from typing import Iterator, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_PIXELS = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
           [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
_WEIGHTS = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4],
            [0, 0, 24]]  # / 24
_RESULTS = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0],
            [0, 1, -1, 8, -8, 1]]

# Values of a chunk before the transform: what 36 / 16 times as many take
# stays in the caches between the products.
_CHUNK = 1 << 16
# Output channels of a block: of larger tensors the C library returns the
# memory each time, and getting it anew takes longer than the transform.
_BLOCK = 256
# Fewer channels or tiles are not worth the transforms.
_LEAST_CHANNELS = 128
_LEAST_TILES = 64

Chunk = Tuple[slice, slice]  # of images and of rows of tiles


def use_fast_convs(model: nn.Module) -> None:
    """Let every 3x3 ``nn.Conv2d`` that gains by it compute by Winograd's
    method on the CPU; weights and their names stay the same."""
    for layer in model.modules():
        if type(layer) is nn.Conv2d and _fits(layer):
            layer.__class__ = WinogradConv2d


def _fits(layer: nn.Conv2d) -> bool:
    shape = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    return (shape == ((3, 3), (1, 1), (1, 1), (1, 1)) and layer.groups == 1
            and layer.padding_mode == 'zeros'
            and min(layer.in_channels, layer.out_channels) >= _LEAST_CHANNELS)


class WinogradConv2d(nn.Conv2d):
    """A 3x3 convolution that keeps the map's size.

    On the CPU and in float32 or float64 it is
    :func:`conv3x3_by_winograd`, where the map is large enough for a gain;
    else it is ``nn.Conv2d``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, D, H, W)."""
        if self._gains(x):
            return conv3x3_by_winograd(x, self.weight, self.bias)
        return super().forward(x)

    @staticmethod
    def _gains(x: Tensor) -> bool:
        batch, _, height, width = x.shape
        return (not x.is_cuda and x.dtype in (torch.float32, torch.float64)
                and not torch.is_autocast_enabled(x.device.type)
                and not torch.jit.is_tracing()
                and batch * _tiles(height) * _tiles(width) >= _LEAST_TILES)


def conv3x3_by_winograd(x: Tensor, weight: Tensor,
                        bias: Optional[Tensor] = None) -> Tensor:
    """``F.conv2d(x, weight, bias, padding=1)`` of 3x3 kernels.

    In float32 the error is about five times that of the usual way: some
    1e-6 of the largest value.

    Args:
        x (Tensor): Map, shape (B, C, H, W).
        weight (Tensor): Shape (D, C, 3, 3).
        bias (Tensor, optional): Shape (D).

    Returns:
        Tensor: Shape (B, D, H, W), with the channels last in memory.
    """
    y = _Winograd.apply(x, weight)
    return y if bias is None else y + bias[:, None, None]


class _Winograd(Function):
    """The convolution and its gradients, chunk by chunk."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _convolve(grad, weight.flip(2, 3).transpose(0, 1))
        if ctx.needs_input_grad[1]:
            of_weight = _correlate(x, grad)
        return of_x, of_weight


def _convolve(x: Tensor, weight: Tensor) -> Tensor:
    """(B, C, H, W) and (D, C, 3, 3) to (B, D, H, W)."""
    batch, _, height, width = x.shape
    to_pixels, to_weights, to_results = _transforms(x)
    factors = [
        (to_weights @ block.flatten(2).flatten(0, 1).T).view(
            36, *block.shape[:2]).transpose(1, 2)
        for block in weight.split(_BLOCK)
    ]
    tiles = _cut_tiles(x)
    size = _tiles(height), _tiles(width)
    y = x.new_empty(batch, size[0], 4, size[1], 4, len(weight))
    for chunk in _chunks(*size, x.shape):
        pixels = _transform(to_pixels, tiles[chunk])
        for target, factor in zip(y[chunk].split(_BLOCK, -1), factors):
            part = to_results @ torch.bmm(pixels, factor).view(36, -1)
            target.copy_(
                part.view(4, 4, *target.shape[:2], size[1],
                          -1).permute(2, 3, 0, 4, 1, 5))
    y = y.flatten(3, 4).flatten(1, 2)
    return y[:, :height, :width].permute(0, 3, 1, 2).contiguous(
        memory_format=torch.channels_last)


def _correlate(x: Tensor, grad: Tensor) -> Tensor:
    """The weights' gradient (D, C, 3, 3) from (B, C, H, W) and that of the
    result, (B, D, H, W)."""
    channels, height, width = grad.shape[1:]
    to_pixels, to_weights, to_results = _transforms(x)
    size = _tiles(height), _tiles(width)
    fill = (0, 0, 0, 4 * size[1] - width, 0, 4 * size[0] - height)
    results = F.pad(grad.permute(0, 2, 3, 1), fill).view(
        len(grad), size[0], 4, size[1], 4, channels).permute(0, 1, 3, 5, 2, 4)
    tiles = _cut_tiles(x)
    totals = [
        x.new_zeros(36, min(_BLOCK, channels - first), x.shape[1])
        for first in range(0, channels, _BLOCK)
    ]
    for chunk in _chunks(*size, x.shape):
        pixels = _transform(to_pixels, tiles[chunk])
        for total, block in zip(totals, results[chunk].split(_BLOCK, 3)):
            total.baddbmm_(
                _transform(to_results.T, block).transpose(1, 2), pixels)
    blocks = [(to_weights.T @ total.view(36, -1)).T for total in totals]
    return torch.cat(blocks).view(channels, x.shape[1], 3, 3)


def _transforms(like: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """The two-dimensional transforms of pixels (36, 36), weights (36, 9) and
    results (16, 36)."""
    pixels, weights, results = (
        torch.tensor(matrix, dtype=torch.float64)
        for matrix in (_PIXELS, _WEIGHTS, _RESULTS))
    return tuple(
        torch.kron(matrix, matrix).to(like)
        for matrix in (pixels, weights / 24, results))


def _cut_tiles(x: Tensor) -> Tensor:
    """Views of the 6 x 6 pixels that each tile's results need: those of a
    map (B, C, H, W), as (B, rows of tiles, tiles of a row, C, 6, 6)."""
    height, width = x.shape[2:]
    fill = (0, 0, 1, 4 * _tiles(width) + 1 - width, 1,
            4 * _tiles(height) + 1 - height)
    padded = F.pad(x.permute(0, 2, 3, 1), fill)
    return padded.unfold(1, 6, 4).unfold(2, 6, 4)


def _transform(matrix: Tensor, tiles: Tensor) -> Tensor:
    """Tiles (B, rows, T of a row, C, n, n) by a matrix (36, n n) to
    (36, T, C)."""
    rows = tiles.permute(4, 5, 0, 1, 2, 3).reshape(matrix.shape[1], -1)
    return (matrix @ rows).view(36, -1, tiles.shape[3])


def _chunks(rows: int, columns: int, shape: torch.Size) -> Iterator[Chunk]:
    """Parts of the tiles: some whole images, or rows of one."""
    most = max(1, _CHUNK // (columns * shape[1]))
    if most >= rows:
        step = most // rows
        for first in range(0, shape[0], step):
            yield slice(first, first + step), slice(None)
        return
    for image in range(shape[0]):
        for first in range(0, rows, most):
            yield slice(image, image + 1), slice(first, first + most)


def _tiles(length: int) -> int:
    return -(-length // 4)
