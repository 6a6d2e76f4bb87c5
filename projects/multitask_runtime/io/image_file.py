"""Picture files, read as the test pipelines read them.

Pillow is needed only by networks that were trained on pictures that Pillow
decoded. Where it is installed, it also looks at the size in a file's header
before anything is decoded.
"""

import io
import os
from types import ModuleType
from typing import Optional

import cv2
import numpy as np

from multitask_runtime.utils.errors import InputError, OnnxError

MAX_PIXELS = 178956970  # twice Pillow's limit of warning, where it refuses
_TOO_LARGE = f'expected a picture of at most {MAX_PIXELS} pixels.'
_JPEG, _JPEG_END = b'\xff\xd8', b'\xff\xd9'
_PNG, _PNG_END = b'\x89PNG\r\n\x1a\n', b'IEND\xaeB`\x82'
_SCAN = 0xDA  # the marker after which a JPEG's pixels come
_CANVAS = (124, 117, 104)  # mmcv's colour behind transparent grey


class ImageFile:
    """Reads picture files.

    Args:
        backend (str): What decodes them, 'cv2' or 'pillow'. Defaults to
            'cv2'.

    Raises:
        OnnxError: If this is Pillow, and it is not installed.
    """

    def __init__(self, backend: str = 'cv2') -> None:
        self._backend = backend
        if backend == 'pillow':
            import_pillow('reads')

    def __call__(self, path: str) -> np.ndarray:
        """Read one file.

        Args:
            path (str): Path of the file.

        Returns:
            np.ndarray: (H, W, 3) BGR uint8, turned as EXIF says.

        Raises:
            InputError: If there is no such file, it is no whole picture, or
                one of more pixels than Pillow opens.
        """
        try:
            mode = _mode(path)
            if mode == 'F':
                raise _RefusedError(
                    'expected a picture of 8 or 16 bits a channel, found one of 32-bit floats'
                )
            # Pillow has no colour for grey of 16 bits and makes it white.
            deep = mode.startswith('I')
            image = self._read(path, 'cv2' if deep else self._backend)
            _check_size(image.shape[1], image.shape[0])
            return image
        except Exception as error:  # the decoders raise nearly anything
            raise InputError(f'{path}: {_explain(path, error)}') from None

    def _read(self, path: str, backend: str) -> np.ndarray:
        with open(path, 'rb') as file:
            content = file.read()
        found = find_truncation(content)
        if found:
            raise ValueError(found)
        decode = _decode_by_pillow if backend == 'pillow' else _decode
        return decode(content)


def count_pictures(path: str) -> int:
    """How many pictures or frames a file holds, as far as Pillow tells.

    Args:
        path (str): Path of the file.

    Returns:
        int: 1 as well if it is not known. A JPEG's previews do not count.
    """
    try:
        with import_pillow('reads').Image.open(path) as image:
            return 1 if image.format == 'MPO' else image.n_frames
    except Exception:  # no frames, or no format of Pillow's
        return 1


class _RefusedError(ValueError):
    """A picture that could be decoded, but is not; the message says why."""


def import_pillow(verb: str) -> ModuleType:
    """Import Pillow for a network that needs it.

    Args:
        verb (str): What the network's pipeline does with it.

    Raises:
        OnnxError: If it is not installed.
    """
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        raise OnnxError(
            f'Pillow is needed for this network, whose pipeline {verb} '
            f'pictures with it, and cannot be imported ({error}). Install '
            'it: pip install pillow'
        ) from None
    return PIL


def find_truncation(content: bytes) -> Optional[str]:
    """Whether a JPEG or PNG file ends too early, seen from its marks alone.

    Decoders fill the rest of such a picture with grey, without a word.

    Args:
        content (bytes): The file.

    Returns:
        str | None: What is missing. None if nothing is, and for other
        formats.
    """
    if not content:
        return 'an empty file'
    if content.startswith(_JPEG):
        # A thumbnail before the pixels has an end mark of its own.
        if content.find(_JPEG_END, _start_of_scan(content)) < 0:
            return f'{len(content)} bytes of a JPEG without its end mark'
    if content.startswith(_PNG) and _PNG_END not in content:
        return f'{len(content)} bytes of a PNG without its end mark'
    return None


def _start_of_scan(content: bytes) -> int:
    """Where a JPEG's pixels start; its length if they never do."""
    position = 2
    while position + 4 <= len(content):
        mark, kind = content[position : position + 2]
        if mark != 0xFF:
            return 2  # not as the standard has it: any end mark will do
        if kind == _SCAN:
            return position
        if kind == 0xFF:
            position += 1
        elif kind == 0x01 or 0xD0 <= kind <= 0xD8:
            position += 2
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4], 'big')
    return len(content)


def _mode(path: str) -> str:
    """Pillow's name of the colours; '' if it does not know the format, or
    is not installed.

    Its look at the header is also what keeps out pictures too large to be
    held in memory.
    """
    try:
        pillow = import_pillow('reads')
    except OnnxError:
        return ''
    try:
        with pillow.Image.open(path) as image:
            _check_size(*image.size)
            return image.mode
    except pillow.UnidentifiedImageError:
        return ''


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _RefusedError(f'{_TOO_LARGE} Found {width} x {height}')


def _decode(content: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError('no picture')
    return image


def _decode_by_pillow(content: bytes) -> np.ndarray:
    """As mmcv does: upright, and with its canvas behind transparent grey."""
    pillow = import_pillow('reads')
    image = pillow.ImageOps.exif_transpose(pillow.Image.open(io.BytesIO(content)))
    if image.mode == 'LA':
        alpha = image.convert('RGBA')
        image = pillow.Image.new('RGB', alpha.size, _CANVAS)
        image.paste(alpha, mask=alpha.getchannel('A'))
    return np.array(image.convert('RGB'))[..., ::-1]


def _explain(path: str, error: Exception) -> str:
    if isinstance(error, _RefusedError):
        return str(error)
    if type(error).__name__ == 'DecompressionBombError':
        return f'{_TOO_LARGE} {error}'
    reason = getattr(error, 'strerror', None)
    return reason or (
        f'expected a picture, found {os.path.getsize(path)} bytes that are not a whole one'
    )
