"""Split a dataset into shards, and read the images of one.

A shard is what one worker predicts in one go: some image files, a tar file in the layout of
WebDataset, or some row groups of a Parquet file.
"""

import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from multitask_runtime.io.inputs import IMAGE_SUFFIXES, walk_folder
from multitask_runtime.utils.errors import InputError, MissingPackageError

TAR_SUFFIXES = ('.tar', '.tar.gz', '.tgz')
_NAME_COLUMNS = ('file_name', 'path', 'key', '__key__')
_Kind: TypeAlias = Literal['files', 'tar', 'parquet']


@dataclass(frozen=True)
class Shard:
    """A part of a dataset.

    Args:
        number (int): Index of the shard in the dataset.
        kind (str): 'files', 'tar' or 'parquet'.
        path (str): The tar or Parquet file, or the folder of the image files.
        names (tuple[str]): Of 'files', the images relative to the folder.
        groups (tuple[int]): Of 'parquet', the indices of the row groups.
        first_row (int): Of 'parquet', the index of the first row of these.
        image_column (str): Of 'parquet', the column of image bytes.
        name_column (str, optional): Of 'parquet', the column of the images' names.
    """

    number: int
    kind: _Kind
    path: str
    names: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    first_row: int = 0
    image_column: str = ''
    name_column: str | None = None


@dataclass(frozen=True)
class Entry:
    """An image of a shard that was not decoded yet.

    Args:
        name (str): Its name within the folder, tar file or Parquet file.
        content (str | bytes | InputError): Path of the file, its content, or why there is none.
    """

    name: str
    content: str | bytes | InputError


def list_shards(
    inputs: Sequence[str],
    shard_size: int = 1000,
    image_column: str | None = None,
    name_column: str | None = None,
) -> list[Shard]:
    """List the shards of a dataset, in an order that depends on nothing but the inputs.

    Args:
        inputs (Sequence[str]): Folders, tar files, Parquet files, images, and ``.txt`` files with
            the path of an image in each line, relative to the folder of the ``.txt`` file.
            A folder stands for the images, tar and Parquet files in it and its subfolders.
        shard_size (int): Number of images of a shard; a tar file and a row group are not split.
            Defaults to 1000.
        image_column (str, optional): Column of image bytes in Parquet files. Defaults to the
            only one of a fitting type.
        name_column (str, optional): Column of the images' names. Defaults to the path within
            the image column, else to 'file_name', 'path', 'key' or '__key__', if there is one.

    Raises:
        InputError: If there is no image, tar or Parquet file, or no column of images.
        OSError: If a list, folder or Parquet file cannot be read.
        MissingPackageError: If there are Parquet files and pyarrow is not installed.
    """
    shards: list[Shard] = []

    def add(kind: _Kind, path: str, **fields: Any) -> None:
        shards.append(Shard(len(shards), kind, path, **fields))

    def add_file(path: str) -> bool:
        if path.endswith(TAR_SUFFIXES):
            add('tar', path)
        elif path.endswith('.parquet'):
            for fields in _split_parquet(path, shard_size, image_column, name_column):
                add('parquet', path, **fields)
        else:
            return False
        return True

    def add_images(folder: str, names: Sequence[str]) -> None:
        for start in range(0, len(names), shard_size):
            add('files', folder, names=tuple(names[start : start + shard_size]))

    for item in map(os.path.expanduser, inputs):
        if os.path.isdir(item):
            images = []
            for name in _list_folder(item):
                if name.lower().endswith(IMAGE_SUFFIXES):
                    images.append(name)
                else:
                    add_file(os.path.join(item, name))
            add_images(item, images)
        elif not os.path.exists(item):
            raise InputError(f'{item}: expected a folder or file, found nothing there')
        elif item.endswith('.txt'):
            lines = Path(item).read_text(errors='surrogateescape').splitlines()
            add_images(os.path.dirname(item), [line for line in lines if line.strip()])
        elif item.lower().endswith(IMAGE_SUFFIXES):
            add_images(os.path.dirname(item), [os.path.basename(item)])
        elif not add_file(item):
            raise InputError(
                f'{item}: expected a folder, an image, a list of images (.txt), a tar file '
                f'({", ".join(TAR_SUFFIXES)}) or a Parquet file (.parquet), found another file'
            )
    if not shards:
        raise InputError(
            f'{", ".join(inputs)}: expected images, tar files or Parquet files, found none'
        )
    return shards


