"""Mutated annotations through the rules of one instance."""

import copy
import json

from hypothesis import given
from hypothesis import strategies as st

from multitask_refine.datasets.validation.instances import repair_instance
from multitask_refine.datasets.validation.masks import are_finite_numbers, to_rle
from tests.conftest import _annotations as annotations
from tests.fuzz.mutations import mutated_json

_SIZE, _NUM_KEYPOINTS = (64, 48), 17


@given(st.sampled_from(annotations()).flatmap(mutated_json))
def test_repaired_instance_is_valid(ann):
    """The repaired instance breaks no rule, and pycocotools reads its mask."""
    if not isinstance(ann, dict):
        return
    before = json.dumps(ann)
    repaired, issues = repair_instance(copy.deepcopy(ann), _SIZE, _NUM_KEYPOINTS)
    assert json.dumps(ann) == before
    assert all(json.dumps(issue.found) for issue in issues)
    if repaired is None:
        return
    issues = repair_instance(repaired, _SIZE, _NUM_KEYPOINTS)[1]
    assert not [issue for issue in issues if issue.fatal_in_test]
    x, y, width, height = repaired['bbox']
    assert are_finite_numbers(repaired['bbox']) and width > 0 and height > 0
    assert x < 64 and y < 48 and x + width > 0 and y + height > 0
    if 'keypoints' in repaired:
        assert len(repaired['keypoints']) == 51
        assert are_finite_numbers(repaired['keypoints'])
    if repaired.get('segmentation'):
        to_rle(repaired['segmentation'], 64, 48)
