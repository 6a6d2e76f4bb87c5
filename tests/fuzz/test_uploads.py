"""Mutated uploads to the server: a response, or a refusal in one sentence."""

import json

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from multitask_runtime import OnnxInferencer, VideoWriter
from multitask_runtime.serve import Limits, ServedModel, create_app
from tests.fuzz.mutations import mutated_bytes, portion
from tests.test_runtime.onnx_files import make_file

_PHOTO = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
_KINDS = ('.avif', '.bmp', '.gif', '.jpg', '.png', '.tiff', '.webp')
_FILES = {kind: cv2.imencode(kind, _PHOTO)[1].tobytes() for kind in _KINDS}
_PIECES = (b'\xff\xff\xff\x7f', b'\x00\x00\xff\xff', b'\xff\xd8', b'IEND', b'ftyp', b'\0' * 4)


@pytest.fixture(scope='module')
def client(tmp_path_factory):
    path = make_file(tmp_path_factory.mktemp('uploads') / 'model.onnx')
    model = ServedModel('model', OnnxInferencer(path, show_progress=False))
    limits = Limits(max_pixels=100_000, max_frames=20)
    with TestClient(create_app([model], limits)) as client:
        yield client


@pytest.fixture(scope='module')
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp('film') / 'film.mp4'
    writer = VideoWriter(path, 10)
    for shift in range(3):
        writer.write(np.roll(np.tile(_PHOTO, (4, 4, 1)), shift, 1))
    writer.close()
    return path.read_bytes()


def _check(response):
    if response.status_code != 200:
        assert response.status_code in (413, 415, 422), response.text
        (detail,) = response.json().values()
        assert detail.startswith('name: expected') and '\n' not in detail


@given(st.sampled_from(_KINDS).flatmap(lambda kind: mutated_bytes(_FILES[kind], _PIECES)))
def test_mutated_images(client, data):
    _check(client.post('/v1/predict', files=dict(files=('name', data))))


@settings(max_examples=portion(0.3))
@given(st.data())
def test_mutated_videos(client, film, data):
    content = data.draw(mutated_bytes(film, _PIECES))
    response = client.post('/v1/predict-video', files=dict(file=('name', content)))
    _check(response)
    if response.status_code == 200:
        *frames, end = map(json.loads, response.text.splitlines())
        assert all('instances' in frame for frame in frames)
        assert set(end) in ({'model', 'frames'}, {'detail'})
