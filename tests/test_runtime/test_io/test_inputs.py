"""Inputs: folders, patterns, lists and files that are not images."""

import glob
import io
import os
import wave

import cv2
import numpy as np
import pytest

from multitask_runtime import InputError, OnnxInferencer, VideoReader, VideoWriter
from multitask_runtime.io.inputs import collect
from tests.test_runtime.conftest import save_image


def names(inputs, **options):
    return [source.name for source in collect(inputs, **options).sources]


def test_ignored_files_of_a_folder_are_counted(model, tmp_path, capsys):
    folder = tmp_path / 'photos'
    for name in ('a.JPG', 'b.jfif', 'c.Avif', 'd.gif'):
        save_image(folder / name)
    for name in (
        '1.heic',
        '2.HEIC',
        '3.heif',
        'film.mp4',
        'notes.txt',
        'README',
        '.hidden.jpg',
        '.thumbnails/a.jpg',
        '._a.jpg',
    ):
        save_image(folder / name)
    sources, (told,) = collect(folder)
    assert [source.name for source in sources] == ['a.JPG', 'b.jfif', 'c.Avif', 'd.gif']
    assert told == (
        f'ignored in {folder}: 2 .heic files, 1 .heif files, 1 .mp4 files, '
        '1 .txt files, 1 files without a suffix, 3 hidden files or folders. '
        'HEIC cannot be read here: convert it to JPEG, e.g. by '
        'heif-convert. Videos are given by their own path.'
    )
    assert len(OnnxInferencer(model)(folder)) == 4
    assert told in capsys.readouterr().err
    # Also where there is but one image, which has no progress.
    one = tmp_path / 'one'
    save_image(one / 'a.png')
    save_image(one / 'b.heic')
    OnnxInferencer(model, show_progress=False)(one)
    assert f'ignored in {one}: 1 .heic files' in capsys.readouterr().err


def test_linked_folders_are_listed_once(tmp_path):
    folder, elsewhere = tmp_path / 'photos', tmp_path / 'elsewhere'
    save_image(folder / 'a.png')
    save_image(folder / 'real/b.png')
    save_image(elsewhere / 'c.png')
    (folder / 'again').symlink_to(folder / 'real')
    (folder / 'linked').symlink_to(elsewhere)
    (folder / 'linked_too').symlink_to(elsewhere)
    (elsewhere / 'circle').symlink_to(elsewhere)
    (folder / 'real/circle').symlink_to(folder)
    (folder / 'up').symlink_to(tmp_path)
    (folder / 'linked.png').symlink_to(elsewhere / 'c.png')
    (folder / 'lost.png').symlink_to(tmp_path / 'nothing')
    expected = ['a.png', 'linked/c.png', 'linked.png', 'lost.png', 'real/b.png']
    assert names(folder) == expected
    told = '2 links to a folder that holds this one'
    assert told in collect(folder).ignored[0]
    # What "lost.png" is a link to does not exist, so a pattern has it not.
    expected.remove('lost.png')
    for pattern in ('**/*.png', '**', '*/../**/*.png'):
        assert set(expected) <= {
            os.path.normpath(os.path.relpath(source.value, folder))
            for source in collect(f'{folder}/{pattern}').sources
        }, pattern


