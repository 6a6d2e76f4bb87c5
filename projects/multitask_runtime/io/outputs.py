"""The folder that pictures, videos and predictions are written to."""

import itertools
import os
from pathlib import Path
from typing import Dict, List, Optional, Union

import cv2
import numpy as np

from multitask_runtime.utils.errors import InputError

from .frames import Frame
from .inputs import Source
from .results import PredictionsFile
from .video import VideoWriter

_PREDICTIONS = 'predictions.json'
_PICTURE_SUFFIXES = (
    '.bmp',
    '.dib',
    '.jp2',
    '.jpe',
    '.jpeg',
    '.jpg',
    '.png',
    '.ppm',
    '.tif',
    '.tiff',
    '.webp',
)


class OutputFolder:
    """Writes what is found, under the names of the sources.

    Where two would have one name, as ``a.gif`` and ``a.gif.png``, the later
    one gets a number.

    Args:
        folder (str | Path): It is made if need be.
        sources (list[Source]): All that will be written.
        dataset_meta (dict): For the predictions' file.

    Raises:
        InputError: If this would overwrite an input.
    """

    def __init__(
        self, folder: Union[str, Path], sources: List[Source], dataset_meta: dict
    ) -> None:
        self.folder = Path(folder).expanduser()
        self._dataset_meta = dataset_meta
        self._predictions: Optional[PredictionsFile] = None
        self._video: Optional[VideoWriter] = None
        self._video_source: Optional[Source] = None
        self._num_frames = 0  # of the video
        self._names = _file_names(sources)
        self._refuse_to_overwrite(sources)

    def __enter__(self) -> 'OutputFolder':
        self._predictions = PredictionsFile(self.folder / _PREDICTIONS, self._dataset_meta)
        return self

    def __exit__(self, *_) -> None:
        self._close_video()
        self._predictions.close()

    def write(self, frame: Frame, picture: np.ndarray, result: dict) -> None:
        """Write one image.

        Args:
            frame (Frame): Where it comes from.
            picture (np.ndarray): What was drawn, (H, W, 3) BGR uint8.
            result (dict): As ``to_result`` returns it.

        Raises:
            InputError: If there can be no such picture in its format.
            OSError: If it cannot be written.
        """
        path = self.folder / self._names[id(frame.source)]
        if frame.source.is_moving:
            self._write_frame(path, frame, picture)
        else:
            _write_picture(path, picture)
        self._predictions.write(frame.source.name, result)

    def _write_frame(self, path: Path, frame: Frame, picture: np.ndarray) -> None:
        if frame.source is not self._video_source:
            self._close_video()
            self._video = VideoWriter(path, frame.rate)
            self._video_source, self._num_frames = frame.source, 0
        # In the place of frames that were dropped stands the next one, so
        # that the video lasts as long as what it shows.
        while self._num_frames <= frame.index:
            self._video.write(picture)
            self._num_frames += 1

    def _close_video(self) -> None:
        if self._video is not None:
            self._video.close()
            self._video = None

    def _refuse_to_overwrite(self, sources: List[Source]) -> None:
        inputs = {
            Path(source.value).resolve() for source in sources if source.kind in ('image', 'video')
        }
        for source in sources:
            path = self.folder / self._names[id(source)]
            if path.resolve() in inputs:
                raise InputError(
                    f'{self.folder}: expected a folder where results '
                    f'overwrite no input, but {path} is one. Choose another '
                    'folder for the results.'
                )


def earlier_results(folder: Optional[Union[str, Path]]) -> Optional[Path]:
    """The folder, if it holds the results of an earlier run."""
    folder = folder and Path(folder).expanduser()
    return folder if folder and (folder / _PREDICTIONS).is_file() else None


def _file_names(sources: List[Source]) -> Dict[int, str]:
    """A name of its own for each source, by id, that can be written."""
    names, taken = {}, {_PREDICTIONS}
    for source in sources:
        allowed = ('.mp4',) if source.is_moving else _PICTURE_SUFFIXES
        stem, suffix = os.path.splitext(source.name)
        if suffix.lower() not in allowed:
            stem, suffix = source.name, '.mp4' if source.is_moving else '.png'
        numbers = itertools.count(2)
        name = stem + suffix
        while name in taken:
            name = f'{stem}-{next(numbers)}{suffix}'
        taken.add(name)
        names[id(source)] = name
    return names


def _write_picture(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        encoded, content = cv2.imencode(path.suffix, picture)
    except cv2.error:  # as of a WebP of more than 16383 pixels
        encoded = False
    if not encoded:
        raise InputError(
            f'{path}: OpenCV cannot write {picture.shape[1]} x '
            f'{picture.shape[0]} pixels as {path.suffix}'
        )
    path.write_bytes(content)
