"""Datasets of drawn images, and a model whose scores tell their values."""

import functools
import io
import json
import tarfile

import cv2
import numpy as np
import pytest

from multitask_runtime import OnnxInferencer


@pytest.fixture
def load(model):
    """Load the model that finds two people, whose scores are how blue and green an image is."""
    return functools.partial(OnnxInferencer, model, show_progress=False)


def encode(value, height=48, width=64):
    return cv2.imencode('.png', np.full((height, width, 3), value, np.uint8))[1].tobytes()


def make_files(folder, count=5):
    """Write images whose values are 0, 10, 20 and so on."""
    folder.mkdir(exist_ok=True)
    for index in range(count):
        (folder / f'{index}.png').write_bytes(encode(10 * index))
    return str(folder)


def make_tar(path, members):
    with tarfile.open(path, 'w') as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return str(path)


def read_rows(folder):
    """Return the rows of all shards, in the order of the shards."""
    return [
        json.loads(line)
        for part in sorted(folder.glob('part-*.jsonl'))
        for line in part.read_text().splitlines()
    ]
