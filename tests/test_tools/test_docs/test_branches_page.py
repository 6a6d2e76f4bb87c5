"""Tables of the page on branches, from a results file that the tool wrote."""

import json

import pytest

from tests.test_analysis.test_keypoint_errors import MIRROR, _data, _found, _person
from tools.analysis_tools.measure_predictions import measure
from tools.docs.branches_page import sections


@pytest.fixture
def record():
    """A person with a swapped hand beside another, with predicted OKS and visibility."""
    people = [_person(visible=(2, 2, 2, 1, 2)), _person(90)]
    found = [_found(people[0], keypoints={3: (190, 60)}), _found(people[1])]
    for _, entry in found:
        entry['pose_score'] = 0.5
        entry['keypoints_visible_probs'] = [[0.0, 0.25, 0.75]] * 5
    return measure(_data(people, found), MIRROR)


def test_measure_by_hand(record):
    """One of ten keypoints is occluded, one is swapped."""
    assert record['visibility']['accuracy'] == record['visibility']['shares']['visible'] == 90
    assert record['visibility']['AP_absent'] is None
    assert record['visibility']['calibration']['error'] == pytest.approx(15)
    errors = record['keypoint_errors']
    assert errors['all people'] == errors['crowded people']
    assert errors['all people']['swap'] == 10 and errors['all people']['matched'] == 2
    assert record['rankings']['keypoints'].keys() == {'bbox', 'bbox_keypoint', 'bbox_oks'}
    json.dumps(record, allow_nan=False)


def test_tables(record, tmp_path):
    folder = tmp_path / 'branches'
    folder.mkdir()
    tested = dict(config='a.py', seed=3)
    (folder / 'a.json').write_text(json.dumps(dict(record, tested=tested)))
    tables = sections(tmp_path)
    assert '`a.py`, seed 3: predicted' in tables['visibility'] and '90.00' in tables['visibility']
    assert 'seed 3: keypoints by bbox_oks' in tables['rankings']
    assert 'seed 3: crowded people' in tables['crowded'] and '2 of 2' in tables['crowded']


def test_nothing_is_measured(tmp_path):
    assert set(sections(tmp_path).values()) == {'Not measured.'}