def test_patterns_match_like_glob(tmp_path, monkeypatch):
    for name in ('a.png', 'x/b.png', 'x/y/c.png', 'x/.hidden/d.png', 'x/y/e.jpg'):
        save_image(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for pattern in (
        '*.png',
        '**/*.png',
        'x/**/*.png',
        '**/y/*',
        '**',
        'x/**',
        '**/x/**/*.png',
        '*/**/c.png',
        '[ax]*/*.png',
    ):
        expected = {
            os.path.normpath(path)
            for path in glob.glob(pattern, recursive=True)
            if os.path.isfile(path)
        }
        found = {os.path.normpath(source.value) for source in collect(pattern).sources}
        assert found == expected, pattern
    assert collect('x/*').ignored == ['ignored in x/*: 1 folders or others that are not files']


def test_unreadable_folders_and_earlier_results_are_ignored(tmp_path, monkeypatch):
    save_image(tmp_path / 'a.png')
    save_image(tmp_path / 'closed/b.png')
    save_image(tmp_path / 'out/a.png')
    real = os.scandir

    def scandir(path):
        if str(path).endswith('closed'):
            raise PermissionError(13, 'Permission denied', path)
        return real(path)

    monkeypatch.setattr(os, 'scandir', scandir)
    sources, (told,) = collect(tmp_path, leave_out=tmp_path / 'out')
    assert [source.name for source in sources] == ['a.png']
    assert '1 folders of earlier results, 1 unreadable folders' in told


def test_empty_folder_in_a_list_is_skipped(model, tmp_path):
    (tmp_path / 'empty').mkdir()
    inferencer = OnnxInferencer(model)
    image = save_image(tmp_path / 'a.png')
    results = inferencer([tmp_path / 'empty', image, 'no/*.png', '-'])
    assert [result['source'] for result in results] == [image]
    assert [reason.split(': ')[0] for reason in inferencer.skipped] == [
        str(tmp_path / 'empty'),
        'no/*.png',
        '-',
    ]
    with pytest.raises(InputError, match='in this folder, found nothing'):
        inferencer(tmp_path / 'empty')


def test_video_name_that_is_not_utf8(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b'latin-\xe9.mp4')
    with open(path, 'wb') as file:
        file.write(b'no matter')
    with pytest.raises(InputError, match='only videos with names in UTF-8'):
        VideoReader(os.fsdecode(path))


def _sound():
    file = io.BytesIO()
    with wave.open(file, 'wb') as writer:
        writer.setparams((1, 2, 8000, 0, 'NONE', ''))
        writer.writeframes(bytes(16000))
    return file.getvalue()


def _no_frames(tmp_path):
    writer = cv2.VideoWriter(
        str(tmp_path / 'empty.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 10, (64, 48)
    )
    writer.release()
    return (tmp_path / 'empty.mp4').read_bytes()


@pytest.mark.parametrize('kind', ['text', 'sound', 'no frames', 'empty'])
def test_videos_without_frames(model, tmp_path, kind):
    content = dict(text=b'no video ' * 99, sound=_sound(), empty=b'')
    path = tmp_path / 'film.mp4'
    path.write_bytes(content[kind] if kind in content else _no_frames(tmp_path))
    with pytest.raises(
        InputError,
        match=r'film.mp4: expected a video, found '
        r'\d+ bytes of which OpenCV reads no frame',
    ):
        OnnxInferencer(model)(path)


def test_frames_of_changing_size(tmp_path):
    writer = VideoWriter(tmp_path / 'a.mp4', 10)
    for size in ((48, 64), (96, 128), (47, 63)):
        writer.write(np.full((*size, 3), 200, np.uint8))
    writer.close()
    frames = list(VideoReader(str(tmp_path / 'a.mp4')))
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 3
    assert all(abs(frame.astype(int) - 200).max() < 9 for frame in frames)


@pytest.mark.parametrize(
    'wrong, match',
    [
        ('-', '-: expected an image or video file, found no file. Standard inp'),
        (-1, 'expected 0 or more as the index of a camera, found -1'),
        (2**31, 'as the index of a camera, found 2147483648'),
        ('/dev/null', '/dev/null: expected an image or video file, found no fi'),
    ],
)
def test_inputs_that_are_not_files(wrong, match):
    with pytest.raises(InputError, match=match):
        collect(wrong)


def test_pipes_are_not_read(tmp_path):
    os.mkfifo(tmp_path / 'a.png')
    save_image(tmp_path / 'b.png')
    with pytest.raises(InputError, match='a.png: expected an image or video'):
        collect(tmp_path / 'a.png')
    sources, (told,) = collect(tmp_path)
    assert [source.name for source in sources] == ['b.png']
    assert '1 pipes or devices' in told
