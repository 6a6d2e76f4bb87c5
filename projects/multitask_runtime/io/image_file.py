"""Read image files as the test pipelines do.

Pillow is needed only for models that were trained on images decoded by Pillow.
Where it is installed, it also checks the size in a file's header before
anything is decoded.
"""

import io
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from multitask_runtime.utils.errors import InputError, OnnxError
from multitask_runtime.utils.types import Array

MAX_PIXELS = 178956970  # twice the limit at which Pillow warns; there it refuses
_TOO_LARGE = f'expected an image of at most {MAX_PIXELS} pixels.'
_JPEG, _JPEG_END = b'\xff\xd8', b'\xff\xd9'
_PNG, _PNG_END = b'\x89PNG\r\n\x1a\n', b'IEND\xaeB`\x82'
_SCAN = 0xDA  # marker before the pixels of a JPEG
_EXIF_ORIENTATION, _QUARTER_TURNS = 0x0112, (5, 6, 7, 8)
_CANVAS = (124, 117, 104)  # mmcv's color behind transparent gray


class ImageFile:
    """Reader of image files.

    Args:
        backend (str): Decoder, 'cv2' or 'pillow'. Defaults to 'cv2'.

    Raises:
        OnnxError: If the decoder is Pillow and it is not installed.
    """

    def __init__(self, backend: str = 'cv2') -> None:
        self._backend = backend
        if backend == 'pillow':
            import_pillow('reads')

    def __call__(self, path: str) -> Array:
        """Read one file.

        Args:
            path (str): Path of the file.

        Returns:
            np.ndarray: BGR, uint8, shape (H, W, 3), rotated as EXIF says.

        Raises:
            InputError: If the file does not exist, is not a complete image, or has
                more pixels than Pillow opens.
        """
        try:
            mode = _check_header(path)
            if mode == 'F':
                raise _RefusedError(
                    'expected an image of 8 or 16 bits per channel, found one of 32-bit floats'
                )
            # Pillow makes gray of 16 bits ('I;16') white.
            image = self._read(path, 'cv2' if mode.startswith('I') else self._backend)
            _check_size(image.shape[1], image.shape[0])
            return image
        except Exception as error:  # the decoders raise nearly anything
            raise InputError(f'{path}: {_explain(path, error)}') from None

    def _read(self, path: str, backend: str) -> Array:
        with open(path, 'rb') as file:
            content = file.read()
        truncation = find_truncation(content)
        if truncation:
            raise ValueError(truncation)
        if backend != 'pillow':
            decoded: Array | None = cv2.imdecode(
                np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR
            )
            if decoded is None:  # OpenCV raises nothing
                raise ValueError('not an image')
            return decoded
        # As mmcv does: upright, and with its canvas behind transparent gray.
        pillow = import_pillow('reads')
        image = pillow.ImageOps.exif_transpose(pillow.Image.open(io.BytesIO(content)))
        if image.mode == 'LA':
            rgba = image.convert('RGBA')
            image = pillow.Image.new('RGB', rgba.size, _CANVAS)
            image.paste(rgba, mask=rgba.getchannel('A'))
        return np.array(image.convert('RGB'))[..., ::-1]  # RGB -> BGR


def encode_image(image: Array, path: str | os.PathLike[str]) -> bytes:
    """Encode an image in the format of a file name's suffix.

    Args:
        image (np.ndarray): BGR, uint8, shape (H, W, 3).
        path (str | os.PathLike): The file, which is not written.

    Returns:
        bytes: Content of the file.

    Raises:
        InputError: If OpenCV cannot write the format, or an image of this size in it.
    """
    suffix = Path(path).suffix
    try:
        is_encoded, content = cv2.imencode(suffix, image)
    except cv2.error:  # e.g. a WebP of more than 16383 pixels
        is_encoded = False
    if not is_encoded:
        raise InputError(
            f'{path}: OpenCV cannot write {image.shape[1]} x {image.shape[0]} pixels as '
            f'{suffix or "a file without a suffix"}'
        )
    encoded: bytes = content.tobytes()
    return encoded


