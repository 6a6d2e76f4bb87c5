"""3x3 convolutions with a quarter of the multiplications, for the CPU.

Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural
Networks", 2016, sections 4.1 and 4.3): 4x4 outputs from 6x6 inputs by 36 products for each pair of
channels instead of 144. With the channels last in memory all steps are matrix products: one that
transforms the inputs, one for each of the 36 positions that sums over the channels, and one that
transforms the outputs.

Shape letters: B images, C input channels, D output channels, H x W map, T tiles of 4x4 outputs.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .base import FastCPUModule, is_tracing
from .mkldnn_linear import mkldnn_linear

# One-dimensional transforms; in two dimensions a transform is the Kronecker product with itself.
_INPUT = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_WEIGHT = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]  # / 24
_OUTPUT = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]

# Input values of a strip of tiles: its transform, 36 / 16 times as large, stays in the caches.
_STRIP = 1 << 16
# Output channels of a block. The C library returns the memory of larger tensors to the system each
# time, and allocating it again takes longer than the transform.
_BLOCK = 256
# With fewer channels or pixels the transforms take longer than they save.
_MIN_CHANNELS = 128
_MIN_PIXELS = 768


def convert_to_winograd(model: nn.Module) -> None:
    """Turn every 3x3 ``nn.Conv2d`` that gains by it into a :class:`WinogradConv2d`.

    Parameters and their names stay the same.

    Args:
        model (nn.Module): The network; changed in place.
    """
    for layer in model.modules():
        if (
            type(layer) is nn.Conv2d
            and (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
            == ((3, 3), (1, 1), (1, 1), (1, 1))
            and layer.groups == 1
            and layer.padding_mode == 'zeros'
            and min(layer.in_channels, layer.out_channels) >= _MIN_CHANNELS
        ):
            layer.__class__ = WinogradConv2d


class WinogradConv2d(FastCPUModule, nn.Conv2d):
    """3x3 convolution of stride 1 and padding 1.

    On the CPU it is :func:`conv3x3_by_winograd` for float32 and float64 maps that are large enough
    for a gain; otherwise, and in recorded and compiled graphs, it is ``nn.Conv2d``.
    """

    packed_weight: list[Tensor] | None = None

    def prepack(self) -> None:
        """Transform the weight once, for inference.

        Later changes of the weight have no effect. The transform takes four times its memory.
        """
        with torch.no_grad():
            self.packed_weight = _transform_weight(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, D, H, W)."""
        batch, _, height, width = x.shape
        if (
            not self.fast_cpu_ops
            or not x.is_cpu
            or x.dtype not in (torch.float32, torch.float64)
            or torch.is_autocast_enabled(x.device.type)
            or is_tracing()
            or torch.compiler.is_compiling()
            or batch * height * width < _MIN_PIXELS
        ):
            return super().forward(x)
        if self.packed_weight is None or torch.is_grad_enabled():
            return conv3x3_by_winograd(x, self.weight, self.bias)
        return _convolve(x, self.packed_weight, self.bias)


