"""Check that image files are present, complete and of the annotated size."""

import io
import os
from collections.abc import Iterable

import cv2
import numpy as np
from PIL import Image

from multitask_refine.utils.errors import ExplainedError
from multitask_runtime.io.image_file import find_truncation

from .issues import Issue

_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_EXIF_ORIENTATION = 0x0112
_REMOVED = 'image and its annotations removed'

# Kinds of images that are converted when they are read.
NOTES = {
    'grayscale': 'is read as three equal channels',
    '16 bit': 'is read with 8 bits; 16-bit grayscale turns white if imdecode_backend is pillow',
    'CMYK': 'is read as RGB; OpenCV and Pillow convert differently',
    'palette': 'is read as RGB',
    'transparent': 'is read without its alpha channel; grayscale is composed onto gray if '
    'imdecode_backend is pillow',
    'rotated by EXIF': 'is read rotated; check that it was annotated rotated, too',
}


class ImageError(ExplainedError, ValueError):
    """An image that cannot be used.

    Args:
        path: Image file.
        reason: Expected and found content.
    """

    def __init__(self, path: str, reason: str = '') -> None:
        # A loader worker passes on the whole message as the only argument.
        super().__init__(f'{path}: {reason}' if reason else path)
        self.path = path
        self.reason = reason


def list_missing(paths: Iterable[str]) -> set[str]:
    """Return the paths at which no file exists, listing each folder once."""
    folders: dict[str, set[str]] = {}
    missing = set()
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            try:
                with os.scandir(folder or '.') as entries:
                    folders[folder] = {entry.name for entry in entries}
            except (FileNotFoundError, NotADirectoryError):
                folders[folder] = set()
        if name not in folders[folder]:
            missing.add(path)
    return missing


def check_image(path: str, width: int, height: int) -> tuple[Issue | None, list[str]]:
    """Decode an image file and compare it with its entry.

    Args:
        path: Image file.
        width: Width in the annotation file.
        height: Height in the annotation file.

    Returns:
        The issue of the image, whose ``change`` is the actual size if that is all that differs,
        and the keys of :data:`NOTES` that apply.
    """

    def unusable(rule: str, found: str, expected: str = 'an image') -> tuple[Issue, list[str]]:
        return Issue(rule, found, expected, _REMOVED), []

    try:
        with open(path, 'rb') as file:
            content = file.read()
    except FileNotFoundError as error:
        return unusable('image_missing', str(error.strerror))
    except OSError as error:
        return unusable('image_unreadable', str(error.strerror))
    found = find_truncation(content)
    if found:
        return unusable('image_truncated', found, 'a complete image')
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
            size, mode = image.size, image.mode
    except Exception as error:  # decoders raise almost anything; also too many pixels
        message = (str(error) or type(error).__name__).splitlines()[0]
        return unusable('image_unreadable', message)
    try:
        # An eighth of the size is decoded in a fraction of the time.
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_REDUCED_COLOR_8)
    except cv2.error:
        decoded = None
    if decoded is None:
        return unusable('image_unreadable', 'a format unknown to OpenCV')

    is_deep = mode[0] in 'IF' or (content.startswith(_PNG_SIGNATURE) and content[24] == 16)
    applies = {
        'grayscale': mode in ('1', 'L', 'LA', 'La') or mode[0] in 'IF',
        '16 bit': is_deep,
        'CMYK': mode == 'CMYK',
        'palette': mode in ('P', 'PA'),
        'transparent': mode in ('RGBA', 'LA', 'PA', 'RGBa', 'La'),
        'rotated by EXIF': orientation in range(2, 9),
    }
    notes = [name for name in NOTES if applies[name]]

    swaps_sides = orientation in (5, 6, 7, 8)
    decoded_size = size[::-1] if swaps_sides else size
    if decoded_size == (width, height):
        return None, notes
    rule, found = 'image_shape', f'{decoded_size[0]} x {decoded_size[1]}'
    if swaps_sides and size == (width, height):
        rule, found = 'image_rotated', f'{found} after the rotation by EXIF'
    expected = f'{width} x {height} pixels as annotated'
    change = dict(width=decoded_size[0], height=decoded_size[1])
    return Issue(rule, found, expected, _REMOVED, change), notes