class _RefusedError(ValueError):
    """An image that could be decoded, but is refused; the message says why."""


def read_size(path: str) -> tuple[int, int]:
    """Return width and height of an image file, rotated as EXIF says.

    Args:
        path (str): Path of the file.

    Raises:
        InputError: If it does not exist or is not an image.
    """
    try:
        pillow = import_pillow('reads')
        with pillow.Image.open(path) as image:
            width, height = image.size
            is_turned = image.getexif().get(_EXIF_ORIENTATION, 1) in _QUARTER_TURNS
            return (height, width) if is_turned else (width, height)
    except Exception:  # Pillow is not installed, or lacks the format
        height, width = ImageFile()(path).shape[:2]
        return width, height


def count_pages(path: str) -> int:
    """Count the images or frames in an image file, as far as Pillow can.

    Args:
        path (str): Path of the file.

    Returns:
        int: Number of images; 1 if unknown. Previews in a JPEG do not count.
    """
    try:
        with import_pillow('reads').Image.open(path) as image:
            return 1 if image.format == 'MPO' else int(image.n_frames)
    except Exception:  # no frames, or a format that Pillow lacks
        return 1


def import_pillow(verb: str) -> Any:
    """Import Pillow for a model that needs it.

    Args:
        verb (str): What the model's pipeline does with Pillow, 'reads' or 'resizes'.

    Raises:
        OnnxError: If it is not installed.
    """
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        raise OnnxError(
            f'Pillow is needed for this model, whose pipeline {verb} images with it, and '
            f'cannot be imported ({error}). Install it: pip install pillow'
        ) from None
    return PIL


def find_truncation(content: bytes) -> str | None:
    """Find out from the markers alone whether a JPEG or PNG file is truncated.

    Decoders fill the rest of such an image with gray, without a word.

    Args:
        content (bytes): Content of the file.

    Returns:
        str | None: What is missing; None for a complete file and for other formats.
    """
    if not content:
        return 'an empty file'
    if content.startswith(_PNG) and _PNG_END not in content:
        return f'{len(content)} bytes of a PNG without its end mark'
    if not content.startswith(_JPEG):
        return None
    # Walk over the segments of the JPEG up to its scan: a thumbnail in one of them has
    # an end mark of its own.
    position = 2
    while position + 4 <= len(content):
        mark, kind = content[position : position + 2]
        if mark != 0xFF:
            position = 2  # not as the standard has it: any end mark will do
            break
        if kind == _SCAN:
            break
        if kind == 0xFF:  # fill byte
            position += 1
        elif kind == 0x01 or 0xD0 <= kind <= 0xD8:  # markers without a segment
            position += 2
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4], 'big')
    else:
        position = len(content)
    if content.find(_JPEG_END, position) < 0:
        return f'{len(content)} bytes of a JPEG without its end mark'
    return None


def _check_header(path: str) -> str:
    """Check the size in the header, before images too large for the memory are decoded.

    Returns:
        str: Pillow's color mode; '' if Pillow lacks the format or is not installed.
    """
    try:
        pillow = import_pillow('reads')
    except OnnxError:
        return ''
    try:
        with pillow.Image.open(path) as image:
            _check_size(*image.size)
            return str(image.mode)
    except pillow.UnidentifiedImageError:
        return ''


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _RefusedError(f'{_TOO_LARGE} Found {width} x {height}')


def _explain(path: str, error: Exception) -> str:
    if isinstance(error, _RefusedError):
        return str(error)
    if type(error).__name__ == 'DecompressionBombError':
        return f'{_TOO_LARGE} {error}'
    reason = getattr(error, 'strerror', None)  # of an OSError
    return reason or (
        f'expected an image, found {os.path.getsize(path)} bytes that are not a complete one'
    )
