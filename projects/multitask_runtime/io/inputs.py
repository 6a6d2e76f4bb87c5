"""What the inferencer takes, as a list of sources.

A source is one picture file, array, video file, camera or stream. Nothing is
opened here but folders.
"""

import glob
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

import numpy as np

from multitask_runtime.utils.errors import InputError

IMAGE_SUFFIXES = (
    '.avif',
    '.bmp',
    '.dib',
    '.gif',
    '.jfif',
    '.jp2',
    '.jpe',
    '.jpeg',
    '.jpg',
    '.mpo',
    '.pbm',
    '.pgm',
    '.png',
    '.pnm',
    '.ppm',
    '.tif',
    '.tiff',
    '.webp',
)
VIDEO_SUFFIXES = (
    '.3gp',
    '.asf',
    '.avi',
    '.flv',
    '.m2ts',
    '.m4v',
    '.mjpeg',
    '.mjpg',
    '.mkv',
    '.mov',
    '.mp4',
    '.mpeg',
    '.mpg',
    '.mts',
    '.ogv',
    '.ts',
    '.webm',
    '.wmv',
)
_STREAM_SCHEMES = ('http', 'https', 'rtsp', 'rtsps')
_CAMERAS = range(2**31)  # at negative ones OpenCV crashes
_MAX_NAME = 100  # characters of a stream's name

Input = Union[str, Path, np.ndarray, int]


@dataclass(frozen=True)
class Source:
    """One thing to look at.

    Args:
        kind (str): 'image', 'array', 'video', 'camera', 'stream' or
            'unusable'.
        value (str | np.ndarray | int): A path as the user gave it, an image,
            the index of a camera, an address, which may hold a password, or
            the sentence that says why it is unusable.
        name (str): Relative name with '/', for what is written of it.
            Sources of different folders have different names.
    """

    kind: str
    value: Union[str, np.ndarray, int] = field(repr=False)
    name: str

    @property
    def title(self) -> str:
        """str: What messages and results call it, without a password."""
        if self.kind == 'stream':
            return hide_credentials(self.value)
        is_file = self.kind in ('image', 'video')
        return str(self.value) if is_file else self.name

    @property
    def is_moving(self) -> bool:
        """bool: Whether it has frames."""
        return self.kind in ('video', 'camera', 'stream')


class Inputs(NamedTuple):
    """What :func:`collect` returns.

    Args:
        sources (list[Source]): At least one.
        left_out (list[str]): For each folder of which not all is taken, a
            sentence that counts the rest.
    """

    sources: List[Source]
    left_out: List[str]


@dataclass(frozen=True)
class _File:
    path: str
    folder: str  # what its name is relative to, as far as it goes


def collect(
    inputs: Union[Input, Sequence[Input]], leave_out: Optional[Union[str, Path]] = None
) -> Inputs:
    """List the sources that the inputs stand for.

    Of a folder the pictures are taken, with those of its subfolders, linked
    ones too; hidden ones are not. A glob pattern takes whatever files match.
    Both are sorted.

    Args:
        inputs: A path, array, folder, glob pattern, video file, camera index
            or address of a stream, or a list of them.
        leave_out (str | Path, optional): A folder whose pictures are not
            taken when it lies within a given folder: that of earlier
            results.

    Returns:
        Inputs: The sources and what was left out. An item of a list that
        does not exist, or a folder without pictures in a list, is a source,
        too: it counts as one that cannot be read.

    Raises:
        InputError: If there is nothing to look at, or an array is no image.
        FileNotFoundError: If the only path does not exist.
    """
    is_list = isinstance(inputs, (list, tuple))
    items = list(inputs) if is_list else [inputs]
    if not items:
        raise InputError('inputs: expected at least one, found an empty list')
    expanded, left_out = [], []
    for index, item in enumerate(items):
        where = f'inputs[{index}]' if is_list else 'inputs'
        try:
            expanded += _expand(item, index, where, leave_out, left_out)
        except InputError as error:
            # One item of a list does not end the others.
            if not is_list or not isinstance(item, (str, Path)):
                raise
            expanded.append(Source('unusable', str(error), where))
    if not is_list and isinstance(expanded[0], _File):
        _require(expanded[0].path)
    return Inputs(_name(expanded), left_out)


