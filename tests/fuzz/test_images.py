"""Mutated images through the image loaders: an image or an error."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multitask_refine.apis import InputError
from multitask_refine.apis.image_loader import ImageFile
from multitask_runtime.io.inputs import check_image
from tests.fuzz.mutations import mutated_bytes

_PHOTO = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
_KINDS = ('.jpg', '.png', '.bmp', '.tiff', '.webp', '.ppm')
_FILES = {kind: cv2.imencode(kind, _PHOTO)[1].tobytes() for kind in _KINDS}
_FILES['.gray.png'] = cv2.imencode('.png', _PHOTO[..., 0])[1].tobytes()
_FILES['.deep.png'] = cv2.imencode('.png', _PHOTO[..., 0].astype(np.uint16) * 257)[1].tobytes()
_FILES['.alpha.png'] = cv2.imencode('.png', np.dstack([_PHOTO, _PHOTO[..., :1]]))[1].tobytes()
_PIECES = (
    b'\xff\xff\xff\x7f',
    b'\x00\x00\xff\xff',
    b'\xff\xd8',
    b'\xff\xda',
    b'\0' * 4,
    b'\xff' * 4,
    b'IEND',
    b'II*\0',
    b'\x00\x00\xea\x60',
)


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    return tmp_path_factory.mktemp('mutated') / 'image'


@pytest.fixture(scope='module')
def readers():
    return {
        backend: ImageFile(dict(type='LoadImageFromFile', imdecode_backend=backend))
        for backend in ('cv2', 'pillow')
    }


@given(
    st.sampled_from(list(_FILES)).flatmap(lambda kind: mutated_bytes(_FILES[kind], _PIECES)),
    st.sampled_from(['cv2', 'pillow']),
)
def test_mutated_images(path, readers, data, backend):
    path.write_bytes(data)
    try:
        image = readers[backend](str(path))
    except InputError as error:
        assert str(path) in str(error) and 'expected' in str(error)
    else:
        check_image(image, 'the image')


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('kind', list(_FILES))
def test_valid_images(path, readers, kind, backend):
    path.write_bytes(_FILES[kind])
    assert readers[backend](str(path)).shape == _PHOTO.shape
