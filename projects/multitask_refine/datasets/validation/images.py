"""What an image file must be: there, whole, and of the size that the
annotations say."""

import io
import os
from typing import Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

import cv2
import numpy as np
from PIL import Image

from multitask_refine.utils.errors import ExplainedError
from multitask_runtime.io.image_file import find_truncation

_PNG = b'\x89PNG\r\n\x1a\n'
_ORIENTATION = 0x0112

# Kinds of pictures that are fine, and what the network gets of them.
NOTES = {
    'grey': 'is read as three equal channels',
    '16 bit': 'is read with 8 bits; grey of 16 bits turns white where imdecode_backend is pillow',
    'CMYK': 'is read as RGB; OpenCV and Pillow convert differently',
    'palette': 'is read as RGB',
    'transparent': 'is read without its transparency; grey is laid on grey '
    'where imdecode_backend is pillow',
    'turned by EXIF': 'is read turned; see whether its annotations were made '
    'on the turned picture',
}


class ImageError(ExplainedError, ValueError):
    """An image that cannot be used.

    Args:
        path (str): The file.
        reason (str): What was expected of it, and what was found.
    """

    def __init__(self, path: str, reason: str = '') -> None:
        # A loader's worker hands on nothing but the whole message.
        super().__init__(f'{path}: {reason}' if reason else path)
        self.path = path
        self.reason = reason


class ImageFault(NamedTuple):
    """What is wrong with an image file.

    Attributes:
        rule: Name of the rule.
        found: In words.
        expected: In words.
        size: Width and height in pixels as the network would get them, if
            they are all that is wrong.
    """

    rule: str
    found: str
    expected: str
    size: Optional[Tuple[int, int]] = None


def list_missing(paths: Iterable[str]) -> Set[str]:
    """Which of many files are missing. Each folder is listed once.

    Args:
        paths (Iterable[str]): Paths of files.
    """
    folders: Dict[str, Set[str]] = {}
    missing = set()
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = _list_folder(folder)
        if name not in folders[folder]:
            missing.add(path)
    return missing


def _list_folder(folder: str) -> Set[str]:
    try:
        with os.scandir(folder or '.') as entries:
            return {entry.name for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def inspect_image(path: str, width: int, height: int) -> Tuple[Optional[ImageFault], List[str]]:
    """Decode one file and compare it with its entry.

    Args:
        path (str): The file.
        width (int): That the annotation file says.
        height (int): That the annotation file says.

    Returns:
        tuple[ImageFault | None, list[str]]: What is wrong, and which of
        :data:`NOTES` hold.
    """
    try:
        with open(path, 'rb') as file:
            content = file.read()
    except OSError as error:
        rule = 'image_missing' if isinstance(error, FileNotFoundError) else 'image_unreadable'
        return ImageFault(rule, str(error.strerror), 'a picture'), []
    found = find_truncation(content)
    if found:
        return ImageFault('image_truncated', found, 'a whole picture'), []
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            orientation = image.getexif().get(_ORIENTATION, 1)
            size, mode = image.size, image.mode
    # Decoders raise nearly anything; and a picture of too many pixels.
    except Exception as error:
        return ImageFault('image_unreadable', _first_line(error), 'a picture'), []
    if not _opencv_reads(content):
        return ImageFault('image_unreadable', 'a format unknown to OpenCV', 'a picture'), []
    return _compare_size(size, orientation, (width, height)), _notes(mode, content, orientation)


def _compare_size(
    stored: Tuple[int, int], orientation: int, expected: Tuple[int, int]
) -> Optional[ImageFault]:
    is_turned = orientation in (5, 6, 7, 8)
    read = stored[::-1] if is_turned else stored
    if read == expected:
        return None
    text = f'{expected[0]} x {expected[1]} pixels as annotated'
    found = f'{read[0]} x {read[1]}'
    if is_turned and stored == expected:
        return ImageFault('image_turned', f'{found} once turned as its EXIF says', text, read)
    return ImageFault('image_shape', found, text, read)


def _notes(mode: str, content: bytes, orientation: int) -> List[str]:
    is_deep = mode[0] in 'IF' or (content.startswith(_PNG) and content[24] == 16)
    holds = {
        'grey': mode in ('1', 'L', 'LA', 'La') or mode[0] in 'IF',
        '16 bit': is_deep,
        'CMYK': mode == 'CMYK',
        'palette': mode in ('P', 'PA'),
        'transparent': mode in ('RGBA', 'LA', 'PA', 'RGBa', 'La'),
        'turned by EXIF': orientation in range(2, 9),
    }
    return [name for name in NOTES if holds[name]]


def _opencv_reads(content: bytes) -> bool:
    try:
        # An eighth of the size takes a part of the time.
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_REDUCED_COLOR_8)
    except cv2.error:
        return False
    return image is not None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
