"""Predict the images of a shard."""

import os
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

from multitask_runtime.base_inferencer import BaseInferencer
from multitask_runtime.io.frames import Frame
from multitask_runtime.io.inputs import Source
from multitask_runtime.io.results import category_entries, to_coco
from multitask_runtime.utils.background import read_ahead
from multitask_runtime.utils.errors import InputError
from multitask_runtime.utils.progress import Progress
from multitask_runtime.utils.types import Array

from .outputs import MAX_REASONS, ShardFolder, ShardReport
from .shards import Entry, Shard, read_shard

_WINDOW = 8  # batches whose images are sorted by size
_WINDOW_BYTES = 1 << 28


class ShardPredictor:
    """Worker that holds a model, and predicts and writes one shard after the other.

    Shards that are written already are not predicted again. The instance can be called by Ray:
    it then stays in a process of its own.

    Args:
        load (Callable): Loads the inferencer.
        folder (ShardFolder): Where the shards are written.
        batch_size (int): Number of images of one size that go through the model at once. Images
            of a shard are sorted by size to fill the batches. Defaults to 1.
        score_thr (float): Instances with a lower score are left out. Defaults to 0.
    """

    def __init__(
        self,
        load: Callable[[], BaseInferencer],
        folder: ShardFolder,
        batch_size: int = 1,
        score_thr: float = 0.0,
    ) -> None:
        self._inferencer = load()
        self._folder = folder
        self._batch_size = batch_size
        self._score_thr = score_thr

    def __call__(self, shard: Shard) -> ShardReport:
        """Predict a shard and write it.

        Returns:
            ShardReport: What was written, now or earlier.

        Raises:
            Exception: The first error, if the first ten images failed for another reason than
                reading; then the model is at fault.
        """
        report = self._folder.read_report(shard)
        if report:
            return report
        progress = _ShardProgress()
        sources: list[Source] = []
        frames = self._read_frames(shard, sources, progress)
        rows: dict[int, dict[str, Any]] = {}  # by the id of the source
        meta = self._inferencer.dataset_meta
        with closing(frames):
            for frame, result in self._inferencer._results(frames, self._batch_size, progress):
                progress.step()
                annotations = to_coco(result, meta)
                rows[id(frame.source)] = dict(
                    height=result['height'],
                    width=result['width'],
                    annotations=[each for each in annotations if each['score'] >= self._score_thr],
                )
        lines = []
        for position, source in enumerate(sources):
            image_id = shard.number << 32 | position
            row = rows.get(id(source), {})
            for annotation in row.get('annotations', ()):
                annotation['image_id'] = image_id
            lines.append(
                dict(
                    id=image_id,
                    file_name=_to_utf8(source.name),
                    source=_to_utf8(shard.path),
                    height=row.get('height'),
                    width=row.get('width'),
                    error=None if row else _to_utf8(progress.errors[id(source)]),
                    annotations=row.get('annotations', []),
                )
            )
        errors = [line['error'] for line in lines if line['error']]
        report = ShardReport(
            shard=shard.number,
            images=len(lines),
            bad_images=len(errors),
            instances=sum(len(line['annotations']) for line in lines),
            reasons=errors[:MAX_REASONS],
        )
        self._folder.write(report, lines, category_entries(meta))
        return report

    def _read_frames(
        self, shard: Shard, sources: list[Source], progress: '_ShardProgress'
    ) -> Generator[Frame, None, None]:
        """Yield the images of a shard, those of similar position sorted by size.

        Args:
            shard (Shard): The shard.
            sources (list[Source]): Receives the source of each image, in the order of the shard.
            progress (_ShardProgress): Receives the errors of images that cannot be read.
        """
        window: list[Frame] = []
        with tempfile.TemporaryDirectory(prefix='images-') as folder:
            copy = os.path.join(folder, 'image')
            decoded = read_ahead(self._decode(shard, copy), self._batch_size)
            with closing(decoded):
                for entry, image in decoded:
                    source = Source('image', entry.name, entry.name)
                    sources.append(source)
                    if isinstance(image, Exception):
                        progress.errors[id(source)] = str(image)
                        continue
                    window.append(Frame(source, image))
                    size = sum(frame.image.nbytes for frame in window)
                    if len(window) >= _WINDOW * self._batch_size or size > _WINDOW_BYTES:
                        yield from sorted(window, key=lambda frame: frame.image.shape)
                        window.clear()
            yield from sorted(window, key=lambda frame: frame.image.shape)

    def _decode(self, shard: Shard, copy: str) -> Iterator[tuple[Entry, Array | Exception]]:
        """Yield each image decoded, or the error; bytes go through a file, ``copy``."""
        for entry in read_shard(shard):
            path = entry.content
            try:
                if isinstance(path, InputError):
                    raise path
                if isinstance(path, bytes):
                    with open(copy, 'wb') as file:
                        file.write(path)
                    path = copy
                image: Array | Exception = self._inferencer.read_image(path)
            except InputError as error:
                image = InputError(str(error).replace(copy, f'{shard.path}: {entry.name}'))
            except Exception as error:  # of a decoder; the other images go on
                image = InputError(f'{entry.name}: {type(error).__name__}: {error}')
            yield Entry(entry.name, ''), image


def _to_utf8(name: str) -> str:
    """Escape the bytes of a file name that are not UTF-8."""
    return os.fsencode(name).decode(errors='backslashreplace')


class _ShardProgress(Progress):
    """Keep the error of each image, and show nothing.

    Attributes:
        errors (dict[int, str]): Sentence by the id of the source.
    """

    def __init__(self) -> None:
        super().__init__(num_sources=1, total=1, show_progress=False)
        self.errors: dict[int, str] = {}

    def fail(self, source: Source, title: str, error: Exception) -> None:
        """Keep the error of an image that was read, but not predicted."""
        super().fail(source, title, error)
        self.errors[id(source)] = self.skipped[-1]
