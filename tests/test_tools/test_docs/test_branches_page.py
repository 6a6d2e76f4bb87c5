"""Tables of the page on branches, from a results file that the tool wrote."""

import copy
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
    """Two seeds of a condition, and of regular with one swap more for the second seed."""
    for split in ('test', 'crowded'):
        folder = tmp_path / 'branches' / split
        folder.mkdir(parents=True)
        for seed, swap in ((0, 10), (1, 14)):
            plain = copy.deepcopy(record)
            del plain['visibility'], plain['rankings']['keypoints']['bbox_oks']
            (folder / f'score_seed{seed}.json').write_text(json.dumps(record))
            plain['keypoint_errors']['crowded people']['swap'] = swap
            (folder / f'regular_seed{seed}.json').write_text(json.dumps(plain))
    tables = sections(tmp_path)
    rows = {name: _rows(text) for name, text in tables.items()}
    title = 'Regular, score branches'
    assert rows['visibility'][title][0] == '2' and '90.00 ± 0.00' in rows['visibility'][title]
    assert f'{title}: keypoints by bbox_oks' in rows['rankings']
    assert 'Regular: keypoints by bbox_oks' not in rows['rankings']
    assert rows['rankings']['Regular: keypoints by bbox_keypoint'][-1] == 'default'
    assert rows['crowded']['Regular: crowded people'][:3] == ['2', '2', '2.00 ± 0.00']
    assert rows['crowded']['Regular: crowded people'][6] == '12.00 ± 2.83'
    # 10 - 10 and 10 - 14: their mean is -2
    assert rows['crowded-differences'][title][3].startswith('-2.00 [')


def _rows(text):
    cells = [[each.strip() for each in line.split('|')[1:-1]] for line in text.splitlines()]
    return {name: rest for name, *rest in cells}


def test_nothing_is_measured(tmp_path):
    assert set(sections(tmp_path).values()) == {'Not measured.'}
