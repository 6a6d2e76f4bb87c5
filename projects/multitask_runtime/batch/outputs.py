"""Output folder of a dataset's predictions, and the record of the shards that are done."""

import io
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from multitask_runtime.schemas import explain
from multitask_runtime.utils.errors import InputError, MissingPackageError
from multitask_runtime.utils.files import atomic_write

from .shards import Shard

SETTINGS_FILE = 'dataset.json'
MAX_REASONS = 10  # in a report or summary
SUMMARY_FILE = 'summary.json'
_CATEGORIES_FILE = 'categories.json'


class Settings(BaseModel):
    """What the predictions of a folder depend on; a run with other settings needs another one."""

    format: Literal['jsonl', 'parquet']
    model: str
    score_thr: float
    shards: int
    inputs_sha256: str


class _Counts(BaseModel):
    """Numbers of images (bad ones included), of those that could not be used, and of instances.

    Attributes:
        reasons (list[str]): A sentence for each of the first bad images.
    """

    images: int
    bad_images: int
    instances: int
    reasons: list[str]


class ShardReport(_Counts):
    """What came of a shard."""

    shard: int


class Summary(_Counts):
    """What came of all shards."""

    shards: int


class ShardFolder:
    """Folder of one output file for each shard.

    A shard is done when its report is there, which is written after its output file. Both
    appear complete or not at all, and a shard that is predicted twice, as by a worker that was
    taken for dead, replaces its own file: each image is in the folder exactly once.

    Args:
        path (str | Path): The folder, which all workers see under this path.
        format (str): 'jsonl' or 'parquet'.

    Raises:
        MissingPackageError: If the format is 'parquet' and pyarrow is not installed.
    """

    def __init__(self, path: str | Path, format: Literal['jsonl', 'parquet'] = 'jsonl') -> None:
        self.path = Path(path).expanduser().resolve()
        self._format = format
        if format == 'parquet':
            try:
                import pyarrow.parquet  # noqa: F401
            except ImportError as error:
                raise MissingPackageError(
                    f'pyarrow is needed to write Parquet files and cannot be imported ({error}). '
                    "Install it: pip install 'multitask-refine[batch]', or write jsonl."
                ) from None

    def start(self, settings: Settings) -> None:
        """Start a run in this folder, or go on with one of the same settings.

        Raises:
            InputError: If the folder holds something else.
            OSError: If it cannot be written.
        """
        path = self.path / SETTINGS_FILE
        if path.is_file():
            try:
                former = Settings.model_validate_json(path.read_bytes())
            except ValidationError as error:
                raise InputError(f'{path}: {explain(error)}. Choose another folder.') from None
            for name in Settings.model_fields:
                old, new = getattr(former, name), getattr(settings, name)
                if old != new:
                    raise InputError(
                        f'{self.path}: holds predictions of other settings: expected {name} '
                        f'{old}, found {new}. Repeat the former command to complete them, or '
                        'choose another folder.'
                    )
        elif self.path.is_dir() and any(self.path.iterdir()):
            raise InputError(
                f'{self.path}: expected a new or empty folder, or one with {SETTINGS_FILE} of an '
                'earlier run, found other files. Choose another folder.'
            )
        (self.path / 'done').mkdir(parents=True, exist_ok=True)
        write_complete(path, settings.model_dump_json(indent=2).encode())

    def read_report(self, shard: Shard) -> ShardReport | None:
        """Return the report of a shard that is done, or None.

        Raises:
            InputError: If the file holds something else.
        """
        path = self._report_path(shard.number)
        try:
            return ShardReport.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise InputError(
                f'{path}: {explain(error)}. Remove it, and the shard is predicted again.'
            ) from None

    def write(
        self,
        report: ShardReport,
        rows: Sequence[dict[str, Any]],
        categories: Sequence[dict[str, Any]],
    ) -> None:
        """Write the predictions of a shard and its report.

        Args:
            report (ShardReport): The report.
            rows (Sequence[dict]): For each image ``id``, ``file_name``, ``source``, ``height``,
                ``width``, ``error`` and ``annotations``.
            categories (Sequence[dict]): As COCO writes them.
        """
        path = self.path / f'part-{report.shard:06d}.{self._format}'
        if not (self.path / _CATEGORIES_FILE).is_file():
            write_complete(self.path / _CATEGORIES_FILE, json.dumps(categories).encode())
        if self._format == 'jsonl':
            content = ''.join(json.dumps(row) + '\n' for row in rows).encode()
        else:
            content = _to_parquet(rows)
        write_complete(path, content)
        write_complete(self._report_path(report.shard), report.model_dump_json().encode())

    def finish(self, reports: Sequence[ShardReport]) -> Summary:
        """Write the summary of all shards, and remove what killed workers left."""
        summary = Summary(
            shards=len(reports),
            images=sum(report.images for report in reports),
            bad_images=sum(report.bad_images for report in reports),
            instances=sum(report.instances for report in reports),
            reasons=[reason for report in reports for reason in report.reasons][:MAX_REASONS],
        )
        for part in (*self.path.glob('.*.part'), *self.path.glob('done/.*.part')):
            part.unlink(missing_ok=True)
        write_complete(self.path / SUMMARY_FILE, summary.model_dump_json(indent=2).encode())
        return summary

    def _report_path(self, number: int) -> Path:
        return self.path / f'done/{number:06d}.json'


def write_complete(path: Path, content: bytes) -> None:
    """Write a file that appears complete or not at all, also if several workers write it.

    Raises:
        OSError: If it cannot be written.
    """
    with atomic_write(path, path.with_name(f'.{path.name}.{uuid.uuid4().hex}.part')) as part:
        part.write_bytes(content)


def _to_parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    """Encode rows with a schema that does not depend on them."""
    import pyarrow as pa
    import pyarrow.parquet

    annotation = pa.struct(
        dict(
            image_id=pa.int64(),
            category_id=pa.int64(),
            bbox=pa.list_(pa.float64()),
            area=pa.float64(),
            score=pa.float64(),
            segmentation=pa.struct(dict(size=pa.list_(pa.int64()), counts=pa.string())),
            keypoints=pa.list_(pa.float64()),
        )
    )
    schema = pa.schema(
        dict(
            id=pa.int64(),
            file_name=pa.string(),
            source=pa.string(),
            height=pa.int64(),
            width=pa.int64(),
            error=pa.string(),
            annotations=pa.list_(annotation),
        )
    )
    buffer = io.BytesIO()
    table = pa.Table.from_pylist(list(rows), schema=schema)
    pyarrow.parquet.write_table(table, buffer, compression='zstd')
    return buffer.getvalue()
