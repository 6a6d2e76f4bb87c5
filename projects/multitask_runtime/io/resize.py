"""Pictures resized as the test pipelines do it, to the very same pixels.

The pipelines' ``Resize``, ``ResizeShortestEdge`` and ``FloatResize`` are those
of mmdet and of ``projects/multitask_refine/datasets/transforms/formatting.py``. Sizes are
(width, height) in pixels.
"""

from typing import Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from multitask_runtime.utils.errors import OnnxError

from .image_file import import_pillow

Size = Tuple[int, int]
# No pipeline resizes a picture of this aspect ratio to nothing.
MAX_ASPECT = 50
_CV2_CODES = dict(
    nearest=cv2.INTER_NEAREST,
    bilinear=cv2.INTER_LINEAR,
    bicubic=cv2.INTER_CUBIC,
    area=cv2.INTER_AREA,
    lanczos=cv2.INTER_LANCZOS4,
)


def is_narrow(image: np.ndarray) -> bool:
    """Whether a picture (H, W, 3) is narrower than :data:`MAX_ASPECT`."""
    return max(image.shape[:2]) > MAX_ASPECT * min(image.shape[:2])


def limit_aspect(image: np.ndarray) -> np.ndarray:
    """Stretch a picture that is too narrow for the pipelines.

    They keep the aspect ratio, and would make its short side zero pixels.

    Args:
        image (np.ndarray): (H, W, 3) uint8.

    Returns:
        np.ndarray: The same picture, or (H', W', 3) whose shorter side is at
        least a ``MAX_ASPECT``-th of the other.
    """
    if not is_narrow(image):
        return image
    height, width = image.shape[:2]
    least = -(-max(height, width) // MAX_ASPECT)  # rounded up
    return cv2.resize(image, (max(width, least), max(height, least)))


class Resizer:
    """Resizes pictures as a description says.

    Args:
        settings (dict): ``type`` and arguments of the pipeline's step.

    Raises:
        OnnxError: If there is no such step here, or it needs Pillow, which is
            not installed.
    """

    def __init__(self, settings: dict) -> None:
        settings = dict(settings)
        kind = str(settings.pop('type', None)).split('.')[-1]
        if kind not in _KINDS:
            raise OnnxError(f'resize: expected one of {", ".join(_KINDS)}, found {kind}')
        self._find_size, self._resize = _KINDS[kind]
        self._method = dict(
            backend=settings.pop('backend', 'cv2'),
            interpolation=settings.pop('interpolation', 'bilinear'),
        )
        settings.pop('clip_object_border', None)  # a matter of training
        self._arguments = settings
        try:
            self._find_size((4, 3), **settings)
        except TypeError as error:
            raise OnnxError(f'resize: {kind} with {settings}: {error}') from None
        if self._method['backend'] == 'pillow':
            import_pillow('resizes')

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Resize a picture.

        Args:
            image (np.ndarray): (H, W, 3) uint8.

        Returns:
            np.ndarray: (H', W', 3), uint8 or float32.

        Raises:
            OnnxError: If nothing would be left of it.
        """
        height, width = image.shape[:2]
        size = self._find_size((width, height), **self._arguments)
        if min(size) < 1:
            raise OnnxError(
                f'an image of {width} x {height} pixels would be resized to '
                f'{size[0]} x {size[1]}: expected a less narrow one'
            )
        return self._resize(image, size, **self._method)


# ---- sizes


def _fit(size: Size, scale: Union[int, Sequence[int]], keep_ratio: bool = False) -> Size:
    """As large as possible within the scale, or just as the scale says."""
    scale = (scale, scale) if isinstance(scale, int) else tuple(scale)
    if not keep_ratio:
        return scale
    ratio = min(max(scale) / max(size), min(scale) / min(size))
    return _round(size[0] * ratio), _round(size[1] * ratio)


def _fit_shortest_edge(
    size: Size, scale: Union[int, Sequence[int]], max_size: Optional[int] = None
) -> Size:
    width, height = size
    shortest = float(scale if isinstance(scale, int) else min(scale))
    factor = shortest / min(size)
    # The shorter side is not multiplied, so no rounding moves it.
    if height < width:
        width, height = factor * width, shortest
    else:
        width, height = shortest, factor * height
    if max_size and max(width, height) > max_size:
        factor = max_size / max(width, height)
        width, height = width * factor, height * factor
    return _round(width), _round(height)


def _round_down(size: Size, scale: Sequence[int]) -> Size:
    ratio = min(min(scale) / min(size), max(scale) / max(size))
    return int(size[0] * ratio), int(size[1] * ratio)


def _round(length: float) -> int:
    return int(length + 0.5)


# ---- pixels


def _resize_whole(image: np.ndarray, size: Size, backend: str, interpolation: str) -> np.ndarray:
    """As mmcv's ``imresize``; uint8 stays uint8."""
    if backend == 'pillow':
        pillow = import_pillow('resizes')
        code = pillow.Image.Resampling[interpolation.upper()]
        return np.array(pillow.Image.fromarray(image).resize(size, code))
    return cv2.resize(image, size, interpolation=_CV2_CODES[interpolation])


def _resize_float(image: np.ndarray, size: Size, **_) -> np.ndarray:
    """As torch's bilinear ``interpolate`` without aligned corners, in float32:
    no value is rounded."""
    image = image.astype(np.float32)
    for axis, length in enumerate(size[::-1]):
        low, high, weight = _neighbours(image.shape[axis], length)
        weight = weight.reshape([-1 if i == axis else 1 for i in range(3)])
        image = image.take(low, axis) * (1 - weight) + image.take(high, axis) * weight
    return image


def _neighbours(old: int, new: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two old pixels next to each new one, and the second's weight."""
    # torch divides in float32; product and difference are rounded once.
    scale = float(np.float32(old) / np.float32(new))
    place = (scale * (np.arange(new) + 0.5) - 0.5).astype(np.float32)
    place = np.maximum(place, 0)
    low = np.minimum(place.astype(int), old - 1)
    return low, np.minimum(low + 1, old - 1), place - low.astype(np.float32)


_KINDS = dict(
    Resize=(_fit, _resize_whole),
    ResizeShortestEdge=(_fit_shortest_edge, _resize_whole),
    FloatResize=(_round_down, _resize_float),
)