def _expand(
    item: Input, index: int, where: str, leave_out: Optional[Union[str, Path]], left_out: List[str]
) -> list:
    if isinstance(item, np.ndarray):
        check_image(item, where)
        return [Source('array', item, f'array-{index:06d}')]
    if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
        if item not in _CAMERAS:
            raise InputError(f'{where}: expected 0 or more as the index of a camera, found {item}')
        return [Source('camera', int(item), f'camera-{item}')]
    if not isinstance(item, (str, Path)):
        raise InputError(
            f'{where}: expected a path, an array, a folder, a glob pattern, '
            'the index of a camera, the address of a stream or a list of '
            f'them, found {type(item).__name__}'
        )
    if isinstance(item, str) and re.match(r'[a-zA-Z][\w+.-]*://', item):
        return [_to_stream(item)]
    path = os.path.expanduser(str(item))
    if os.path.isdir(path):
        return _list_folder(path, leave_out, left_out)
    if path == '-' or os.path.exists(path) and not os.path.isfile(path):
        raise InputError(
            f'{path}: expected a picture or video file, found no file. '
            'Standard input, pipes and devices are not read: save what they '
            'give to a file; a camera is given by its index, e.g. 0.'
        )
    if not os.path.exists(path) and glob.has_magic(path):
        return _list_matches(path, left_out)
    return [_File(path, os.path.dirname(path))]


def _to_stream(address: str) -> Source:
    title = hide_credentials(address)
    scheme, rest = title.split('://', 1)
    if scheme.lower() not in _STREAM_SCHEMES or not rest.strip('/'):
        raise InputError(
            f'{title}: expected an address of a stream that starts with '
            f'{", ".join(f"{each}://" for each in _STREAM_SCHEMES)} and the '
            'name of a host; files are given by their path'
        )
    path = rest.split('?')[0]
    if Path(path).suffix.lower() in set(IMAGE_SUFFIXES) - {'.gif'}:
        raise InputError(
            f'{title}: expected the address of a video or live stream, found '
            'that of a picture. Download it and give the file.'
        )
    name = re.sub(r'[^\w.-]+', '-', path).strip('.-')
    return Source('stream', address, name[:_MAX_NAME] or 'stream')


def hide_credentials(address: str) -> str:
    """Take out of an address what may be a user name, password or token.

    Args:
        address (str): The address of a stream.

    Returns:
        str: The same without all before the last '@', with '...' for the
        query and for what stands after any '=' in the path.
    """
    # Passwords hold '/', '?' and '#' unescaped, so nothing is parsed first.
    address = re.sub(r'^([\w+.-]+://).*@', r'\1', address, flags=re.DOTALL)
    address = re.sub(r'[?#].*', '?...', address, flags=re.DOTALL)
    return re.sub(r'=[^/&;]*', '=...', address)


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
            f'shape {image.shape}, type {image.dtype}'
        )


def _list_folder(
    folder: str, leave_out: Optional[Union[str, Path]], left_out: List[str]
) -> List[_File]:
    found, others = [], Counter()
    for parent, names in _walk(folder, leave_out, others):
        for path in (Path(parent, name) for name in names):
            suffix = path.suffix.lower()
            if path.name.startswith('.'):
                others['hidden files or folders'] += 1
            elif suffix not in IMAGE_SUFFIXES:
                others[f'{suffix} files' if suffix else 'files without a suffix'] += 1
            elif os.path.exists(path) and not os.path.isfile(path):
                others['pipes or devices'] += 1
            else:
                found.append(path)
    counts = ', '.join(f'{number} {what}' for what, number in sorted(others.items()))
    if not found:
        raise InputError(
            f'{folder}: expected pictures ({", ".join(IMAGE_SUFFIXES)}) in '
            f'this folder, found {counts or "nothing"}.{_advise(others)}'
        )
    if others:
        left_out.append(f'left out of {folder}: {counts}.{_advise(others)}')
    return [_File(str(path), folder) for path in sorted(found)]


