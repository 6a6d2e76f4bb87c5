"""Demos by main(argv), and one in a process of its own."""

import json
import os
import shutil
import subprocess
import sys

import cv2
import pytest

from demo import image_demo, video_demo
from multitask_refine.apis import VideoWriter
from multitask_runtime import base_inferencer as finder
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def names(network):
    return [str(network.config), str(network.checkpoint)]


@pytest.fixture
def video(photos, tmp_path):
    writer = VideoWriter(tmp_path / 'film.mp4', 10)
    for path in photos * 2:
        writer.write(cv2.imread(path))
    writer.close()
    return str(tmp_path / 'film.mp4')


def test_images(names, photos, tmp_path, capsys):
    pattern = str(tmp_path / '*.png')
    for index, path in enumerate(photos):
        cv2.imwrite(str(tmp_path / f'{index}.png'), cv2.imread(path))
    out = tmp_path / 'out'
    assert (
        image_demo.main(
            [
                pattern,
                *names,
                '--out-dir',
                str(out),
                '--pred-score-thr',
                '0',
                '--batch-size',
                '3',
                '--device',
                'cpu',
            ]
        )
        == 0
    )
    assert sorted(path.name for path in out.iterdir()) == [
        '0.png',
        '1.png',
        '2.png',
        'predictions.json',
    ]
    assert f'Results: {out}' in capsys.readouterr().out
    for index, path in enumerate(photos):
        drawn = cv2.imread(str(out / f'{index}.png'))
        assert (drawn != cv2.imread(path)).any()


def test_thresholds_apply_to_the_drawings(names, photos, tmp_path):
    images = []
    for options in (
        ['--score-thr', '1'],
        ['--score-thr', '0'],
        ['--score-thr', '0', '--kpt-thr', '1.1'],
        ['--score-thr', '0', '--kpt-thr', '0'],
    ):
        image_demo.main([photos[0], *names, '--out-dir', str(tmp_path), *options])
        written = tmp_path / os.path.basename(photos[0])
        images.append(cv2.imread(str(written)))
    assert (images[0] == cv2.imread(photos[0])).all()
    assert (images[1] != images[0]).any()
    assert (images[2] != images[3]).any()


@pytest.mark.parametrize('tracked', [True, False])
def test_video(names, video, tmp_path, tracked):
    out = tmp_path / 'out'
    track = ['--track'] if tracked else []
    assert video_demo.main([video, *names, '--out-dir', str(out), *track]) == 0
    assert (out / 'film.mp4').is_file()
    content = json.loads((out / 'predictions.json').read_text())
    assert len(content['images']) == 6
    assert all(('track_id' in entry) == tracked for entry in content['annotations'])


def test_empty_out_dir_writes_nothing(names, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert image_demo.main([photos[0], *names, '--out-dir', '']) == 0
    assert not list(tmp_path.iterdir())
    assert image_demo.main([photos[0], *names]) == 0
    assert (tmp_path / 'outputs/predictions.json').is_file()


@pytest.mark.parametrize(
    'screen, match',
    [(None, 'this machine has no screen'), (':0', 'this OpenCV is built without windows')],
)
def test_missing_display_is_explained(names, photos, monkeypatch, screen, match):

    def refuse(*_):
        raise cv2.error('The function is not implemented')

    monkeypatch.setattr(cv2, 'namedWindow', refuse)
    monkeypatch.setattr(sys, 'platform', 'linux')
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    monkeypatch.delenv('DISPLAY', raising=False)
    if screen:
        monkeypatch.setenv('DISPLAY', screen)
    with pytest.raises(SystemExit, match=match):
        image_demo.main([photos[0], *names, '--show'])


@pytest.mark.parametrize(
    'key, is_visible, shown', [(-1, 1, 6), (ord('q'), 1, 1), (27, 1, 1), (-1, 0, 1)]
)
def test_window_shows_frames_until_it_is_closed(names, video, monkeypatch, key, is_visible, shown):
    images = []
    monkeypatch.setenv('DISPLAY', ':0')
    monkeypatch.setattr(cv2, 'namedWindow', lambda *_: None)
    monkeypatch.setattr(cv2, 'imshow', lambda _, image: images.append(image))
    monkeypatch.setattr(cv2, 'waitKey', lambda wait: key)
    monkeypatch.setattr(cv2, 'getWindowProperty', lambda *_: is_visible)
    monkeypatch.setattr(cv2, 'destroyAllWindows', lambda: None)
    assert video_demo.main([video, *names, '--show', '--out-dir', '']) == 0
    assert len(images) == shown
    assert images[0].shape == (48, 64, 3)


@pytest.mark.parametrize('demo', [image_demo, video_demo])
def test_errors_have_no_traceback(demo, names, tmp_path):
    with pytest.raises(SystemExit, match='nothing.mp4: expected an image'):
        demo.main(['nothing.mp4', *names])
    with pytest.raises(SystemExit, match='nothing.py: there is no such conf'):
        demo.main(['nothing.mp4', 'nothing.py', names[1]])
    broken = tmp_path / 'broken.mp4'
    broken.write_bytes(b'')
    with pytest.raises(SystemExit, match='broken.mp4: expected a video'):
        demo.main([str(broken), *names, '--out-dir', ''])


def test_number_is_a_camera_unless_it_is_a_file(names, photos, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match='camera 98765: expected a camera'):
        video_demo.main(['98765', *names, '--out-dir', ''])
    monkeypatch.chdir(tmp_path)
    shutil.copy(photos[0], tmp_path / '98765')
    assert video_demo.main(['98765', *names, '--out-dir', '']) == 0


def test_interrupt_keeps_finished_results(names, photos, tmp_path, monkeypatch, capsys):
    def stop(sources, read_image, report):
        yield from list(real(sources, read_image, report))[:2]
        raise KeyboardInterrupt

    real = finder.read_frames
    monkeypatch.setattr(finder, 'read_frames', stop)
    folder = os.path.dirname(photos[0])
    assert image_demo.main([folder, *names, '--out-dir', str(tmp_path)]) == 130
    assert 'Stopped.' in capsys.readouterr().out
    content = json.loads((tmp_path / 'predictions.json').read_text())
    assert len(content['images']) == 2


@pytest.mark.parametrize('demo', [image_demo, video_demo])
def test_help_and_abbreviated_options(demo, names, capsys):
    assert demo.main(['--help']) == 0
    said = capsys.readouterr().out.lower()
    for option in (
        'config',
        'checkpoint',
        '--out-dir',
        '--score-thr',
        '--kpt-thr',
        '--device',
        '--batch-size',
        '--show',
    ):
        assert option in said
    # MMDetection's video demo has --out FILE: this must not become a folder.
    with pytest.raises(SystemExit):
        demo.main(['a.mp4', *names, '--out', 'b.mp4'])
    assert 'No such option: --out' in capsys.readouterr().err


@pytest.mark.exhaustive
def test_from_another_folder(names, photos, tmp_path):
    env = dict(os.environ, OMP_NUM_THREADS='1')
    env.pop('PYTHONPATH', None)
    done = subprocess.run(
        [sys.executable, str(ROOT / 'demo/image_demo.py'), photos[0], *names],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'outputs/000000000001.png').is_file()
