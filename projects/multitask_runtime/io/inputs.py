"""Inputs of the inferencers: files, folders, glob patterns, arrays, cameras and streams.

Nothing but folders is opened here.
"""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from multitask_runtime.utils.errors import InputError
from multitask_runtime.utils.types import Array

IMAGE_SUFFIXES = (
    *('.avif', '.bmp', '.dib', '.gif', '.jfif', '.jp2', '.jpe', '.jpeg', '.jpg', '.mpo'),
    *('.pbm', '.pgm', '.png', '.pnm', '.ppm', '.tif', '.tiff', '.webp'),
)
VIDEO_SUFFIXES = (
    *('.3gp', '.asf', '.avi', '.flv', '.m2ts', '.m4v', '.mjpeg', '.mjpg', '.mkv', '.mov'),
    *('.mp4', '.mpeg', '.mpg', '.mts', '.ogv', '.ts', '.webm', '.wmv'),
)
_STREAM_SCHEMES = ('http', 'https', 'rtsp', 'rtsps')
_CAMERAS = range(2**31)  # OpenCV crashes at negative ones
_MAX_NAME = 100  # characters in the name of a stream

Input: TypeAlias = str | Path | Array | int


@dataclass(frozen=True)
class Source:
    """One image, array, video, camera or stream.

    Args:
        kind (str): Kind of the source; 'unusable' for an item of a list that cannot
            be used.
        value (str | np.ndarray | int): Path as the user gave it, array, index of the
            camera, URL (which may hold a password), or the reason why it is unusable.
        name (str): Relative name with '/', for the output files. Sources of different
            folders have different names.
    """

    kind: Literal['image', 'array', 'video', 'camera', 'stream', 'unusable']
    value: Any = field(repr=False)
    name: str

    @property
    def title(self) -> str:
        """str: Name in messages and results, without a password."""
        if self.kind == 'stream':
            return redact_url(self.value)
        return str(self.value) if self.kind in ('image', 'video') else self.name

    @property
    def is_moving(self) -> bool:
        """bool: Whether the source has frames."""
        return self.kind in ('video', 'camera', 'stream')


class Inputs(NamedTuple):
    """Sources and what was ignored.

    Args:
        sources (list[Source]): At least one.
        ignored (list[str]): For each folder or pattern with other files than images, a
            sentence that counts them.
    """

    sources: list[Source]
    ignored: list[str]


class _File(NamedTuple):
    path: str
    folder: str  # to which the name of its outputs is relative


def collect(inputs: Input | Sequence[Input], leave_out: str | Path | None = None) -> Inputs:
    """List the sources that the inputs stand for.

    A folder stands for its images and those of its subfolders, linked ones included,
    hidden ones not; a glob pattern for all files that match. Both are sorted.

    Args:
        inputs (str | Path | np.ndarray | int | list): Path, array, folder, glob
            pattern, video file, index of a camera or URL of a stream, or a list of them.
        leave_out (str | Path, optional): Folder of earlier results, whose images are
            not taken if it lies within a given folder.

    Returns:
        Inputs: Sources and ignored files. In a list, an item that does not exist or a
        folder without images is a source of the kind 'unusable'.

    Raises:
        InputError: If there is no usable input, or an array is not an image.
        FileNotFoundError: If the only path does not exist.
    """
    is_list = isinstance(inputs, (list, tuple))
    items: Sequence[Any] = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    if not items:
        raise InputError('inputs: expected at least one, found an empty list')
    expanded: list[Source | _File] = []
    ignored: list[str] = []
    for index, item in enumerate(items):
        where = f'inputs[{index}]' if is_list else 'inputs'
        try:
            expanded += _expand(item, index, where, leave_out, ignored)
        except InputError as error:
            # A wrong path in a list does not end the run, a wrong type does.
            if not is_list or not isinstance(item, (str, Path)):
                raise
            expanded.append(Source('unusable', str(error), where))
    files = [item for item in expanded if isinstance(item, _File)]
    if files and not is_list and not os.path.exists(files[0].path):
        raise FileNotFoundError(
            f'{files[0].path}: expected an image, a video, a folder or a glob '
            f'pattern, found nothing there (looked from {os.getcwd()})'
        )
    # Names are relative to the folder that all files share.
    folders = {os.path.abspath(file.folder) for file in files}
    root = os.path.commonpath(folders) if folders else ''
    sources = []
    for each in expanded:
        if isinstance(each, _File):
            is_video = Path(each.path).suffix.lower() in VIDEO_SUFFIXES
            name = os.path.relpath(os.path.abspath(each.path), root).replace(os.sep, '/')
            each = Source('video' if is_video else 'image', each.path, name)
        sources.append(each)
    return Inputs(sources, ignored)


