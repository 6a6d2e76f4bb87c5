"""A server of the model that detects the same two instances in every image."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from multitask_runtime import OnnxInferencer, VideoWriter
from multitask_runtime.serve import Limits, ServedModel, create_app
from tests.test_runtime.onnx_files import make_file

IMAGE = np.full((48, 64, 3), (204, 102, 0), np.uint8)  # scores 0.8 and 0.4
LIMITS = Limits(max_upload_mb=1, max_images=3, max_pixels=1_000_000, max_frames=4, timeout=30)


@pytest.fixture(scope='session')
def served(tmp_path_factory):
    path = make_file(tmp_path_factory.mktemp('served') / 'hand-made.onnx')
    return ServedModel('hand-made', OnnxInferencer(path, show_progress=False))


@pytest.fixture(scope='session')
def client(served):
    with TestClient(create_app([served], LIMITS)) as client:
        yield client


def encode(image=IMAGE, suffix='.png'):
    return cv2.imencode(suffix, image)[1].tobytes()


def png_of(width, height):
    """A PNG of black pixels by its chunks, without a decoded image in memory."""

    def chunk(kind, content):
        return (
            struct.pack('>I', len(content))
            + kind
            + content
            + struct.pack('>I', zlib.crc32(kind + content))
        )

    line = bytes(1 + -(-width // 8))  # filter byte, one bit for each pixel
    packer = zlib.compressobj(9)
    pixels = b''.join(packer.compress(line) for _ in range(height)) + packer.flush()
    header = struct.pack('>IIBBBBB', width, height, 1, 0, 0, 0, 0)
    parts = [chunk(b'IHDR', header), chunk(b'IDAT', pixels), chunk(b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


@pytest.fixture(scope='session')
def film(tmp_path_factory):
    """Content of a video of four frames at 10 frames per second."""
    path = tmp_path_factory.mktemp('film') / 'film.mp4'
    writer = VideoWriter(path, 10)
    for _ in range(4):
        writer.write(IMAGE)
    writer.close()
    return path.read_bytes()


def post(client, path='/v1/predict', files=(), headers=None, **fields):
    """Post (name, content) pairs; the field is that of the endpoint."""
    field = 'files' if path == '/v1/predict' else 'file'
    return client.post(path, data=fields, files=[(field, each) for each in files], headers=headers)


def refusal(response):
    """Status and sentence of a refused request."""
    assert set(response.json()) == {'detail'}, response.json()
    return response.status_code, response.json()['detail']
