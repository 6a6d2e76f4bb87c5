"""Spoilt annotations through the rules of one instance."""

import copy
import json

from hypothesis import given
from hypothesis import strategies as st

from multitask_refine.datasets.validation.instances import Place, inspect
from multitask_refine.datasets.validation.masks import are_numbers, encode
from tests.conftest import _annotations as annotations
from tests.fuzz.mutations import mutated_json

_PLACE = Place(64, 48, 17)


@given(st.sampled_from(annotations()).flatmap(mutated_json))
def test_what_remains_is_clean(ann):
    """Nothing is found in what was mended, and pycocotools takes it."""
    if not isinstance(ann, dict):
        return
    before = json.dumps(ann)
    mended, findings = inspect(copy.deepcopy(ann), _PLACE)
    assert json.dumps(ann) == before
    assert all(json.dumps(finding.found) for finding in findings)
    if mended is None:
        return
    assert not [f for f in inspect(mended, _PLACE)[1] if f.stops_test]
    x, y, width, height = mended['bbox']
    assert are_numbers(mended['bbox']) and width > 0 and height > 0
    assert x < 64 and y < 48 and x + width > 0 and y + height > 0
    if 'keypoints' in mended:
        assert len(mended['keypoints']) == 51
        assert are_numbers(mended['keypoints'])
    if mended.get('segmentation'):
        encode(mended['segmentation'], 64, 48)
