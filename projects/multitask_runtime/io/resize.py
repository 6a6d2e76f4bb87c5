"""Resize images as the test pipelines do, to the very same pixels.

The steps ``Resize``, ``ResizeShortestEdge`` and ``FloatResize`` are those of
MMDetection and of ``multitask_refine.datasets``. Sizes are (width, height) in
pixels.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from multitask_runtime.utils.errors import OnnxError
from multitask_runtime.utils.types import Array

from .image_file import import_pillow

Size = tuple[int, int]
# No pipeline resizes an image of this aspect ratio to nothing.
MAX_ASPECT = 50
_CV2_CODES = dict(
    nearest=cv2.INTER_NEAREST,
    bilinear=cv2.INTER_LINEAR,
    bicubic=cv2.INTER_CUBIC,
    area=cv2.INTER_AREA,
    lanczos=cv2.INTER_LANCZOS4,
)


def is_narrow(image: Array) -> bool:
    """Tell whether an image (H, W, 3) is narrower than :data:`MAX_ASPECT`."""
    short, long = sorted(image.shape[:2])
    return bool(long > MAX_ASPECT * short)


def limit_aspect(image: Array) -> Array:
    """Stretch an image that is too narrow for the pipelines.

    They keep the aspect ratio, and would make its short side zero pixels.

    Args:
        image (np.ndarray): uint8, shape (H, W, 3).

    Returns:
        np.ndarray: The same image, or one of shape (H', W', 3) whose short side is at
        least 1 / ``MAX_ASPECT`` of the long one.
    """
    if not is_narrow(image):
        return image
    height, width = image.shape[:2]
    least = -(-max(height, width) // MAX_ASPECT)  # rounded up
    return cv2.resize(image, (max(width, least), max(height, least)))


class Resizer:
    """Resize images like a step of the test pipeline.

    Args:
        settings (dict): ``type`` and arguments of the step.

    Raises:
        OnnxError: If the step is unknown or its arguments are wrong, or it needs
            Pillow, which is not installed.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        settings = dict(settings)
        kind = str(settings.pop('type', None)).split('.')[-1]
        if kind not in _SIZE_RULES:
            raise OnnxError(f'resize: expected one of {", ".join(_SIZE_RULES)}, found {kind}')
        self._find_size = _SIZE_RULES[kind]
        self._is_float = kind == 'FloatResize'
        self._backend = settings.pop('backend', 'cv2')
        self._interpolation = settings.pop('interpolation', 'bilinear')
        settings.pop('clip_object_border', None)  # for training only
        self._arguments = settings
        try:
            self._find_size((4, 3), **settings)
        except TypeError as error:
            raise OnnxError(f'resize: {kind} with {settings}: {error}') from None
        if self._backend == 'pillow':
            import_pillow('resizes')

    def __call__(self, image: Array) -> Array:
        """Resize an image.

        Args:
            image (np.ndarray): uint8, shape (H, W, 3).

        Returns:
            np.ndarray: uint8, or float32 for 'FloatResize', shape (H', W', 3).

        Raises:
            OnnxError: If the image would be resized to nothing.
        """
        height, width = image.shape[:2]
        size = self._find_size((width, height), **self._arguments)
        if min(size) < 1:
            raise OnnxError(
                f'an image of {width} x {height} pixels would be resized to '
                f'{size[0]} x {size[1]}: expected a less narrow one'
            )
        if self._is_float:
            return interpolate(image, size)
        if self._backend == 'pillow':
            pillow = import_pillow('resizes')
            code = pillow.Image.Resampling[self._interpolation.upper()]
            return np.array(pillow.Image.fromarray(image).resize(size, code))
        return cv2.resize(image, size, interpolation=_CV2_CODES[self._interpolation])


def rescale_size(size: Size, scale: int | Sequence[int], keep_ratio: bool = False) -> Size:
    """Compute the size as mmcv's ``rescale_size``: as large as fits into the scale.

    Args:
        size (tuple[int, int]): Size of the image.
        scale (int | Sequence[int]): Both sides, in any order with ``keep_ratio``.
        keep_ratio (bool): Whether to keep the aspect ratio. Defaults to False.
    """
    long, short = (scale, scale) if isinstance(scale, int) else (scale[0], scale[1])
    if not keep_ratio:
        return long, short
    ratio = min(max(long, short) / max(size), min(long, short) / min(size))
    return _round(size[0] * ratio), _round(size[1] * ratio)


def shortest_edge_size(
    size: Size, scale: int | Sequence[int], max_size: int | None = None
) -> Size:
    """Compute the size as Detectron2's ``ResizeShortestEdge``.

    Args:
        size (tuple[int, int]): Size of the image.
        scale (int | Sequence[int]): Length of the short side, or the least of several.
        max_size (int, optional): Greatest length of the long side.
    """
    shortest = float(scale if isinstance(scale, int) else min(scale))
    factor = shortest / min(size)
    # The short side is not multiplied, so rounding cannot change it.
    if size[1] < size[0]:
        width, height = factor * size[0], shortest
    else:
        width, height = shortest, factor * size[1]
    if max_size and max(width, height) > max_size:
        factor = max_size / max(width, height)
        width, height = width * factor, height * factor
    return _round(width), _round(height)


def float_size(size: Size, scale: Sequence[int]) -> Size:
    """Compute the size as torchvision's ``GeneralizedRCNNTransform``: rounded down.

    Args:
        size (tuple[int, int]): Size of the image.
        scale (Sequence[int]): Greatest lengths of the two sides, in any order.
    """
    ratio = min(min(scale) / min(size), max(scale) / max(size))
    return int(size[0] * ratio), int(size[1] * ratio)


def _round(length: float) -> int:
    return int(length + 0.5)


def interpolate(image: Array, size: Size) -> Array:
    """Resize as torch's bilinear ``interpolate`` (``align_corners=False``) in float32.

    Args:
        image (np.ndarray): uint8, shape (H, W, 3).
        size (tuple[int, int]): (W', H').

    Returns:
        np.ndarray: float32, not rounded, shape (H', W', 3).
    """
    image = image.astype(np.float32)
    for axis, length in enumerate(size[::-1]):
        old = image.shape[axis]
        # torch divides in float32; product and difference are rounded once.
        scale = float(np.float32(old) / np.float32(length))
        position = (scale * (np.arange(length) + 0.5) - 0.5).astype(np.float32)
        position = np.maximum(position, 0)
        low = np.minimum(position.astype(int), old - 1)
        high = np.minimum(low + 1, old - 1)
        weight = position - low.astype(np.float32)
        # (length) -> broadcast along the axis of (H, W, 3)
        weight = weight.reshape([-1 if i == axis else 1 for i in range(3)])
        image = image.take(low, axis) * (1 - weight) + image.take(high, axis) * weight
    return image


_SIZE_RULES: dict[str, Any] = dict(
    Resize=rescale_size, ResizeShortestEdge=shortest_edge_size, FloatResize=float_size
)
