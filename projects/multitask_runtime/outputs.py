"""The folder that pictures, videos and predictions are written to."""
from pathlib import Path
from typing import List, Optional, Union

import cv2
import numpy as np

from .frames import Frame
from .inputs import IMAGE_SUFFIXES, InputError, Source
from .results import PredictionsFile
from .video import VideoWriter

_PREDICTIONS = 'predictions.json'


class OutputFolder:
    """Writes what is found, under the names of the sources.

    Args:
        folder (str | Path): It is made if need be.
        sources (list[Source]): All that will be written.
        dataset_meta (dict): For the predictions' file.

    Raises:
        InputError: If this would overwrite an input.
    """

    def __init__(self, folder: Union[str, Path], sources: List[Source],
                 dataset_meta: dict) -> None:
        self.folder = Path(folder).expanduser()
        self._dataset_meta = dataset_meta
        self._predictions: Optional[PredictionsFile] = None
        self._video: Optional[VideoWriter] = None
        self._refuse_to_overwrite(sources)

    def __enter__(self) -> 'OutputFolder':
        self._predictions = PredictionsFile(self.folder / _PREDICTIONS,
                                            self._dataset_meta)
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
            OSError: If it cannot be written.
        """
        self._predictions.write(frame.source.name, result)
        path = self.folder / _file_name(frame.source)
        if frame.source.is_moving:
            self._write_frame(path, frame, picture)
        else:
            _write_picture(path, picture)

    def _write_frame(self, path: Path, frame: Frame,
                     picture: np.ndarray) -> None:
        if frame.index == 0:
            self._close_video()
            self._video = VideoWriter(path, frame.rate)
        self._video.write(picture)

    def _close_video(self) -> None:
        if self._video is not None:
            self._video.close()
            self._video = None

    def _refuse_to_overwrite(self, sources: List[Source]) -> None:
        inputs = {
            Path(source.value).resolve()
            for source in sources if source.kind in ('image', 'video')
        }
        for source in sources:
            path = self.folder / _file_name(source)
            if path.resolve() in inputs:
                raise InputError(
                    f'{self.folder}: expected a folder where results '
                    f'overwrite no input, but {path} is one. Choose another '
                    'folder for the results.')


def earlier_results(
        folder: Optional[Union[str, Path]]) -> Optional[Path]:
    """The folder, if it holds the results of an earlier run."""
    folder = folder and Path(folder).expanduser()
    return folder if folder and (folder / _PREDICTIONS).is_file() else None


def _file_name(source: Source) -> str:
    """The source's name, with an ending that can be written."""
    allowed = ('.mp4', ) if source.is_moving else IMAGE_SUFFIXES
    if Path(source.name).suffix.lower() in allowed:
        return source.name
    return source.name + ('.mp4' if source.is_moving else '.png')


def _write_picture(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), picture):
        raise OSError(f'{path}: OpenCV cannot write a picture here')
