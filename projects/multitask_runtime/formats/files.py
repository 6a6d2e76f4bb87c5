"""Files of the conversions: read, written complete or not at all, never replaced."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from multitask_runtime.io.image_file import MAX_PIXELS, read_size
from multitask_runtime.schemas import explain
from multitask_runtime.utils.errors import FormatError


@contextlib.contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Make a folder that appears complete or not at all.

    Args:
        path (str | os.PathLike): The folder; must be missing or empty.

    Yields:
        Path: A folder beside it, to be filled in the ``with`` block.

    Raises:
        FormatError: If there is something of this name.
    """
    target = Path(path)
    if target.is_symlink() or target.exists() and not (target.is_dir() and is_empty(target)):
        raise FormatError(f'{target}: exists already; name a new or an empty folder')
    part = target.with_name(f'.{target.name}.{os.getpid()}.part')
    parents = [parent for parent in target.parents if not parent.exists()]
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        for parent in parents:
            with contextlib.suppress(OSError):  # another process may have written there
                parent.rmdir()
        raise


def is_empty(folder: Path) -> bool:
    """Return whether a folder has no entry."""
    return next(folder.iterdir(), None) is None


def write_new(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file that does not exist yet.

    Raises:
        FormatError: If there is something of this name.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = target.open('x', encoding='utf-8')
    except FileExistsError:
        raise FormatError(f'{target}: exists already; name a new file') from None
    with file:
        file.write(text)


def label_path(folder: Path, file_name: str, suffix: str, taken: dict[Path, str]) -> Path:
    """Return the path of an image's labels: its own with another suffix.

    Args:
        folder (Path): Folder of the labels.
        file_name (str): Path of the image, relative to the folder of the images.
        suffix (str): Suffix of the labels.
        taken (dict[Path, str]): Images by the path of their labels; is extended.

    Raises:
        FormatError: If another image has the same labels' path.
    """
    path = folder / PurePosixPath(file_name).with_suffix(suffix)
    if path in taken:
        raise FormatError(
            f'images: expected names that differ in more than the suffix, found {taken[path]!r} '
            f'and {file_name!r}, which would have the same file of labels. Rename one of them.'
        )
    taken[path] = file_name
    return path


def copy_image(images: Path, file_name: str, folder: Path) -> None:
    """Copy an image into a folder, under its relative path.

    Raises:
        FormatError: If it does not exist.
    """
    source, target = images / file_name, folder / file_name
    if not source.is_file():
        raise FormatError(f'{source}: expected an image that the annotations name, found no file')
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def find_size(
    declared: tuple[Any, Any], images: Path | None, file_name: str, where: str
) -> tuple[int, int]:
    """Return width and height as a file of labels gives them, or else those of the image.

    Raises:
        FormatError: If neither is there.
    """
    width, height = declared
    if width and height:
        check_size(width, height, where)
        return width, height
    if images is None or not (images / file_name).is_file():
        raise FormatError(
            f'{where}: expected the width and height of {file_name!r}, or the image to measure, '
            f'found neither. Name the folder of the images: --images FOLDER'
        )
    return read_size(str(images / file_name))


def check_size(width: int, height: int, where: str) -> None:
    """Check the size of an image in a file of labels, before masks of it are made.

    Raises:
        FormatError: If it is not positive, or has more pixels than any image that is read.
    """
    are_integers = type(width) is int and type(height) is int
    if not are_integers or min(width, height) < 1 or width * height > MAX_PIXELS:
        raise FormatError(
            f'{where}: expected width and height of an image of at most {MAX_PIXELS} pixels, '
            f'found {width!r:.20} and {height!r:.20}. Export it again.'
        )


def read_json(path: Path, kind: str) -> Any:
    """Read a JSON file.

    Args:
        path (Path): The file.
        kind (str): What it should be, for messages.

    Raises:
        FormatError: If it cannot be read.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise FormatError(f'{path}: cannot be read ({error.strerror})') from None
    except (ValueError, RecursionError):
        raise FormatError(
            f'{path}: expected {kind} in JSON, found invalid or truncated JSON. Export it again.'
        ) from None


class _Category(BaseModel):
    model_config = ConfigDict(extra='allow')
    id: int
    name: str
    keypoints: list[str] | None = None
    skeleton: list[tuple[int, int]] | None = None


class _Categories(BaseModel):
    categories: list[_Category]


def read_categories(path: Path) -> list[dict[str, Any]]:
    """Read the COCO categories that a conversion wrote beside the labels.

    Args:
        path (Path): The file; it may be missing.

    Returns:
        list[dict]: Categories, none without the file.

    Raises:
        FormatError: If there is another file of this name.
    """
    if not path.exists():
        return []
    kind = 'COCO categories with distinct ids and names'
    content = dict(categories=read_json(path, kind))
    categories = validate(_Categories, content, path, kind).categories
    for field in ('id', 'name'):
        values = [getattr(category, field) for category in categories]
        if len(set(values)) < len(values):
            raise FormatError(f'{path}: {field}: expected {kind}, found {values}. Correct them.')
    return [category.model_dump(mode='json', exclude_none=True) for category in categories]


def validate(model: type[BaseModel], content: Any, path: Path, kind: str) -> Any:
    """Validate content by a pydantic model.

    Raises:
        FormatError: With the first field that is wrong.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise FormatError(f'{path}: {explain(error)}. Expected {kind}; export it again.') from None
