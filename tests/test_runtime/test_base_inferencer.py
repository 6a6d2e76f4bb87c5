"""Runs over several images of which some fail."""

import cv2
import numpy as np
import pytest
from PIL import Image

from demo import image_demo
from multitask_runtime import InputError, OnnxInferencer, VideoReader, VideoWriter
from multitask_runtime.io.resize import limit_aspect
from tests.test_runtime.conftest import save_image


class Faulty:
    """Fail for images of one gray value."""

    def __init__(self, function, error, is_bad):
        self.function, self.error, self.is_bad = function, error, is_bad

    def __call__(self, pixels, *args):
        if self.is_bad(pixels):
            raise self.error
        return self.function(pixels, *args)


@pytest.fixture(params=['pytorch', 'onnx'])
def make_faulty(request, model, inferencer, monkeypatch):

    def make(error, gray):
        if request.param == 'onnx':
            found = OnnxInferencer(model)
            monkeypatch.setattr(
                found,
                '_model',
                Faulty(
                    found._model,
                    error,
                    lambda images: any(image.pixels.max() == gray for image in images),
                ),
            )
        else:
            found = inferencer
            monkeypatch.setattr(
                found,
                'forward',
                Faulty(
                    found.forward,
                    error,
                    lambda data: any(image.max() == gray for image in data['inputs']),
                ),
            )
        return found

    return make


@pytest.mark.parametrize(
    'error', [cv2.error('too narrow\nand more'), RuntimeError('too narrow'), MemoryError()]
)
def test_error_of_one_image_is_reported(make_faulty, error, tmp_path, capsys):
    paths = [save_image(tmp_path / f'{gray}.png', value=gray) for gray in (10, 200, 30, 40)]
    found = make_faulty(error, 200)
    results = found(paths, batch_size=3, out_dir=tmp_path / 'out')
    assert [result['source'] for result in results] == [paths[0], *paths[2:]]
    reason = f'{paths[1]}: {type(error).__name__}: '
    assert [text.startswith(reason) for text in found.skipped] == [True]
    said = capsys.readouterr().err
    assert 'inputs done: 3 of 4 (3 images' in said and reason in said
    written = {path.name for path in (tmp_path / 'out').iterdir()}
    assert written == {'10.png', '30.png', '40.png', 'predictions.json'}


def test_error_of_every_image_is_raised(make_faulty, tmp_path):
    paths = [save_image(tmp_path / f'{i}.png', value=10) for i in range(15)]
    with pytest.raises(KeyError, match='a bug'):
        make_faulty(KeyError('a bug'), 10)(paths[:3])
    # Nobody waits for all of them to fail, or for ever of a camera.
    found = make_faulty(KeyError('a bug'), 10)
    with pytest.raises(KeyError, match='a bug'):
        found(paths)
    assert len(found.skipped) == 9
    # What an image may be the cause of is a sentence.
    with pytest.raises(InputError, match='0.png: error: too narrow'):
        make_faulty(cv2.error('too narrow'), 10)(paths[0])


def test_failed_frames_keep_their_index(model, tmp_path, monkeypatch):
    writer = VideoWriter(tmp_path / 'film.mp4', 10)
    for value in (0, 0, 250, 250, 0):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.close()
    found = OnnxInferencer(model)
    monkeypatch.setattr(
        found,
        '_model',
        Faulty(found._model, ValueError('bright'), lambda images: images[0].pixels.max() > 99),
    )
    results = found(tmp_path / 'film.mp4', out_dir=tmp_path / 'out')
    assert [result['frame'] for result in results] == [0, 1, 4]
    assert found.skipped == [f'{tmp_path / "film.mp4"}, frame 2: ValueError: bright']
    assert len(list(VideoReader(str(tmp_path / 'out/film.mp4')))) == 5


def test_exit_status_of_skipped_inputs(model, tmp_path):
    save_image(tmp_path / 'photos/a.png')
    arguments = [str(tmp_path / 'photos'), model, '--out-dir', str(tmp_path / 'out')]
    assert image_demo.main(arguments) == 0
    (tmp_path / 'photos/b.png').write_bytes(b'no image')
    assert image_demo.main(arguments) == 1
    assert (tmp_path / 'out/a.png').is_file()


@pytest.mark.parametrize('size', [(2, 900), (900, 2), (1, 3000), (1, 1)])
def test_narrow_images(inferencer, noise, size, tmp_path, capsys):
    """Compare with the stretched image, whose coordinates are scaled back."""
    image = noise(*size)
    path = tmp_path / 'narrow.png'
    cv2.imwrite(str(path), image)
    others = [save_image(tmp_path / f'{name}.png') for name in 'az']
    result = inferencer([others[0], str(path), others[1]], out_dir=tmp_path / 'out')[1]
    said = capsys.readouterr().err
    assert 'inputs done: 3 of 3' in said
    stretched = limit_aspect(image)
    assert (
        (f'narrow.png: {size[1]} x {size[0]} pixels' in said)
        == (size != (1, 1))
        == (stretched.shape != image.shape)
    )
    (expected,) = inferencer(stretched)
    shrink = np.divide(size[::-1], stretched.shape[1::-1])
    np.testing.assert_allclose(
        result['bboxes'], expected['bboxes'] * np.tile(shrink, 2), atol=1e-3
    )
    np.testing.assert_allclose(result['keypoints'], expected['keypoints'] * shrink, atol=1e-3)
    assert all(tuple(mask['size']) == size for mask in result['masks'])
    assert cv2.imread(str(tmp_path / 'out/narrow.png')).shape[:2] == size


def test_narrow_images_of_an_exported_model(model):
    # 900 x 2 is stretched to 900 x 18, and resized to 128 x 2.56, that is 3.
    (result,) = OnnxInferencer(model)(np.zeros((2, 900, 3), np.uint8))
    np.testing.assert_allclose(
        result['bboxes'][0], [20 * 900 / 128, 10 * 2 / 3, 60 * 900 / 128, 80 * 2 / 3], rtol=1e-6
    )
    assert (result['height'], result['width']) == (2, 900)


def test_first_of_several_images_is_used(model, tmp_path, capsys):
    first, second = (Image.new('RGB', (64, 48), color) for color in ('white', 'black'))
    for name in ('a.gif', 'b.tif', 'c.webp'):
        first.save(tmp_path / name, save_all=True, append_images=[second])
    results = OnnxInferencer(model)(tmp_path)
    assert all(result['scores'].min() > 0.95 for result in results)
    said = capsys.readouterr().err
    for result in results:
        assert (f'{result["source"]}: has 2 images, of which the first is used') in said
