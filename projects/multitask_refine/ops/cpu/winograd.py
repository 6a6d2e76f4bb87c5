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

from .mkldnn_linear import multiply

_PIXELS = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_WEIGHTS = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]  # / 24
_RESULTS = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]

# Values of a strip before the transform: what 36 / 16 times as many take
# stays in the caches between the products.
_STRIP = 1 << 16
# Output channels of a block: of larger tensors the C library returns the
# memory each time, and getting it anew takes longer than the transform.
_BLOCK = 256
# Fewer channels or pixels are not worth the transforms.
_LEAST_CHANNELS = 128
_LEAST_PIXELS = 768


def convert_to_winograd(model: nn.Module) -> None:
    """Let every 3x3 ``nn.Conv2d`` that gains by it compute by Winograd's
    method on the CPU; weights and their names stay the same."""
    for layer in model.modules():
        if type(layer) is nn.Conv2d and _fits(layer):
            layer.__class__ = WinogradConv2d


def _fits(layer: nn.Conv2d) -> bool:
    shape = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    return (
        shape == ((3, 3), (1, 1), (1, 1), (1, 1))
        and layer.groups == 1
        and layer.padding_mode == 'zeros'
        and min(layer.in_channels, layer.out_channels) >= _LEAST_CHANNELS
    )


class WinogradConv2d(nn.Conv2d):
    """A 3x3 convolution that keeps the map's size.

    On the CPU and in float32 or float64 it is
    :func:`conv3x3_by_winograd`, where the map is large enough for a gain;
    else, and in graphs that are recorded or compiled, it is ``nn.Conv2d``.
    """

    factors: Optional[List[Tensor]] = None

    def prepack(self) -> None:
        """Transform the weights once for all, for inference: a later change
        of the weights has no effect. It takes four times their memory."""
        with torch.no_grad():
            self.factors = _transform_weights(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, D, H, W)."""
        if not self._gains(x):
            return super().forward(x)
        if self.factors is None or torch.is_grad_enabled():
            return conv3x3_by_winograd(x, self.weight, self.bias)
        return _convolve(x, self.factors, self.bias)

    @staticmethod
    def _gains(x: Tensor) -> bool:
        batch, _, height, width = x.shape
        return (
            not x.is_cuda
            and x.dtype in (torch.float32, torch.float64)
            and not torch.is_autocast_enabled(x.device.type)
            and not torch.jit.is_tracing()
            and not torch.compiler.is_compiling()
            and batch * height * width >= _LEAST_PIXELS
        )


def conv3x3_by_winograd(x: Tensor, weight: Tensor, bias: Optional[Tensor] = None) -> Tensor:
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
    return _Winograd.apply(x, weight, bias)


class _Winograd(Function):
    """The convolution and its gradients, strip by strip."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, _transform_weights(weight), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            turned = weight.flip(2, 3).transpose(0, 1)
            of_x = _convolve(grad, _transform_weights(turned))
        if ctx.needs_input_grad[1]:
            of_weight = _correlate(x, grad)
        if ctx.needs_input_grad[2]:
            of_bias = grad.sum((0, 2, 3))
        return of_x, of_weight, of_bias


def _transform_weights(weight: Tensor) -> List[Tensor]:
    """The factors (36, C, block of D) of each block of (D, C, 3, 3)."""
    _, to_weights, _ = _transforms(weight)
    return [
        (to_weights @ block.flatten(2).flatten(0, 1).T).view(36, *block.shape[:2]).transpose(1, 2)
        for block in weight.split(_BLOCK)
    ]


def _convolve(x: Tensor, factors: List[Tensor], bias: Optional[Tensor] = None) -> Tensor:
    """A map (B, C, H, W), transformed weights and bias (D) to
    (B, D, H, W)."""
    channels = sum(factor.shape[2] for factor in factors)
    to_pixels, _, to_results = _transforms(x)
    canvas = _Canvas(x)
    y = torch.empty(
        canvas.count,
        channels,
        canvas.height,
        canvas.width,
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last,
    )
    addends = (x.new_zeros(channels) if bias is None else bias).split(_BLOCK)
    for strip in canvas.strips(x.shape[1]):
        pixels = _transform(to_pixels, canvas.extract_input_tiles(x, strip))
        rows = len(strip)
        results = x.new_empty(rows, 4, canvas.tiles[1], 4, channels)
        for target, factor, addend in zip(results.split(_BLOCK, -1), factors, addends):
            part = multiply(to_results, torch.bmm(pixels, factor).view(36, -1))
            part = part.view(4, 4, rows, canvas.tiles[1], -1)
            torch.add(part.permute(2, 0, 3, 1, 4), addend, out=target)
        canvas.scatter_output_tiles(results.flatten(2, 3).flatten(0, 1), strip, y)
    return y


