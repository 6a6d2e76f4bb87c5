"""Image files: formats, and parity with the test pipelines."""

import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from multitask_refine.apis import image_loader
from multitask_runtime import InputError, OnnxError
from multitask_runtime.io.image_file import ImageFile
from multitask_runtime.io.inputs import collect
from multitask_runtime.io.resize import Resizer


@pytest.mark.parametrize('mode', ['RGB', 'L', 'LA', 'RGBA', 'P', 'CMYK'])
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_image_file_matches_the_pipeline(noise, tmp_path, mode, backend):
    suffix = '.jpg' if mode in ('RGB', 'CMYK') else '.png'
    path = str(tmp_path / f'a{suffix}')
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(noise(20, 30)).convert(mode).save_image(path, exif=exif)
    step = dict(type='LoadImageFromFile', imdecode_backend=backend)
    expected = image_loader.ImageFile(step)(path)
    np.testing.assert_array_equal(ImageFile(backend)(path), expected)


def test_image_file_without_pillow(noise, tmp_path, monkeypatch):
    path = tmp_path / 'a.png'
    image = noise(20, 30)
    cv2.imwrite(str(path), image)
    monkeypatch.setitem(sys.modules, 'PIL', None)
    monkeypatch.setitem(sys.modules, 'PIL.Image', None)
    assert (ImageFile()(str(path)) == image).all()
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputError, match='a.png: expected an image, found'):
        ImageFile()(str(path))
    for make in (
        lambda: ImageFile('pillow'),
        lambda: Resizer(dict(type='ResizeShortestEdge', scale=8, backend='pillow')),
    ):
        with pytest.raises(OnnxError, match='Pillow is needed for this model'):
            make()


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize(
    'name, options',
    [
        ('a.jfif', dict(format='JPEG', quality=95)),
        ('a.avif', dict(format='AVIF', quality=95)),
        ('a.gif', dict(format='GIF')),
        ('a.jp2', dict(format='JPEG2000')),
        ('a.mpo', dict(format='MPO', quality=95)),
        ('a.pnm', dict(format='PPM')),
        ('a.webp', dict(format='WEBP', quality=95)),
        ('cmyk.jpg', dict(format='JPEG', quality=95)),
        ('palette.png', dict(format='PNG')),
    ],
)
def test_image_formats(tmp_path, backend, name, options):
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:, :30] = (250, 40, 20)  # red
    image = Image.fromarray(upright)
    if name == 'palette.png':
        image = image.quantize(4)
    if name == 'cmyk.jpg':
        image = image.convert('CMYK')
    image.save_image(tmp_path / name, **options)
    (source,), _ = collect(tmp_path)
    step = dict(type='LoadImageFromFile', imdecode_backend=backend)
    read = image_loader.ImageFile(step)(source.value)
    assert read.shape == (40, 60, 3)
    assert abs(read[:, :28].astype(int) - (20, 40, 250)).max() < 25
    assert read[:, 32:].max() < 25


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize(
    'exif', [b'Exif\0\0no exif', b'Exif\0\0MM\0*\0\0\0\x08\xff\xff', b'Exif\0\0']
)
def test_damaged_exif_is_ignored(tmp_path, backend, exif):
    Image.new('RGB', (60, 40), 'white').save_image(tmp_path / 'a.jpg', exif=exif)
    step = dict(type='LoadImageFromFile', imdecode_backend=backend)
    read = image_loader.ImageFile(step)(str(tmp_path / 'a.jpg'))
    assert read.shape == (40, 60, 3) and read.min() > 250


def test_float_images_are_refused(tmp_path):
    Image.new('F', (60, 40)).save_image(tmp_path / 'a.tif')
    step = dict(type='LoadImageFromFile', imdecode_backend='pillow')
    with pytest.raises(InputError, match='found one of 32-bit floats'):
        image_loader.ImageFile(step)(str(tmp_path / 'a.tif'))