def _expand(
    item: Any, index: int, where: str, leave_out: str | Path | None, ignored: list[str]
) -> Sequence[Source | _File]:
    """Turn one input into files and sources."""
    if isinstance(item, np.ndarray):
        check_image(item, where)
        return [Source('array', item, f'array-{index:06d}')]
    if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
        if item not in _CAMERAS:
            raise InputError(f'{where}: expected 0 or more as the index of a camera, found {item}')
        return [Source('camera', int(item), f'camera-{item}')]
    if not isinstance(item, (str, Path)):
        raise InputError(
            f'{where}: expected a path, an array, a folder, a glob pattern, the index of '
            f'a camera, the URL of a stream or a list of them, found {type(item).__name__}'
        )
    if isinstance(item, str) and re.match(r'[a-zA-Z][\w+.-]*://', item):
        return [_parse_url(item)]
    path = os.path.expanduser(str(item))
    if os.path.isdir(path):
        return _list_folder(path, leave_out, ignored)
    if path == '-' or os.path.exists(path) and not os.path.isfile(path):
        raise InputError(
            f'{path}: expected an image or video file, found no file. Standard input, '
            'pipes and devices are not read: save what they give to a file; a camera is '
            'given by its index, e.g. 0.'
        )
    if not os.path.exists(path) and glob.has_magic(path):
        return _list_matches(path, ignored)
    return [_File(path, os.path.dirname(path))]


def _parse_url(url: str) -> Source:
    title = redact_url(url)
    scheme, rest = title.split('://', 1)
    if scheme.lower() not in _STREAM_SCHEMES or not rest.strip('/'):
        raise InputError(
            f'{title}: expected the URL of a stream that starts with '
            f'{", ".join(f"{each}://" for each in _STREAM_SCHEMES)} and the name of a '
            'host; files are given by their path'
        )
    path = rest.split('?')[0]
    if Path(path).suffix.lower() in set(IMAGE_SUFFIXES) - {'.gif'}:
        raise InputError(
            f'{title}: expected the URL of a video or live stream, found that of an '
            'image. Download it and give the file.'
        )
    name = re.sub(r'[^\w.-]+', '-', path).strip('.-')
    return Source('stream', url, name[:_MAX_NAME] or 'stream')


def redact_url(url: str) -> str:
    """Remove from a URL what may be a user name, password or token.

    Args:
        url (str): URL of a stream.

    Returns:
        str: The URL without all before the last '@', with '...' in place of the query
        and of what follows any '=' in the path.
    """
    # Passwords hold '/', '?' and '#' unescaped, so the URL is not parsed before.
    url = re.sub(r'^([\w+.-]+://).*@', r'\1', url, flags=re.DOTALL)
    url = re.sub(r'[?#].*', '?...', url, flags=re.DOTALL)
    return re.sub(r'=[^/&;]*', '=...', url)


def check_image(image: Array, where: str) -> None:
    """Check that an array is a BGR image.

    Args:
        image (np.ndarray): Any array.
        where (str): Name of the array in messages.

    Raises:
        InputError: If it is not uint8 of shape (H, W, 3) with at least one pixel.
    """
    has_shape = image.ndim == 3 and image.shape[-1] == 3 and image.size
    if not has_shape or image.dtype != np.uint8:
        raise InputError(
            f'{where}: expected an image as an array of shape (height, width, 3), '
            'channels blue, green, red, and type uint8; found shape '
            f'{image.shape}, type {image.dtype}'
        )