def _walk(
    folder: str, leave_out: Optional[Union[str, Path]], others: Counter
) -> Iterator[Tuple[str, List[str]]]:
    """Yield a folder and those below it, linked ones too, with their files.

    Each is gone through once, under its own place rather than a link to it,
    so links in a circle end. What is passed over is counted in ``others``.
    """
    root = os.path.realpath(folder)
    earlier = leave_out and os.path.realpath(leave_out)
    seen, waiting = set(), [folder]
    while waiting:
        links = []
        for parent, folders, names in os.walk(
            waiting.pop(0), onerror=lambda _: others.update(['unreadable folders'])
        ):
            place = os.path.realpath(parent)
            if place in seen or place == earlier != root:
                if place not in seen:
                    others['folders of earlier results'] += 1
                folders.clear()
                continue
            seen.add(place)
            hidden = {name for name in folders if name.startswith('.')}
            if hidden:
                others['hidden files or folders'] += len(hidden)
            folders[:] = sorted(set(folders) - hidden)
            inside = [os.path.join(parent, name) for name in folders]
            links += [path for path in inside if os.path.islink(path)]
            yield parent, names
        for link in links:
            target = os.path.join(os.path.realpath(link), '')
            if os.path.join(root, '').startswith(target):
                others['links to a folder that holds this one'] += 1
            else:
                waiting.append(link)


def _advise(others: Counter) -> str:
    suffixes = {what.split()[0] for what in others}
    advice = ''
    if suffixes & {'.heic', '.heif'}:
        advice += ' HEIC cannot be read here: convert it to JPEG, e.g. by heif-convert.'
    if suffixes & set(VIDEO_SUFFIXES):
        advice += ' Videos are given by their own path.'
    return advice


def _list_matches(pattern: str, left_out: List[str]) -> List[_File]:
    matches = _match(pattern)
    paths = sorted(filter(os.path.isfile, matches))
    if not paths:
        raise InputError(
            f'{pattern}: expected a path or a glob pattern of files, found '
            f'no file that matches (looked from {os.getcwd()})'
        )
    # Of '**' the folders are on the way to their files.
    if len(paths) < len(matches) and '**' not in pattern:
        left_out.append(
            f'left out of {pattern}: {len(matches) - len(paths)} '
            'folders or others that are no files'
        )
    fixed = os.path.dirname(pattern[: _first_wildcard(pattern)])
    return [_File(path, fixed) for path in paths]


def _match(pattern: str) -> Set[str]:
    """What matches a pattern. Unlike in ``glob`` itself, links in a circle
    do not make '**' go on and on."""
    if re.search(r'(?<![^/])\*\*$', pattern):
        pattern += '/*'
    head, *tail = re.split(r'(?<![^/])\*\*/+', pattern, maxsplit=1)
    if not tail:
        return set(glob.glob(pattern))
    starts = filter(os.path.isdir, glob.glob(head) if head else [os.curdir])
    folders = (folder for start in starts for folder, _ in _walk(start, None, Counter()))
    if not head:
        folders = (os.path.relpath(folder) for folder in folders)
    return set().union(
        *(
            _match(os.path.join('' if folder == os.curdir else glob.escape(folder), *tail))
            for folder in folders
        )
    )


def _first_wildcard(pattern: str) -> int:
    return min(pattern.index(mark) for mark in '*?[' if mark in pattern)


def _require(path: str) -> None:
    if not os.path.exists(path):
        raise FileNotFoundError(
            f'{path}: expected a picture, a video, a folder or a glob '
            f'pattern, found nothing there (looked from {os.getcwd()})'
        )


def _name(expanded: list) -> List[Source]:
    """Turn files into sources, named relative to what they share."""
    files = [item for item in expanded if isinstance(item, _File)]
    folders = {os.path.abspath(file.folder) for file in files}
    root = os.path.commonpath(folders) if folders else ''
    return [_to_source(item, root) if isinstance(item, _File) else item for item in expanded]


def _to_source(file: _File, root: str) -> Source:
    is_video = Path(file.path).suffix.lower() in VIDEO_SUFFIXES
    name = os.path.relpath(os.path.abspath(file.path), root)
    return Source('video' if is_video else 'image', file.path, name.replace(os.sep, '/'))
