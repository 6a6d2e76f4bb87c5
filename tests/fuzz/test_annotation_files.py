"""Mutated annotation files through the data set, up to the input of the network."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.logging import MMLogger

from multitask_refine.datasets import repair
from multitask_refine.utils.errors import ExplainedError
from tests.conftest import SAMPLE_CONFIG
from tests.fuzz.mutations import mutated_bytes, mutated_json, portion

_DOCUMENTED_ERRORS = (ExplainedError, ValueError, FileNotFoundError)


@pytest.fixture(scope='module')
def content(scene):
    path = scene / 'annotations/person_keypoints_train2017.json'
    return json.loads(path.read_text())


@pytest.fixture(scope='module')
def folder(scene, tmp_path_factory):
    """Prepare a data set whose annotation file the tests write."""
    folder = tmp_path_factory.mktemp('mutated')
    (folder / 'train2017').symlink_to(scene / 'train2017')
    (folder / 'annotations').mkdir()
    MMLogger.get_current_instance().setLevel('ERROR')
    yield folder
    MMLogger.get_current_instance().setLevel('INFO')


def _load(folder, text, test_mode):
    path = folder / 'annotations/person_keypoints_train2017.json'
    path.write_bytes(text)
    cfg = Config.fromfile(SAMPLE_CONFIG).train_dataloader.dataset
    cfg.update(data_root=f'{folder}/', test_mode=test_mode)
    return DATASETS.build(cfg)


def _use(dataset):
    """Check that all samples are valid."""
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        people = sample.gt_instances
        height, width = sample.img_shape
        boxes = people.bboxes.tensor
        assert torch.isfinite(boxes).all() and (boxes >= 0).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()
        assert torch.isfinite(people.keypoints).all()
        assert people.keypoints.shape == (len(boxes), 17, 2)
        assert set(people.keypoints_visible.flatten().tolist()) <= {0, 1, 2}
        assert people.masks.masks.shape == (len(boxes), height, width)


@settings(max_examples=portion(0.2))
@given(data=st.data(), test_mode=st.booleans())
def test_mutated_structure(content, folder, data, test_mode):
    text = json.dumps(data.draw(mutated_json(content))).encode()
    try:
        dataset = _load(folder, text, test_mode)
    except _DOCUMENTED_ERRORS as error:
        assert len(str(error)) > 20
        return
    if not test_mode:
        _use(dataset)


@settings(max_examples=portion(0.2))
@given(data=st.data())
def test_mutated_bytes(content, folder, data):
    text = data.draw(
        mutated_bytes(json.dumps(content).encode(), (b'"', b'[', b'}', b'NaN', b'1e999'))
    )
    try:
        dataset = _load(folder, text, False)
    except _DOCUMENTED_ERRORS as error:
        assert len(str(error)) > 20
        return
    _use(dataset)


@given(data=st.data())
def test_repaired_content_is_valid(content, data):
    damaged = data.draw(mutated_json(content))
    lists = ('images', 'annotations', 'categories')
    if not isinstance(damaged, dict) or not all(
        isinstance(damaged.get(name), list) for name in lists
    ):
        return  # read_annotations raises
    repaired, _ = repair(damaged, 17)
    again, issues = repair(repaired, 17)
    assert not [issue for issue in issues if issue.fatal_in_test]
    assert _same(again, repaired)


def _same(one, other):
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return one == other
