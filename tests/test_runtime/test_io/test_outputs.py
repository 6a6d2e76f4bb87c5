"""Names and formats of the output files."""

import json
import os

import cv2
import numpy as np
import pytest

from multitask_runtime import InputError, OnnxInferencer, VideoReader, VideoWriter
from multitask_runtime.io.inputs import collect
from multitask_runtime.io.outputs import OutputFolder
from tests.test_runtime.conftest import save_image

NAMES = [
    'a b.png',
    '100%.png',
    '%03d.png',
    'a[1]*?.png',
    'ünï – 写真.png',
    'it\'s "q".png',
    'a:b.png',
    '-x.png',
    'UPPER.PNG',
    'a\nb.png',
    os.fsdecode(b'latin-\xe9.png'),
]


@pytest.mark.parametrize('name', NAMES)
def test_file_names_of_images(model, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_image(tmp_path / 'photos' / name)
    for inputs in (f'photos/{name}', 'photos', 'photos/*'):
        (result,) = OnnxInferencer(model)(inputs, out_dir='out')
        assert result['source'] == f'photos/{name}'
        assert cv2.imdecode(
            np.fromfile(os.fsencode(f'out/{name}'), np.uint8), cv2.IMREAD_COLOR
        ).shape == (48, 64, 3)
        content = json.loads((tmp_path / 'out/predictions.json').read_text())
        assert content['images'][0]['file_name'] == name


@pytest.mark.parametrize('name', [name.lower().replace('.png', '.mp4') for name in NAMES[:-1]])
def test_file_names_of_videos(model, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = VideoWriter(name, 10)
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.close()
    assert os.listdir() == [name]
    assert len(OnnxInferencer(model)(name, out_dir='out')) == 3
    assert len(list(VideoReader(f'out/{name}'))) == 3


def test_output_names_are_unique(model, tmp_path):
    folder = tmp_path / 'photos'
    paths = [
        save_image(folder / name)
        for name in ('a.gif', 'a.gif.png', 'a.jpg', 'a.png', 'predictions.json.png')
    ]
    paths += [paths[3], np.zeros((48, 64, 3), np.uint8)]
    OnnxInferencer(model)(paths, out_dir=tmp_path / 'out')
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {
        'a.gif.png',
        'a.gif-2.png',
        'a.jpg',
        'a.png',
        'a-2.png',
        'array-000006.png',
        'predictions.json',
        'predictions.json.png',
    }


def test_image_too_large_for_its_format(tmp_path):
    (source,), _ = collect(save_image(tmp_path / 'a.webp'))
    frame = type('Frame', (), dict(source=source, index=None))
    with (
        OutputFolder(tmp_path / 'out', [source], dict(classes='p')) as out,
        pytest.raises(InputError, match='cannot write 16400 x 1 pixels as .webp'),
    ):
        out.write(frame, np.zeros((1, 16400, 3), np.uint8), {})


@pytest.mark.parametrize('name', ['a.png', 'predictions.json'])
def test_files_of_no_earlier_run_are_not_replaced(model, tmp_path, name):
    image, out = save_image(tmp_path / 'a.png'), tmp_path / 'out'
    out.mkdir()
    (out / name).write_text('mine')
    with pytest.raises(InputError, match=rf'out/{name}: expected no file of this name'):
        OnnxInferencer(model)(image, out_dir=out)
    assert os.listdir(out) == [name]
    assert (out / name).read_text() == 'mine'


def test_results_of_an_earlier_run_are_replaced(model, tmp_path):
    image, out = save_image(tmp_path / 'a.png'), tmp_path / 'out'
    inferencer = OnnxInferencer(model)
    inferencer(image, out_dir=out)
    first = (out / 'a.png').read_bytes()
    # A run that was killed leaves drawn images, and predictions that are not complete.
    (out / 'predictions.json').rename(out / '.predictions.json.part')
    (out / 'a.png').write_text('half')
    for _ in range(2):
        inferencer(image, out_dir=out)
        assert (out / 'a.png').read_bytes() == first
    assert sorted(os.listdir(out)) == ['a.png', 'predictions.json']