def _list_folder(folder: str) -> list[str]:
    suffixes = (*IMAGE_SUFFIXES, *TAR_SUFFIXES, '.parquet')
    return sorted(
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, names in walk_folder(folder, None, Counter())
        for name in names
        if name.lower().endswith(suffixes) and not name.startswith('.')
    )


def _split_parquet(
    path: str, shard_size: int, image_column: str | None, name_column: str | None
) -> Iterator[dict[str, Any]]:
    """Yield the fields of the shards of a Parquet file, of some row groups each."""
    file = _open_parquet(path)
    schema = file.schema_arrow
    image_column = image_column or _find_image_column(path, schema)
    fields = dict(image_column=image_column, name_column=name_column)
    for column in filter(None, fields.values()):
        if column not in schema.names:
            raise InputError(
                f'{path}: expected a column {column}, found {", ".join(schema.names)}'
            )
    groups: list[int] = []
    first = rows = 0
    for index in range(file.num_row_groups):
        groups.append(index)
        rows += file.metadata.row_group(index).num_rows
        if rows >= shard_size or index == file.num_row_groups - 1:
            yield dict(fields, groups=tuple(groups), first_row=first)
            first, rows, groups = first + rows, 0, []


def _open_parquet(path: str) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingPackageError(
            f'pyarrow is needed for Parquet files and cannot be imported ({error}). Install it: '
            "pip install 'multitask-refine[batch]'"
        ) from None
    try:
        return pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid:
        raise InputError(
            f'{path}: expected a Parquet file, found {os.path.getsize(path)} bytes that are not a '
            'complete one'
        ) from None


def _find_image_column(path: str, schema: Any) -> str:
    """Return the only column of bytes, or of structs with bytes, as Hugging Face writes images."""
    found = [
        field.name
        for field in schema
        if str(field.type) in ('binary', 'large_binary') or str(field.type).startswith('struct<')
        and any(str(part.type) in ('binary', 'large_binary') for part in field.type)
    ]  # fmt: skip
    if len(found) != 1:
        raise InputError(
            f'{path}: expected one column of image bytes, found '
            f'{", ".join(found) or "only " + ", ".join(schema.names)}. Name it by --image-column.'
        )
    return str(found[0])


def read_shard(shard: Shard) -> Iterator[Entry]:
    """Yield the images of a shard; a file that is damaged or missing yields an error."""
    if shard.kind == 'files':
        for name in shard.names:
            yield Entry(name, os.path.join(shard.path, name))
        return
    try:
        yield from (_read_tar if shard.kind == 'tar' else _read_parquet)(shard)
    except (OSError, EOFError, tarfile.TarError, InputError) as error:
        reason = getattr(error, 'strerror', None) or error
        yield Entry(
            os.path.basename(shard.path),
            InputError(f'{shard.path}: the rest cannot be read ({reason}). Copy it again'),
        )


def _read_tar(shard: Shard) -> Iterator[Entry]:
    with tarfile.open(shard.path, 'r|*') as archive:
        for member in archive:
            if member.isfile() and member.name.lower().endswith(IMAGE_SUFFIXES):
                file = archive.extractfile(member)
                assert file is not None  # of a regular file
                yield Entry(member.name, file.read())


def _read_parquet(shard: Shard) -> Iterator[Entry]:
    file = _open_parquet(shard.path)
    candidates = [shard.name_column] if shard.name_column else _NAME_COLUMNS
    names = [name for name in candidates if name in file.schema_arrow.names][:1]
    columns = [shard.image_column, *names]
    number = shard.first_row
    for batch in file.iter_batches(64, row_groups=list(shard.groups), columns=columns):
        for row in batch.to_pylist():
            image = row[shard.image_column]
            content = image.get('bytes') if isinstance(image, dict) else image
            name = row[names[0]] if names else None
            if shard.name_column is None and isinstance(image, dict) and image.get('path'):
                name = image['path']
            title = f'row {number}' if name is None else str(name)
            yield Entry(title, content or InputError(f'{title}: expected image bytes, found none'))
            number += 1
