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
from typing import Iterator, List, Optional, Tuple

import torch
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
# Fewer channels or pixels are not worth the transforms.
_LEAST_CHANNELS = 128
_LEAST_PIXELS = 768


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

    factors: Optional[List[Tensor]] = None

    def keep_factors(self) -> None:
        """Transform the weights once for all, for inference: a later change
        of the weights has no effect. It takes four times their memory."""
        with torch.no_grad():
            self.factors = _transform_weights(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, D, H, W)."""
        if not self._gains(x):
            return super().forward(x)
        if self.factors is None:
            return conv3x3_by_winograd(x, self.weight, self.bias)
        y = _convolve(x, self.factors)
        return y if self.bias is None else y + self.bias[:, None, None]

    @staticmethod
    def _gains(x: Tensor) -> bool:
        batch, _, height, width = x.shape
        return (not x.is_cuda and x.dtype in (torch.float32, torch.float64)
                and not torch.is_autocast_enabled(x.device.type)
                and not torch.jit.is_tracing()
                and batch * height * width >= _LEAST_PIXELS)


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
        return _convolve(x, _transform_weights(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            turned = weight.flip(2, 3).transpose(0, 1)
            of_x = _convolve(grad, _transform_weights(turned))
        if ctx.needs_input_grad[1]:
            of_weight = _correlate(x, grad)
        return of_x, of_weight


def _transform_weights(weight: Tensor) -> List[Tensor]:
    """The factors (36, C, block of D) of each block of (D, C, 3, 3)."""
    _, to_weights, _ = _transforms(weight)
    return [(to_weights @ block.flatten(2).flatten(0, 1).T).view(
        36, *block.shape[:2]).transpose(1, 2)
            for block in weight.split(_BLOCK)]


def _convolve(x: Tensor, factors: List[Tensor]) -> Tensor:
    """A map (B, C, H, W) and transformed weights to (B, D, H, W)."""
    channels = sum(factor.shape[2] for factor in factors)
    to_pixels, _, to_results = _transforms(x)
    layout = _Layout(x)
    tiles = layout.cut_pixels(x)
    rows, columns = tiles.shape[:2]
    y = x.new_empty(rows, 4, columns, 4, channels)
    for chunk in _chunks(tiles):
        pixels = _transform(to_pixels, tiles[chunk])
        for target, factor in zip(y[chunk].split(_BLOCK, -1), factors):
            part = to_results @ torch.bmm(pixels, factor).view(36, -1)
            target.copy_(
                part.view(4, 4, len(target), columns,
                          -1).permute(2, 0, 3, 1, 4))
    return layout.take_images(y.flatten(2, 3).flatten(0, 1))


def _correlate(x: Tensor, grad: Tensor) -> Tensor:
    """The weights' gradient (D, C, 3, 3) from (B, C, H, W) and that of the
    result, (B, D, H, W)."""
    to_pixels, to_weights, to_results = _transforms(x)
    layout = _Layout(x)
    tiles, results = layout.cut_pixels(x), layout.cut_results(grad)
    totals = [
        x.new_zeros(36, block.shape[2], x.shape[1])
        for block in results.split(_BLOCK, 2)
    ]
    for chunk in _chunks(tiles):
        pixels = _transform(to_pixels, tiles[chunk])
        for total, block in zip(totals, results[chunk].split(_BLOCK, 2)):
            total.baddbmm_(
                _transform(to_results.T, block).transpose(1, 2), pixels)
    blocks = [(to_weights.T @ total.view(36, -1)).T for total in totals]
    return torch.cat(blocks).view(grad.shape[1], x.shape[1], 3, 3)


class _Layout:
    """Images side by side on one canvas, a line of zeros around each.

    That line is the padding of both neighbours, and fewer tiles are cut off
    at the border: four small images need no more than one of their size.

    Args:
        x (Tensor): A map like those to be laid out, (B, C, H, W).
    """

    def __init__(self, x: Tensor) -> None:
        self.count, _, self.height, self.width = x.shape
        self.columns = min(4, self.count)
        self.rows = -(-self.count // max(1, self.columns))
        self.tiles = (-(-self.rows * (self.height + 1) // 4),
                      -(-self.columns * (self.width + 1) // 4))

    def cut_pixels(self, x: Tensor) -> Tensor:
        """Views of the 6 x 6 pixels that each tile's results need,
        (rows of tiles, T of a row, C, 6, 6)."""
        canvas = self._lay(x, 1)
        return canvas.unfold(0, 6, 4).unfold(1, 6, 4)

    def cut_results(self, y: Tensor) -> Tensor:
        """Views of each tile's results, (rows of tiles, T of a row, D, 4,
        4)."""
        canvas = self._lay(y, 0)
        return canvas.unfold(0, 4, 4).unfold(1, 4, 4)

    def take_images(self, canvas: Tensor) -> Tensor:
        """Results on a canvas (4 rows of tiles, 4 T of a row, D) to
        (B, D, H, W)."""
        y = canvas.new_empty(self.count, self.height, self.width,
                             canvas.shape[2])
        for column, place in enumerate(self._cells(canvas, 0)):
            images = y[column::self.columns]
            images.copy_(place[:len(images)])
        return y.permute(0, 3, 1, 2)

    def _lay(self, x: Tensor, border: int) -> Tensor:
        """Images (B, C, H, W) on a canvas that begins with ``border`` lines
        of zeros and ends with at least as many."""
        canvas = x.new_empty(*(4 * number + 2 * border
                               for number in self.tiles), x.shape[1])
        rest = self.height + border, self.width + border
        canvas[:border] = 0
        canvas[:, :border] = 0
        canvas[rest[0]::self.height + 1] = 0
        canvas[:, rest[1]::self.width + 1] = 0
        canvas[border + self.rows * (self.height + 1):] = 0
        canvas[:, border + self.columns * (self.width + 1):] = 0
        pixels = x.permute(0, 2, 3, 1)
        for column, place in enumerate(self._cells(canvas, border)):
            images = pixels[column::self.columns]
            place[:len(images)] = images
            place[len(images):] = 0
        return canvas

    def _cells(self, canvas: Tensor, border: int) -> Iterator[Tensor]:
        """Views of the canvas where the images of each column lie,
        (rows, H, W, C)."""
        tall, wide = self.height + 1, self.width + 1
        used = canvas[border:border + self.rows * tall]
        lines = used.unflatten(0, (self.rows, tall))[:, :self.height]
        for column in range(self.columns):
            first = border + column * wide
            yield lines[:, :, first:first + self.width]


def _transforms(like: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """The two-dimensional transforms of pixels (36, 36), weights (36, 9) and
    results (16, 36)."""
    pixels, weights, results = (
        torch.tensor(matrix, dtype=torch.float64)
        for matrix in (_PIXELS, _WEIGHTS, _RESULTS))
    return tuple(
        torch.kron(matrix, matrix).to(like)
        for matrix in (pixels, weights / 24, results))


def _transform(matrix: Tensor, tiles: Tensor) -> Tensor:
    """Tiles (rows, T of a row, C, n, n) by a matrix (36, n n) to
    (36, T, C)."""
    rows = tiles.permute(3, 4, 0, 1, 2).reshape(matrix.shape[1], -1)
    return (matrix @ rows).view(36, -1, tiles.shape[2])


def _chunks(tiles: Tensor) -> Iterator[slice]:
    """Rows of tiles, in parts of about the same size."""
    rows, columns, channels = tiles.shape[:3]
    most = max(1, _CHUNK // (columns * channels))
    step = -(-rows // -(-rows // most))
    return (slice(first, first + step) for first in range(0, rows, step))
