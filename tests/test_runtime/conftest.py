"""Fixtures of the inferencers, and images."""

import cv2
import numpy as np
import pytest

from tests.test_apis.conftest import (  # noqa: F401
    inferencer,
    make_inferencer,
    make_network,
    network,
    noise,
    one_thread,
    photos,
)
from tests.test_runtime.onnx_files import make_file


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """Make a model that detects the same two instances in every image."""
    return make_file(tmp_path_factory.mktemp('onnx') / 'model.onnx')


def save_image(path, height=48, width=64, value=120):
    """Write a gray image, in the format of the suffix or as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((height, width, 3), value, np.uint8)
    suffix = path.suffix if path.suffix in ('.jpg', '.png') else '.png'
    path.write_bytes(cv2.imencode(suffix, image)[1])
    return str(path)
