"""What the inferencer takes, as a list of sources.

A source is one picture file, array, video file or camera. Nothing is opened
here but folders.
"""
import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Union

import numpy as np

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif',
                  '.tiff', '.webp')
VIDEO_SUFFIXES = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg',
                  '.webm', '.wmv')

Input = Union[str, Path, np.ndarray, int]


class InputError(ValueError):
    """Something that cannot be used, or read, as an input."""


@dataclass(frozen=True)
class Source:
    """One thing to look at.

    Args:
        kind (str): 'image', 'array', 'video' or 'camera'.
        value (str | np.ndarray | int): A path as the user gave it, an image
            or the index of a camera.
        name (str): Relative name with '/', for what is written of it.
            Sources of different folders have different names.
    """
    kind: str
    value: Union[str, np.ndarray, int]
    name: str

    @property
    def title(self) -> str:
        """str: What messages and results call it."""
        is_file = self.kind in ('image', 'video')
        return str(self.value) if is_file else self.name

    @property
    def is_moving(self) -> bool:
        """bool: Whether it has frames."""
        return self.kind in ('video', 'camera')


@dataclass(frozen=True)
class _File:
    path: str
    folder: str  # what its name is relative to, as far as it goes


def collect(inputs: Union[Input, Sequence[Input]],
            leave_out: Optional[Union[str, Path]] = None) -> List[Source]:
    """List the sources that the inputs stand for.

    Of a folder the pictures are taken, with those of its subfolders; hidden
    ones are not. A glob pattern takes whatever files match. Both are sorted.

    Args:
        inputs: A path, array, folder, glob pattern, video file or camera
            index, or a list of them.
        leave_out (str | Path, optional): A folder whose pictures are not
            taken when it lies within a given folder: that of earlier
            results.

    Returns:
        list[Source]: At least one. A path in a list that does not exist is
        a source, too: it counts as one that cannot be read.

    Raises:
        InputError: If there is nothing to look at, or an array is no image.
        FileNotFoundError: If the only path does not exist.
    """
    is_list = isinstance(inputs, (list, tuple))
    items = list(inputs) if is_list else [inputs]
    if not items:
        raise InputError('inputs: expected at least one, found an empty list')
    expanded = []
    for index, item in enumerate(items):
        where = f'inputs[{index}]' if is_list else 'inputs'
        expanded += _expand(item, index, where, leave_out)
    if not is_list and isinstance(expanded[0], _File):
        _require(expanded[0].path)
    return _name(expanded)


def _expand(item: Input, index: int, where: str,
            leave_out: Optional[Union[str, Path]]) -> list:
    if isinstance(item, np.ndarray):
        check_image(item, where)
        return [Source('array', item, f'array-{index:06d}')]
    if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
        return [Source('camera', int(item), f'camera-{item}')]
    if not isinstance(item, (str, Path)):
        raise InputError(
            f'{where}: expected a path, an array, a folder, a glob pattern, '
            f'the index of a camera or a list of them, found '
            f'{type(item).__name__}')
    path = os.path.expanduser(str(item))
    if os.path.isdir(path):
        return _list_folder(path, leave_out)
    if not os.path.exists(path) and glob.has_magic(path):
        return _list_matches(path)
    return [_File(path, os.path.dirname(path))]


def check_image(image: np.ndarray, where: str) -> None:
    """Refuse an array that is no BGR image.

    Args:
        image (np.ndarray): Any array.
        where (str): What messages call it.

    Raises:
        InputError: If it is not (H, W, 3) uint8 with at least one pixel.
    """
    fits = image.ndim == 3 and image.shape[-1] == 3 and image.size
    if not fits or image.dtype != np.uint8:
        raise InputError(
            f'{where}: expected an image as an array of shape (height, '
            'width, 3), channels blue, green, red, and type uint8; found '
            f'shape {image.shape}, type {image.dtype}')


def _list_folder(folder: str,
                 leave_out: Optional[Union[str, Path]]) -> List[_File]:
    found, others = [], 0
    skip = leave_out is not None and _lies_in(Path(leave_out), folder)
    for path in sorted(Path(folder).rglob('*')):
        inside = path.relative_to(folder)
        hidden = any(part.startswith('.') for part in inside.parts)
        if hidden or (skip and _lies_in(path, leave_out)) or path.is_dir():
            continue
        if path.suffix.lower() in IMAGE_SUFFIXES:
            found.append(_File(str(path), folder))
        else:
            others += 1
    if not found:
        raise InputError(
            f'{folder}: expected pictures ({", ".join(IMAGE_SUFFIXES)}) in '
            f'this folder, found none and {others} other files. Videos are '
            'given by their own path.')
    return found


def _lies_in(path: Path, folder: Union[str, Path]) -> bool:
    return Path(folder).resolve() in path.resolve().parents


def _list_matches(pattern: str) -> List[_File]:
    paths = filter(os.path.isfile, sorted(glob.glob(pattern, recursive=True)))
    fixed = os.path.dirname(pattern[:_first_wildcard(pattern)])
    found = [_File(path, fixed) for path in paths]
    if not found:
        raise InputError(
            f'{pattern}: expected a path or a glob pattern of files, found '
            f'no file that matches (looked from {os.getcwd()})')
    return found


def _first_wildcard(pattern: str) -> int:
    return min(pattern.index(mark) for mark in '*?[' if mark in pattern)


def _require(path: str) -> None:
    if not os.path.exists(path):
        raise FileNotFoundError(
            f'{path}: expected a picture, a video, a folder or a glob '
            f'pattern, found nothing there (looked from {os.getcwd()})')


def _name(expanded: list) -> List[Source]:
    """Turn files into sources, named relative to what they share."""
    files = [item for item in expanded if isinstance(item, _File)]
    folders = {os.path.abspath(file.folder) for file in files}
    root = os.path.commonpath(folders) if folders else ''
    return [
        _to_source(item, root) if isinstance(item, _File) else item
        for item in expanded
    ]


def _to_source(file: _File, root: str) -> Source:
    is_video = Path(file.path).suffix.lower() in VIDEO_SUFFIXES
    name = os.path.relpath(os.path.abspath(file.path), root)
    return Source('video' if is_video else 'image', file.path,
                  name.replace(os.sep, '/'))
