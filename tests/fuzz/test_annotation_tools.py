"""Mutated files through the tools that write annotation files."""

import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multitask_refine.datasets import read_annotations, repair
from tests.fuzz.mutations import mutated_json, portion
from tests.test_tools.test_predictions_to_coco import _of_a_demo, _of_a_test
from tools.dataset import predictions_to_coco, split_coco


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('tools')


@pytest.fixture(scope='module', params=[_of_a_test, _of_a_demo])
def predictions(request, folder):
    return json.loads(request.param(folder).read_text())


@settings(max_examples=portion(0.5))
@given(data=st.data())
def test_predictions_become_valid_annotations(predictions, folder, data):
    """Or an error names the file."""
    path, out = folder / 'mutated.json', folder / 'out.json'
    out.unlink(missing_ok=True)
    path.write_text(json.dumps(data.draw(mutated_json(predictions))))
    try:
        predictions_to_coco.main([str(path), str(out)])
    except SystemExit as error:
        assert str(path) in str(error)
        return
    _, issues = repair(read_annotations(str(out)))
    assert not [issue for issue in issues if issue.fatal_in_test]


@settings(max_examples=portion(0.5))
@given(data=st.data())
def test_annotations_are_split_or_raise(folder, scene, data):
    path, out = folder / 'mutated.json', folder / 'parts'
    shutil.rmtree(out, ignore_errors=True)
    content = json.loads((scene / 'annotations/person_keypoints_train2017.json').read_text())
    path.write_text(json.dumps(data.draw(mutated_json(content))))
    try:
        split_coco.main([str(path), str(out), '--folds', '2'])
    except SystemExit as error:
        assert str(path) in str(error)
        return
    sides = [read_annotations(str(out / f'fold{k}_val.json')) for k in (1, 2)]
    for name in ('images', 'annotations'):
        assert sum(len(side[name]) for side in sides) == len(read_annotations(str(path))[name])
