"""Resized images against the test pipelines."""

import json

import numpy as np
import pytest
from mmdet.registry import TRANSFORMS

from multitask_runtime import OnnxError
from multitask_runtime.io.resize import Resizer, is_narrow, limit_aspect


@pytest.mark.parametrize(
    'settings, tolerance',
    [
        (dict(type='Resize', scale=(133, 80), keep_ratio=True), 0),
        (dict(type='Resize', scale=(50, 70), interpolation='area'), 0),
        (dict(type='Resize', scale=90, keep_ratio=True, backend='pillow'), 0),
        (dict(type='ResizeShortestEdge', scale=80, max_size=133, backend='pillow'), 0),
        (dict(type='ResizeShortestEdge', scale=80, max_size=133), 0),
        (dict(type='ResizeShortestEdge', scale=80), 0),
        (dict(type='FloatResize', scale=(1333, 800)), 1e-3),
    ],
)
def test_resizer_matches_the_pipeline(noise, settings, tolerance):
    theirs = TRANSFORMS.build(settings)
    of_json = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in settings.items()
    }
    ours = Resizer(json.loads(json.dumps(of_json)))
    for size in [(48, 64), (64, 48), (50, 50), (31, 97), (3, 4), (301, 17), (33, 32)]:
        image = noise(*size)
        expected, found = theirs(dict(img=image))['img'], ours(image)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        assert abs(found.astype(float) - expected).max() <= tolerance


@pytest.mark.parametrize(
    'settings, match',
    [
        (dict(type='Rotate'), 'expected one of Resize,.*found Rotate'),
        (dict(type='Resize', scale=[8, 8], blub=1), "unexpected keyword.*'blub'"),
        ({}, 'found None'),
    ],
)
def test_unknown_resize_step(settings, match):
    with pytest.raises(OnnxError, match=match):
        Resizer(settings)


def test_narrow_aspect_ratio():
    assert not is_narrow(np.zeros((2, 100, 3)))
    assert is_narrow(np.zeros((101, 2, 3)))
    assert limit_aspect(np.zeros((101, 2, 3))).shape == (101, 3, 3)
