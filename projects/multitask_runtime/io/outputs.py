"""Output folder of visualized images and videos, and of the predictions."""

import itertools
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from multitask_runtime.utils.background import BackgroundCalls
from multitask_runtime.utils.errors import InputError
from multitask_runtime.utils.types import Array, Meta

from .frames import Frame
from .image_file import encode_image
from .inputs import Source
from .results import PredictionsFile, is_predictions_file
from .video import VideoWriter

_PREDICTIONS = 'predictions.json'
_ENCODE_BEHIND = 2  # frames of a video
_IMAGE_SUFFIXES = (
    *('.bmp', '.dib', '.jp2', '.jpe', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp'),
)


class OutputFolder:
    """Write results under the names of their sources.

    Of two sources with the same output name, as ``a.gif`` and ``a.gif.png``, the
    later one gets a number.

    Args:
        folder (str | Path): The folder; is made if need be.
        sources (Sequence[Source]): All sources that will be written.
        dataset_meta (dict): For the predictions.

    Raises:
        InputError: If an output would overwrite an input, or a file that is not of an earlier
            run.
    """

    def __init__(self, folder: str | Path, sources: Sequence[Source], dataset_meta: Meta) -> None:
        self.folder = Path(folder).expanduser()
        self._dataset_meta = dataset_meta
        self._video: VideoWriter | None = None
        self._video_source: Source | None = None
        self._num_frames = 0  # of the video
        self._paths = self._assign_paths(sources)
        inputs = {
            Path(source.value).resolve() for source in sources if source.kind in ('image', 'video')
        }
        for path in self._paths.values():
            if path.resolve() in inputs:
                raise InputError(
                    f'{self.folder}: expected a folder where results overwrite no input, '
                    f'but {path} is one. Choose another folder for the results.'
                )
        self._refuse_other_files()

    def __enter__(self) -> 'OutputFolder':
        """Start the predictions."""
        self._predictions = PredictionsFile(self.folder / _PREDICTIONS, self._dataset_meta)
        return self

    def __exit__(self, *_: object) -> None:
        """Complete all files, also of a run that was interrupted."""
        self._close_video()
        self._predictions.close()

    def _refuse_other_files(self) -> None:
        """Refuse to replace files, unless the folder holds the results of an earlier run."""
        if earlier_results(self.folder):
            return
        for path in (self.folder / _PREDICTIONS, *self._paths.values()):
            if path.exists() or path.is_symlink():
                raise InputError(
                    f'{path}: expected no file of this name, or a folder of earlier results '
                    f'with their {_PREDICTIONS}, found another file. Choose another folder for '
                    'the results.'
                )

    def write(self, frame: Frame, drawn: Array, result: Mapping[str, Any]) -> None:
        """Write one image.

        Args:
            frame (Frame): The image as it was read.
            drawn (np.ndarray): The visualized result, BGR, uint8, shape (H, W, 3).
            result (dict): See ``Result``.

        Raises:
            InputError: If the file format cannot hold an image of this size.
            OSError: If the file cannot be written.
        """
        path = self._paths[id(frame.source)]
        if frame.source.is_moving:
            if frame.source is not self._video_source:
                self._close_video()
                self._video = VideoWriter(path, frame.rate)
                self._encoding = BackgroundCalls(_ENCODE_BEHIND)
                self._video_source, self._num_frames = frame.source, 0
            # A frame also fills the place of those dropped before it, so that the video
            # lasts as long as what it shows.
            while self._video and self._num_frames <= (frame.index or 0):
                if self._num_frames:
                    self._encoding.submit(self._video.write, drawn)
                else:
                    self._video.write(drawn)  # which opens the file, or says why it cannot
                self._num_frames += 1
        else:
            content = encode_image(drawn, path)
            path.parent.mkdir(parents=True, exist_ok=True)
            # cv2.imwrite cannot write paths that are not UTF-8.
            path.write_bytes(content)
        self._predictions.write(frame.source.name, result)

    def _close_video(self) -> None:
        if self._video is not None:
            with closing(self._video), closing(self._encoding):
                self._encoding.finish()
            self._video = None

    def _assign_paths(self, sources: Sequence[Source]) -> dict[int, Path]:
        """Choose a unique path in a format that can be written, by the id of the source."""
        paths: dict[int, Path] = {}
        taken = {_PREDICTIONS}
        for source in sources:
            allowed = ('.mp4',) if source.is_moving else _IMAGE_SUFFIXES
            stem, suffix = os.path.splitext(source.name)
            if suffix.lower() not in allowed:
                stem, suffix = source.name, '.mp4' if source.is_moving else '.png'
            numbers = itertools.count(2)
            name = stem + suffix
            while name in taken:
                name = f'{stem}-{next(numbers)}{suffix}'
            taken.add(name)
            paths[id(source)] = self.folder / name
        return paths


def earlier_results(folder: str | Path | None) -> Path | None:
    """Return the folder if it holds the results of an earlier run, maybe one that was killed."""
    path = Path(folder).expanduser() if folder else None
    return path if path and is_predictions_file(path / _PREDICTIONS) else None
