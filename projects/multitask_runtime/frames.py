"""From sources to images, one after the other."""
from dataclasses import dataclass
from typing import Callable, Iterator, List, Optional

import numpy as np

from .inputs import InputError, Source
from .progress import Report
from .video import VideoReader, count_frames


@dataclass(frozen=True)
class Frame:
    """One image to look at.

    Args:
        source (Source): Where it comes from.
        image (np.ndarray): (H, W, 3) BGR uint8.
        index (int, optional): Its number in the video, from 0.
        rate (float, optional): The video's frames a second.
    """
    source: Source
    image: np.ndarray
    index: Optional[int] = None
    rate: Optional[float] = None


def count_images(sources: List[Source]) -> Optional[int]:
    """How many images the sources have.

    Args:
        sources (list[Source]): Of these the videos are opened.

    Returns:
        int | None: None if it is not known, as of a camera.
    """
    counts = [_count(source) for source in sources]
    return None if None in counts else sum(counts)


def _count(source: Source) -> Optional[int]:
    if source.is_moving:
        is_camera = source.kind == 'camera'
        return None if is_camera else count_frames(source.value)
    return 1


def read_frames(sources: List[Source], read_image: Callable,
                report: Report) -> Iterator[Frame]:
    """Yield all images; what cannot be read is reported and passed over.

    Args:
        sources (list[Source]): What to read.
        read_image (Callable): From the path of a picture to its array.
        report (Report): Is told what is read and what is not.

    Yields:
        Frame: Only one is held here at a time.
    """
    for source in sources:
        number = 0
        try:
            for frame in _read_source(source, read_image, report):
                number += 1
                yield frame
        except InputError as error:
            report.skip(str(error))
        if number:
            report.count_source()


def _read_source(source: Source, read_image: Callable,
                 report: Report) -> Iterator[Frame]:
    if source.kind == 'array':
        yield Frame(source, source.value)
    elif source.kind == 'image':
        yield Frame(source, read_image(source.value))
    else:
        yield from _read_video(source, report)


def _read_video(source: Source, report: Report) -> Iterator[Frame]:
    reader = VideoReader(source.value)
    number = 0
    try:
        for number, image in enumerate(reader, 1):
            yield Frame(source, image, number - 1, reader.rate)
    finally:
        reader.close()
    if reader.count and number < reader.count:
        report.note(f'{source.title}: says it has {reader.count} frames; '
                    f'{number} could be read')
