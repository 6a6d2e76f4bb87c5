"""Read the images of all sources, one after the other."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from multitask_runtime.utils.background import read_ahead
from multitask_runtime.utils.errors import InputError
from multitask_runtime.utils.progress import Progress
from multitask_runtime.utils.types import Array

from .image_file import count_pages
from .inputs import Source
from .resize import MAX_ASPECT, is_narrow
from .streams import StreamReader
from .video import VideoReader, count_frames

READ_AHEAD = 2  # frames of a video


@dataclass(frozen=True)
class Frame:
    """One image of a source.

    Args:
        source (Source): The source.
        image (np.ndarray): BGR, uint8, shape (H, W, 3).
        index (int, optional): Index of the video frame, from 0. In a live stream the
            indices of dropped frames are missing.
        rate (float): Frame rate of the video in 1/s; 0 for an image.
    """

    source: Source
    image: Array
    index: int | None = None
    rate: float = 0.0

    @property
    def title(self) -> str:
        """str: Name in messages."""
        number = '' if self.index is None else f', frame {self.index}'
        return self.source.title + number


def count_images(sources: Sequence[Source]) -> int | None:
    """Count the images of all sources.

    Args:
        sources (Sequence[Source]): The sources; video files are opened.

    Returns:
        int | None: None if the number is unknown, as of a camera.
    """
    total = 0
    for source in sources:
        if source.kind in ('camera', 'stream'):
            return None
        count = count_frames(source.value) if source.kind == 'video' else 1
        if count is None:
            return None
        total += count
    return total


def read_frames(
    sources: Sequence[Source], read_image: Callable[[str], Array], progress: Progress
) -> Iterator[Frame]:
    """Yield all images; sources that cannot be read are reported and skipped.

    Args:
        sources (Sequence[Source]): The sources.
        read_image (Callable): Reads the image file at a path.
        progress (Progress): Records which sources were read.

    Yields:
        Frame: Only one is held here at a time.
    """
    for source in sources:
        number = 0
        try:
            for frame in _read_source(source, read_image, progress):
                height, width = frame.image.shape[:2]
                if not number and is_narrow(frame.image):
                    progress.remark(
                        f'{source.title}: {width} x {height} pixels are processed as if '
                        f'stretched to 1 : {MAX_ASPECT}'
                    )
                number += 1
                yield frame
            progress.count_source(source)
        except InputError as error:
            progress.skip(str(error))
        except Exception as error:  # of a decoder; the other inputs go on
            progress.fail(source, source.title, error)


def _read_source(
    source: Source, read_image: Callable[[str], Array], progress: Progress
) -> Iterator[Frame]:
    if source.kind == 'unusable':
        raise InputError(source.value)
    if source.kind == 'array':
        yield Frame(source, source.value)
    elif source.kind == 'image':
        image = read_image(source.value)
        count = count_pages(source.value)
        if count > 1:
            progress.remark(f'{source.title}: has {count} images, of which the first is used')
        yield Frame(source, image)
    elif source.kind == 'stream':
        yield from _read_stream(source, progress)
    else:
        number = 0
        with ExitStack() as stack:
            reader = stack.enter_context(closing(VideoReader(source.value)))
            images = iter(reader)
            if source.kind == 'video':  # the frames of a camera would be old
                images = stack.enter_context(closing(read_ahead(images, READ_AHEAD)))
            for number, image in enumerate(images, 1):
                yield Frame(source, image, number - 1, reader.rate)
        _compare_length(source, reader.count, number, progress)


def _read_stream(source: Source, progress: Progress) -> Iterator[Frame]:
    with closing(StreamReader(source.value, progress.note)) as reader:
        try:
            for index, image in reader:
                yield Frame(source, image, index, reader.rate)
        finally:
            if reader.is_complete:
                _compare_length(source, reader.length, reader.received, progress)
            if reader.dropped:
                progress.remark(
                    f'{source.title}: {reader.dropped} of {reader.received} frames came '
                    'faster than they could be processed, and were dropped'
                )


def _compare_length(source: Source, expected: int | None, found: int, progress: Progress) -> None:
    if expected and found < expected:
        progress.remark(f'{source.title}: says it has {expected} frames; {found} could be read')