def conv3x3_by_winograd(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``F.conv2d(x, weight, bias, padding=1)`` for 3x3 kernels.

    In float32 the rounding error is about five times that of ``F.conv2d``: some 1e-6 of the
    largest value.

    Args:
        x (Tensor): Shape (B, C, H, W).
        weight (Tensor): Shape (D, C, 3, 3).
        bias (Tensor, optional): Shape (D).

    Returns:
        Tensor: Shape (B, D, H, W), with the channels last in memory.
    """
    y: Tensor = _Winograd.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return y


class _Winograd(Function):
    """The convolution and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, _transform_weight(weight), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            # The gradient of a convolution is the convolution with the rotated kernel.
            rotated = weight.flip(2, 3).transpose(0, 1)
            grad_x = _convolve(grad, _transform_weight(rotated))
        if ctx.needs_input_grad[1]:
            grad_weight = _compute_grad_weight(x, grad)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum((0, 2, 3))
        return grad_x, grad_weight, grad_bias


def _transform_weight(weight: Tensor) -> list[Tensor]:
    """Transform a weight (D, C, 3, 3) to (36, C, block of D) for each block of outputs."""
    _, weight_transform, _ = _make_transforms(weight)
    return [
        # (36, 9) @ (9, D C)
        (weight_transform @ block.flatten(2).flatten(0, 1).T)
        .view(36, *block.shape[:2])
        .transpose(1, 2)
        for block in weight.split(_BLOCK)
    ]


def _convolve(x: Tensor, packed_weight: list[Tensor], bias: Tensor | None = None) -> Tensor:
    """Convolve a map (B, C, H, W) with a transformed weight and a bias (D) to (B, D, H, W)."""
    channels = sum(block.shape[2] for block in packed_weight)
    input_transform, _, output_transform = _make_transforms(x)
    canvas = _Canvas(x)
    y = torch.empty(
        canvas.batch,
        channels,
        canvas.height,
        canvas.width,
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last,
    )
    biases = (x.new_zeros(channels) if bias is None else bias).split(_BLOCK)
    for strip in canvas.strips(x.shape[1]):
        rows, columns = len(strip), canvas.tiles[1]
        inputs = _transform_tiles(input_transform, canvas.extract_tiles(x, strip, 6))  # (36, T, C)
        outputs = x.new_empty(rows, 4, columns, 4, channels)
        for target, block, block_bias in zip(
            outputs.split(_BLOCK, -1), packed_weight, biases, strict=True
        ):
            # The only step that grows with C times D: 36 products (T, C) by (C, D)
            products = torch.bmm(inputs, block).view(36, -1)  # (36, T D)
            tiles = mkldnn_linear(output_transform, products.T)  # (16, T D)
            # (rows, 4, columns, 4, D)
            tiles = tiles.view(4, 4, rows, columns, -1).permute(2, 0, 3, 1, 4)
            torch.add(tiles, block_bias, out=target)
        # The strip's pixels: (4 rows, 4 columns, D)
        canvas.scatter_output_tiles(outputs.flatten(2, 3).flatten(0, 1), strip, y)
    return y


def _compute_grad_weight(x: Tensor, grad: Tensor) -> Tensor:
    """Return the gradient (D, C, 3, 3) of the weight.

    Args:
        x (Tensor): Input, shape (B, C, H, W).
        grad (Tensor): Gradient of the output, shape (B, D, H, W).
    """
    input_transform, weight_transform, output_transform = _make_transforms(x)
    canvas = _Canvas(x)
    totals = [x.new_zeros(36, block.shape[1], x.shape[1]) for block in grad.split(_BLOCK, 1)]
    for strip in canvas.strips(x.shape[1]):
        inputs = _transform_tiles(input_transform, canvas.extract_tiles(x, strip, 6))  # (36, T, C)
        outputs = canvas.extract_tiles(grad, strip, 4)
        for total, block in zip(totals, outputs.split(_BLOCK, 2), strict=True):
            # (36, D, T) @ (36, T, C)
            total.baddbmm_(_transform_tiles(output_transform.T, block).transpose(1, 2), inputs)
    blocks = [(weight_transform.T @ total.view(36, -1)).T for total in totals]  # (D C, 9) each
    return torch.cat(blocks).view(grad.shape[1], x.shape[1], 3, 3)


def _make_transforms(like: Tensor) -> tuple[Tensor, ...]:
    """Return the transforms of inputs (36, 36), weights (36, 9) and outputs (16, 36)."""
    inputs, weights, outputs = (
        torch.tensor(matrix, dtype=torch.float64) for matrix in (_INPUT, _WEIGHT, _OUTPUT)
    )
    # In float64 until here: the entries are integers, only the division by 24 rounds.
    return tuple(torch.kron(each, each).to(like) for each in (inputs, weights / 24, outputs))


def _transform_tiles(transform: Tensor, tiles: Tensor) -> Tensor:
    """Transform tiles (rows, columns, C, n, n) by a matrix (36, n n) to (36, T, C)."""
    flat = tiles.permute(3, 4, 0, 1, 2).reshape(transform.shape[1], -1)  # (n n, T C)
    return mkldnn_linear(transform, flat.T).view(36, -1, tiles.shape[2])


class _Canvas:
    """Images side by side, with a line of zeros between neighbors.

    The line is the padding of both neighbors, and fewer tiles are cut off at the border: four
    small images need no more tiles than one image of their total size. The canvas exists in strips
    of tiles only, which stay in the caches.

    Args:
        x (Tensor): A map like those to be laid out, (B, C, H, W).
    """

    def __init__(self, x: Tensor) -> None:
        """Lay out the images in rows of four."""
        self.batch, _, self.height, self.width = x.shape
        self.columns = min(4, self.batch)  # of images
        self.rows = -(-self.batch // max(1, self.columns))  # rounded up
        self.cell_height = self.height + (self.rows > 1)
        self.cell_width = self.width + (self.columns > 1)
        # Rows and columns of tiles, rounded up.
        self.tiles = (
            -(-self.rows * self.cell_height // 4),
            -(-self.columns * self.cell_width // 4),
        )

    def strips(self, channels: int) -> Iterator[range]:
        """Yield ranges of rows of tiles, of about the same size."""
        rows = self.tiles[0]
        max_rows = max(1, _STRIP // max(1, self.tiles[1] * channels))
        step = -(-rows // -(-rows // max_rows)) if rows else 1
        return (range(start, min(start + step, rows)) for start in range(0, rows, step))

    def extract_tiles(self, x: Tensor, strip: range, size: int) -> Tensor:
        """Cut a strip of tiles out of images.

        Args:
            x (Tensor): Images, shape (B, C, H, W).
            strip (range): Rows of tiles.
            size (int): Side of a tile: 4 for its outputs, 6 for the inputs that they depend on,
                which overlap with those of the neighbors.

        Returns:
            Tensor: A view of shape (rows, columns, C, size, size).
        """
        border = (size - 4) // 2
        pixels = x.new_zeros(
            4 * len(strip) + 2 * border, 4 * self.tiles[1] + 2 * border, x.shape[1]
        )
        inner = pixels[:, border : pixels.shape[1] - border]
        for part, images in self._matching_views(inner, 4 * strip.start - border, x):
            part.copy_(images)
        return pixels.unfold(0, size, 4).unfold(1, size, 4)  # a stride of 4: inputs overlap by 2

    def scatter_output_tiles(self, pixels: Tensor, strip: range, y: Tensor) -> None:
        """Copy a strip's pixels (4 rows, 4 columns, D) to images (B, D, H, W)."""
        for part, images in self._matching_views(pixels, 4 * strip.start, y):
            images.copy_(part)

    def _matching_views(
        self, pixels: Tensor, first: int, x: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield views of a part of the canvas and of the images that lie at the same place.

        Args:
            pixels (Tensor): Lines of the canvas, shape (lines, pixels, C).
            first (int): Index of the first line in the canvas.
            x (Tensor): Images, shape (B, C, H, W).
        """
        channels_last = x.permute(0, 2, 3, 1)
        cells = (
            pixels[:, : self.columns * self.cell_width]
            .unflatten(1, (self.columns, self.cell_width))[:, :, : self.width]
            .transpose(0, 1)
        )  # (columns, lines, W, C)
        last = first + len(pixels)
        first_row = max(0, first) // self.cell_height
        for row in range(first_row, min(self.rows, -(-last // self.cell_height))):
            top = row * self.cell_height
            begin, end = max(first, top), min(last, top + self.height)  # lines of the canvas
            if begin < end:
                images = channels_last[row * self.columns : (row + 1) * self.columns]
                yield (
                    cells[: len(images), begin - first : end - first],
                    images[:, begin - top : end - top],
                )
