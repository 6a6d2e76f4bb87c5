"""Read uploaded images and videos.

Nothing of an upload is trusted: neither its name, which is shown and never used as a path,
nor its declared type. The content says what it is, and sizes are compared with the limits
before anything is decoded.
"""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import PIL.Image
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from multitask_runtime.io.resize import MAX_ASPECT
from multitask_runtime.io.video import VideoReader
from multitask_runtime.schemas import Limits
from multitask_runtime.utils.errors import InputError
from multitask_runtime.utils.types import Array

# What Pillow identifies as another format is not given to any decoder.
IMAGE_FORMATS = ('AVIF', 'BMP', 'GIF', 'JPEG', 'PNG', 'TIFF', 'WEBP')
VIDEO_FORMATS = {'.mp4': 'MP4 or MOV', '.mkv': 'WebM or Matroska', '.avi': 'AVI'}
# For OpenCV's FFmpeg: no playlists, which name other files and addresses.
FFMPEG_OPTIONS = 'protocol_whitelist;file|format_whitelist;mov,matroska,avi'
_STILL_BRANDS = (b'heic', b'heix', b'hevc', b'heim', b'mif1', b'msf1', b'avif', b'avis')
_MAX_TITLE = 100  # characters


def get_title(upload: UploadFile) -> str:
    """Return the name of an upload for messages and results, without folders."""
    name = re.split(r'[\\/]', upload.filename or '')[-1]
    name = ''.join(letter if letter.isprintable() else '?' for letter in name)
    return name[:_MAX_TITLE] or 'upload'


def read_image(upload: UploadFile, read: Callable[[str], Array], limits: Limits) -> Array:
    """Decode an uploaded image.

    Args:
        upload (UploadFile): The upload.
        read (Callable): Reads the image file at a path.
        limits (Limits): Limits of the server.

    Returns:
        np.ndarray: BGR, uint8, shape (H, W, 3).

    Raises:
        HTTPException: 413 if it has too many pixels, 415 if it is no image, 422 if it is
            damaged; the detail is one sentence.
    """
    title = get_title(upload)
    _check_header(upload, title, limits)
    upload.file.seek(0)
    with tempfile.NamedTemporaryFile(prefix='upload-') as copy:
        shutil.copyfileobj(upload.file, copy)
        copy.flush()
        try:
            image = read(copy.name)
        except InputError as error:
            reason = str(error).removeprefix(f'{copy.name}: ')
            raise HTTPException(422, f'{title}: {reason}. Export or upload it again.') from None
    check_size(image.shape[1], image.shape[0], title, limits)
    return image


@contextlib.contextmanager
def open_video(upload: UploadFile, limits: Limits) -> Iterator[VideoReader]:
    """Open an uploaded video; its copy on the disk is removed at the end.

    Args:
        upload (UploadFile): The upload.
        limits (Limits): Limits of the server.

    Yields:
        VideoReader: Reader of the video.

    Raises:
        HTTPException: 413 if its frames are too large, 415 if it is no video, 422 if it is
            damaged; the detail is one sentence.
    """
    title = get_title(upload)
    suffix = _find_video_suffix(upload)
    if not suffix:
        raise _wrong_type(upload, title, f'a video ({", ".join(VIDEO_FORMATS.values())})')
    with tempfile.TemporaryDirectory(prefix='upload-') as folder:
        path = Path(folder) / f'video{suffix}'
        upload.file.seek(0)
        with path.open('wb') as copy:
            shutil.copyfileobj(upload.file, copy)
        try:
            reader = VideoReader(str(path))
        except InputError as error:
            reason = str(error).removeprefix(f'{path}: ')
            raise HTTPException(422, f'{title}: {reason}. Export or upload it again.') from None
        with contextlib.closing(reader):
            check_size(*reader.size, title, limits)
            yield reader


def check_size(width: int, height: int, title: str, limits: Limits) -> None:
    """Refuse an image with too many pixels.

    Args:
        width (int): Width in pixels.
        height (int): Height in pixels.
        title (str): Name of the image in the message.
        limits (Limits): Limits of the server.

    Raises:
        HTTPException: 413 if it has more than ``max_pixels``. A narrow image counts as
            stretched to ``MAX_ASPECT``, as the models see it.
    """
    if max(width * height, max(width, height) ** 2 // MAX_ASPECT) > limits.max_pixels:
        raise HTTPException(
            413,
            f'{title}: expected at most {limits.max_pixels} pixels (at most 1 : {MAX_ASPECT}, or '
            f'counted as stretched to it), found {width} x {height}. Scale it down.',
        )


def _check_header(upload: UploadFile, title: str, limits: Limits) -> None:
    """Compare type and size in the header of an image with what is allowed."""
    upload.file.seek(0)
    if not upload.size:
        raise HTTPException(422, f'{title}: expected an image, found an empty file.')
    try:
        with PIL.Image.open(upload.file, formats=IMAGE_FORMATS) as image:
            size = image.size
    except PIL.UnidentifiedImageError:
        raise _wrong_type(upload, title, f'an image ({", ".join(IMAGE_FORMATS)})') from None
    except PIL.Image.DecompressionBombError:
        raise HTTPException(
            413, f'{title}: expected at most {limits.max_pixels} pixels, found far more.'
        ) from None
    except Exception:  # the readers of damaged headers raise nearly anything
        raise HTTPException(
            422, f'{title}: expected an image, found a damaged one. Export or upload it again.'
        ) from None
    check_size(size[0], size[1], title, limits)


def _find_video_suffix(upload: UploadFile) -> str | None:
    upload.file.seek(0)
    head = upload.file.read(12)
    if head[4:8] == b'ftyp' and head[8:12] not in _STILL_BRANDS:
        return '.mp4'
    if head[:4] == b'\x1aE\xdf\xa3':  # EBML
        return '.mkv'
    return '.avi' if head[:4] == b'RIFF' and head[8:12] == b'AVI ' else None


def _wrong_type(upload: UploadFile, title: str, expected: str) -> HTTPException:
    found = f'{upload.size} bytes of another kind'
    if _find_video_suffix(upload):
        found = 'a video, which has an endpoint of its own'
    upload.file.seek(4)
    if upload.file.read(8) in (b'ftypheic', b'ftypheix', b'ftypmif1'):
        found = 'HEIC. Convert it to JPEG'
    return HTTPException(415, f'{title}: expected {expected}, found {found}.')
