"""From sources to images, one after the other."""

from contextlib import closing
from dataclasses import dataclass
from typing import Callable, Iterator, List, Optional

import numpy as np

from multitask_runtime.utils.errors import InputError
from multitask_runtime.utils.progress import Progress

from .image_file import count_pictures
from .inputs import Source
from .resize import MAX_ASPECT, is_narrow
from .streams import StreamReader
from .video import VideoReader, count_frames


@dataclass(frozen=True)
class Frame:
    """One image to look at.

    Args:
        source (Source): Where it comes from.
        image (np.ndarray): (H, W, 3) BGR uint8.
        index (int, optional): Its number in the video, from 0. Of a live
            stream the numbers of dropped frames are missing.
        rate (float, optional): The video's frames a second.
    """

    source: Source
    image: np.ndarray
    index: Optional[int] = None
    rate: Optional[float] = None

    @property
    def title(self) -> str:
        """str: What messages call it."""
        number = '' if self.index is None else f', frame {self.index}'
        return self.source.title + number


def count_images(sources: List[Source]) -> Optional[int]:
    """How many images the sources have.

    Args:
        sources (list[Source]): Of these the video files are opened.

    Returns:
        int | None: None if it is not known, as of a camera.
    """
    counts = [_count(source) for source in sources]
    return None if None in counts else sum(counts)


def _count(source: Source) -> Optional[int]:
    if source.kind in ('camera', 'stream'):
        return None
    return count_frames(source.value) if source.kind == 'video' else 1


def read_frames(sources: List[Source], read_image: Callable, report: Progress) -> Iterator[Frame]:
    """Yield all images; what cannot be read is reported and passed over.

    Args:
        sources (list[Source]): What to read.
        read_image (Callable): From the path of a picture to its array.
        report (Progress): Is told what is read and what is not.

    Yields:
        Frame: Only one is held here at a time.
    """
    for source in sources:
        number = 0
        try:
            for frame in _read_source(source, read_image, report):
                height, width = frame.image.shape[:2]
                if not number and is_narrow(frame.image):
                    report.remark(
                        f'{source.title}: {width} x {height} pixels are '
                        f'looked at as if stretched to 1 : {MAX_ASPECT}'
                    )
                number += 1
                yield frame
            report.count_source(source)
        except InputError as error:
            report.skip(str(error))
        except Exception as error:  # a decoder's; the other inputs go on
            report.fail(source, source.title, error)


def _read_source(source: Source, read_image: Callable, report: Progress) -> Iterator[Frame]:
    if source.kind == 'unusable':
        raise InputError(source.value)
    if source.kind == 'array':
        yield Frame(source, source.value)
    elif source.kind == 'image':
        image = read_image(source.value)
        count = count_pictures(source.value)
        if count > 1:
            report.remark(f'{source.title}: has {count} pictures, of which the first is taken')
        yield Frame(source, image)
    elif source.kind == 'stream':
        yield from _read_stream(source, report)
    else:
        yield from _read_video(source, report)


def _read_video(source: Source, report: Progress) -> Iterator[Frame]:
    number = 0
    with closing(VideoReader(source.value)) as reader:
        for number, image in enumerate(reader, 1):
            yield Frame(source, image, number - 1, reader.rate)
    _compare_length(source, reader.count, number, report)


def _compare_length(source: Source, said: Optional[int], number: int, report: Progress) -> None:
    if said and number < said:
        report.remark(f'{source.title}: says it has {said} frames; {number} could be read')


def _read_stream(source: Source, report: Progress) -> Iterator[Frame]:
    with closing(StreamReader(source.value, report.note)) as reader:
        try:
            for index, image in reader:
                yield Frame(source, image, index, reader.rate)
        finally:
            if reader.length and reader.is_complete:
                _compare_length(source, reader.length, reader.received, report)
            if reader.dropped:
                report.remark(
                    f'{source.title}: {reader.dropped} of {reader.received} '
                    'frames came faster than they could be looked at, and '
                    'were dropped'
                )