def _correlate(x: Tensor, grad: Tensor) -> Tensor:
    """The weights' gradient (D, C, 3, 3) from (B, C, H, W) and that of the
    result, (B, D, H, W)."""
    to_pixels, to_weights, to_results = _transforms(x)
    canvas = _Canvas(x)
    totals = [x.new_zeros(36, block.shape[1], x.shape[1]) for block in grad.split(_BLOCK, 1)]
    for strip in canvas.strips(x.shape[1]):
        pixels = _transform(to_pixels, canvas.extract_input_tiles(x, strip))
        results = canvas.cut_results(grad, strip)
        for total, block in zip(totals, results.split(_BLOCK, 2)):
            total.baddbmm_(_transform(to_results.T, block).transpose(1, 2), pixels)
    blocks = [(to_weights.T @ total.view(36, -1)).T for total in totals]
    return torch.cat(blocks).view(grad.shape[1], x.shape[1], 3, 3)


class _Canvas:
    """Images side by side, a line of zeros between neighbours.

    That line is the padding of both, and fewer tiles are cut off at the
    border: four small images need no more than one of their size. The canvas
    exists in strips alone, which stay in the caches.

    Args:
        x (Tensor): A map like those to be laid out, (B, C, H, W).
    """

    def __init__(self, x: Tensor) -> None:
        self.count, _, self.height, self.width = x.shape
        self.columns = min(4, self.count)
        self.rows = -(-self.count // max(1, self.columns))
        self.tall = self.height + (self.rows > 1)
        self.wide = self.width + (self.columns > 1)
        self.tiles = (-(-self.rows * self.tall // 4), -(-self.columns * self.wide // 4))

    def strips(self, channels: int) -> Iterator[range]:
        """Rows of tiles, in parts of about the same size."""
        rows = self.tiles[0]
        most = max(1, _STRIP // max(1, self.tiles[1] * channels))
        step = -(-rows // -(-rows // most)) if rows else 1
        return (range(first, min(first + step, rows)) for first in range(0, rows, step))

    def extract_input_tiles(self, x: Tensor, strip: range) -> Tensor:
        """Views of the 6 x 6 pixels of (B, C, H, W) that each tile's results
        need, (rows of tiles, T of a row, C, 6, 6)."""
        return self._lay(x, strip, 1).unfold(0, 6, 4).unfold(1, 6, 4)

    def cut_results(self, y: Tensor, strip: range) -> Tensor:
        """Views of each tile's results of (B, D, H, W), (rows of tiles, T of
        a row, D, 4, 4)."""
        return self._lay(y, strip, 0).unfold(0, 4, 4).unfold(1, 4, 4)

    def scatter_output_tiles(self, lines: Tensor, strip: range, y: Tensor) -> None:
        """Copy the lines of a strip, (4 rows of tiles, 4 T of a row, D), to
        images (B, D, H, W)."""
        for part, images in self._images(lines, 4 * strip.start, y):
            images.copy_(part)

    def _lay(self, x: Tensor, strip: range, border: int) -> Tensor:
        """The strip's lines of the images (B, C, H, W), with ``border`` more
        lines on each side, (lines, pixels, C)."""
        lines = x.new_zeros(
            4 * len(strip) + 2 * border, 4 * self.tiles[1] + 2 * border, x.shape[1]
        )
        inner = lines[:, border : lines.shape[1] - border]
        for part, images in self._images(inner, 4 * strip.start - border, x):
            part.copy_(images)
        return lines

    def _images(self, lines: Tensor, first: int, x: Tensor) -> Iterator[Tuple[Tensor, Tensor]]:
        """Views of lines (lines, pixels, C), the canvas's from ``first`` on,
        and of the images (B, C, H, W), where they are the same places."""
        pixels = x.permute(0, 2, 3, 1)
        cells = (
            lines[:, : self.columns * self.wide]
            .unflatten(1, (self.columns, self.wide))[:, :, : self.width]
            .transpose(0, 1)
        )
        last = first + len(lines)
        for row in range(max(0, first) // self.tall, min(self.rows, -(-last // self.tall))):
            top = row * self.tall
            begin, end = max(first, top), min(last, top + self.height)
            if begin < end:
                images = pixels[row * self.columns : (row + 1) * self.columns]
                yield (
                    cells[: len(images), begin - first : end - first],
                    images[:, begin - top : end - top],
                )


def _transforms(like: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """The two-dimensional transforms of pixels (36, 36), weights (36, 9) and
    results (16, 36)."""
    pixels, weights, results = (
        torch.tensor(matrix, dtype=torch.float64) for matrix in (_PIXELS, _WEIGHTS, _RESULTS)
    )
    return tuple(torch.kron(matrix, matrix).to(like) for matrix in (pixels, weights / 24, results))


def _transform(matrix: Tensor, tiles: Tensor) -> Tensor:
    """Tiles (rows, T of a row, C, n, n) by a matrix (36, n n) to
    (36, T, C)."""
    rows = tiles.permute(3, 4, 0, 1, 2).reshape(matrix.shape[1], -1)
    return multiply(matrix, rows).view(36, -1, tiles.shape[2])
