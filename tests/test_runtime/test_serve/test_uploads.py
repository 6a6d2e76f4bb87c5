"""What FFmpeg may open for the server."""

import cv2
import pytest

from multitask_runtime import InputError
from multitask_runtime.io.video import VideoReader
from multitask_runtime.serve.uploads import FFMPEG_OPTIONS
from tests.test_runtime.test_serve.conftest import IMAGE


def _write(path, codec):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (64, 48))
    assert writer.isOpened()
    for _ in range(4):
        writer.write(IMAGE)
    writer.release()


def _count(path):
    reader = VideoReader(str(path))
    try:
        return sum(1 for _ in reader)
    finally:
        reader.close()


def test_ffmpeg_reads_videos_and_no_playlists(tmp_path, monkeypatch):
    """A playlist, which can name any file and address, works only without the options."""
    _write(tmp_path / 'a.mp4', 'mp4v')
    playlist = tmp_path / 'list.mkv'
    playlist.write_text("ffconcat version 1.0\nfile 'a.mp4'\n")
    assert _count(playlist) == 4
    monkeypatch.setenv('OPENCV_FFMPEG_CAPTURE_OPTIONS', FFMPEG_OPTIONS)
    with pytest.raises(InputError, match='OpenCV reads no frame'):
        _count(playlist)
    for name, codec in (
        ('a.mov', 'mp4v'),
        ('a.webm', 'VP80'),
        ('a.mkv', 'VP80'),
        ('a.avi', 'MJPG'),
    ):
        _write(tmp_path / name, codec)
        assert _count(tmp_path / name) == 4, name
    assert _count(tmp_path / 'a.mp4') == 4