def _list_folder(folder: str, leave_out: str | Path | None, ignored: list[str]) -> list[_File]:
    images: list[Path] = []
    others: Counter[str] = Counter()
    for parent, names in walk_folder(folder, leave_out, others):
        for path in (Path(parent, name) for name in names):
            suffix = path.suffix.lower()
            if path.name.startswith('.'):
                others['hidden files or folders'] += 1
            elif suffix not in IMAGE_SUFFIXES:
                others[f'{suffix} files' if suffix else 'files without a suffix'] += 1
            elif os.path.exists(path) and not os.path.isfile(path):
                others['pipes or devices'] += 1
            else:
                images.append(path)
    counts = ', '.join(f'{number} {kind}' for kind, number in sorted(others.items()))
    advice = ''
    if others.keys() & {'.heic files', '.heif files'}:
        advice += ' HEIC cannot be read here: convert it to JPEG, e.g. by heif-convert.'
    if others.keys() & {f'{suffix} files' for suffix in VIDEO_SUFFIXES}:
        advice += ' Videos are given by their own path.'
    if not images:
        raise InputError(
            f'{folder}: expected images ({", ".join(IMAGE_SUFFIXES)}) in this folder, '
            f'found {counts or "nothing"}.{advice}'
        )
    if others:
        ignored.append(f'ignored in {folder}: {counts}.{advice}')
    return [_File(str(path), folder) for path in sorted(images)]


def walk_folder(
    folder: str, leave_out: str | Path | None, others: Counter[str]
) -> Iterator[tuple[str, list[str]]]:
    """Yield a folder and those below it, linked ones too, with their files.

    Each folder is visited once, at its own place rather than through a link, so
    circular links end. What is passed over is counted in ``others``.
    """
    root = os.path.realpath(folder)
    earlier = leave_out and os.path.realpath(leave_out)
    seen: set[str] = set()
    queue = [folder]
    while queue:
        links = []
        for parent, folders, names in os.walk(
            queue.pop(0), onerror=lambda _: others.update(['unreadable folders'])
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
            paths = (os.path.join(parent, name) for name in folders)
            links += [path for path in paths if os.path.islink(path)]
            yield parent, names
        for link in links:
            target = os.path.join(os.path.realpath(link), '')
            if os.path.join(root, '').startswith(target):
                others['links to a folder that holds this one'] += 1
            else:
                queue.append(link)


def _list_matches(pattern: str, ignored: list[str]) -> list[_File]:
    matches = _match(pattern)
    paths = sorted(filter(os.path.isfile, matches))
    if not paths:
        raise InputError(
            f'{pattern}: expected a path or a glob pattern of files, found '
            f'no file that matches (looked from {os.getcwd()})'
        )
    # With '**' the folders are on the way to their files.
    if len(paths) < len(matches) and '**' not in pattern:
        ignored.append(
            f'ignored in {pattern}: {len(matches) - len(paths)} folders or others that '
            'are not files'
        )
    first_wildcard = min(pattern.index(mark) for mark in '*?[' if mark in pattern)
    folder = os.path.dirname(pattern[:first_wildcard])
    return [_File(path, folder) for path in paths]


def _match(pattern: str) -> set[str]:
    """Match as ``glob`` does, but without repeating '**' along circular links."""
    if re.search(r'(?<![^/])\*\*$', pattern):
        pattern += '/*'
    head, *tail = re.split(r'(?<![^/])\*\*/+', pattern, maxsplit=1)
    if not tail:
        return set(glob.glob(pattern))
    matches: set[str] = set()
    for start in filter(os.path.isdir, glob.glob(head) if head else [os.curdir]):
        for folder, _ in walk_folder(start, None, Counter()):
            if not head:
                folder = os.path.relpath(folder)
            prefix = '' if folder == os.curdir else glob.escape(folder)
            matches |= _match(os.path.join(prefix, *tail))
    return matches
