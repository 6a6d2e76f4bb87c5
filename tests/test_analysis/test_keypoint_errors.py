"""Kinds of keypoint errors, curves, groups and scores, on people made by hand.

With an area of 10000 and sigma 0.05 a keypoint that is d pixels off has the
similarity exp(-d^2 / 200): 0.88 at 5, 0.73 at 8, 0.49 at 12.
"""

import math

import numpy as np
import pytest

from multitask_refine.analysis import (
    KINDS,
    by_occlusion,
    by_people,
    by_size,
    by_visibility,
    classify_keypoints,
    compare_rankings,
    find_keypoint_errors,
    find_uncrowded,
    image_scores,
    precision_curves,
)
from multitask_refine.analysis.keypoint_errors import shares
from multitask_refine.evaluation import CocoData, evaluate
from multitask_refine.evaluation.coco_scores import build_coco

# Nose, left and right eye, left and right hand.
MIRROR = [0, 2, 1, 4, 3]
POSE = np.array([[50, 10], [80, 10], [20, 10], [100, 60], [0, 60]])
SIGMAS = np.full(5, 0.05)


def _person(shift=0, visible=(2, 2, 2, 2, 2), image=1, side=100, **fields):
    """A square person whose pose is moved to the right."""
    keypoints = np.column_stack([POSE + [shift, 0], visible])
    return dict(
        image_id=image,
        category_id=1,
        iscrowd=0,
        area=side**2,
        bbox=[shift, 0, side, side],
        keypoints=keypoints.flatten().tolist(),
        num_keypoints=sum(v > 0 for v in visible),
        **fields,
    )


def _found(person, score=0.9, moved=0, keypoints=None):
    """The same person as a detection, in both tasks."""
    x, y, width, height = person['bbox']
    points = np.reshape(person['keypoints'], (-1, 3)).copy()
    points[:, 0] += moved
    for keypoint, place in (keypoints or {}).items():
        points[keypoint, :2] = place
    common = dict(image_id=person['image_id'], category_id=1, score=score)
    return (
        dict(common, bbox=[x + moved, y, width, height]),
        dict(common, keypoints=points.flatten().tolist()),
    )


def _data(people, found, images=(1,)):
    truth = build_coco(
        dict(
            images=[dict(id=i, height=200, width=2000) for i in images],
            annotations=[dict(p, id=i) for i, p in enumerate(people, 1)],
            categories=[dict(id=1, name='person')],
        )
    )
    boxes, keypoints = zip(*found) if found else ((), ())
    return CocoData(
        truth, dict(bbox=list(boxes), keypoints=list(keypoints)), SIGMAS, [1], list(images)
    )


def _classify(changes, person=None, others=()):
    points = POSE.astype(float)
    for keypoint, place in changes.items():
        points[keypoint] = place
    kinds = classify_keypoints(points, person or _person(), others, SIGMAS, MIRROR)
    return [KINDS[kind] if kind >= 0 else None for kind in kinds]


@pytest.mark.parametrize(
    'changes, expected',
    [
        ({}, ['good'] * 5),
        ({0: (55, 10)}, ['good'] * 5),
        ({0: (58, 10)}, ['jitter', 'good', 'good', 'good', 'good']),
        ({0: (62, 10)}, ['miss', 'good', 'good', 'good', 'good']),
        ({1: (20, 10), 2: (80, 10)}, ['good', 'inversion', 'inversion', 'good', 'good']),
        ({3: (400, 60)}, ['good', 'good', 'good', 'swap', 'good']),
        ({3: (300, 60)}, ['good', 'good', 'good', 'swap', 'good']),
        ({3: (350, 10)}, ['good', 'good', 'good', 'miss', 'good']),
        ({4: (700, 60)}, ['good', 'good', 'good', 'good', 'miss']),
    ],
    ids=[
        'as it is',
        'five pixels',
        'eight pixels',
        'twelve pixels',
        'eyes exchanged',
        "the neighbor's left hand",
        "the neighbor's right hand",
        "the neighbor's nose",
        'nowhere',
    ],
)
def test_kinds_of_errors(changes, expected):
    """The neighbor stands 300 pixels to the right."""
    assert _classify(changes, others=[_person(300)]) == expected


def test_limits_between_the_kinds():
    """exp(-d^2 / 200) is 0.85 at 5.701 and 0.5 at 11.774."""
    for distance, kind in ((5.70, 'good'), (5.71, 'jitter'), (11.77, 'jitter'), (11.78, 'miss')):
        assert _classify({0: (50 + distance, 10)})[0] == kind


def test_the_most_similar_true_keypoint_decides():
    """Eyes 14 pixels apart: 8 from the own and 6 from the other one is an
    inversion, 6 from the own is jitter, and so is 7 from both."""
    person = _person()
    person['keypoints'][3:9] = [54, 10, 2, 40, 10, 2]
    for x, kind in ((46, 'inversion'), (48, 'jitter'), (47, 'jitter')):
        assert _classify({1: (x, 10)}, person)[1] == kind


def test_a_neighbors_similarity_takes_the_neighbors_area():
    """20 pixels from a hand of a person of four times the area (twice the
    side) are exp(-400 / 800) = 0.61; of the same area 0.14."""
    changes = {3: (420, 60)}
    assert _classify(changes, others=[_person(300, side=200)])[3] == 'swap'
    assert _classify(changes, others=[_person(300)])[3] == 'miss'


def test_unlabeled_keypoints_have_no_kind():
    person = _person(visible=(0, 2, 1, 2, 2))
    assert _classify({1: (20, 10)}, person) == [None, 'inversion', 'good', 'good', 'good']
    # Nobody knows where the other eye is.
    person = _person(visible=(2, 0, 2, 2, 2))
    assert _classify({2: (80, 10)}, person)[2] == 'miss'
    neighbor = _person(300, visible=(2, 2, 2, 0, 2))
    assert _classify({3: (400, 60)}, others=[neighbor])[3] == 'miss'


def test_errors_are_counted_by_keypoint_and_visibility():
    """A person with a jittered nose and a missed occluded hand, a person who is not detected,
    and, not counted, a crowd and a person without keypoints."""
    people = [
        _person(visible=(2, 2, 2, 2, 1)),
        _person(600),
        dict(_person(900), iscrowd=1),
        _person(1200, visible=(0,) * 5),
    ]
    found = [
        _found(people[0], keypoints={0: (58, 10), 4: (500, 190)}),
        _found(people[2]),
        _found(people[3]),
    ]
    errors = find_keypoint_errors(_data(people, found), MIRROR)
    assert (errors.people, errors.matched) == (2, 1)
    expected = np.zeros((5, 2, 5), int)
    expected[0, 1, KINDS.index('jitter')] = 1
    expected[1:4, 1, KINDS.index('good')] = 1
    expected[4, 0, KINDS.index('miss')] = 1
    assert (errors.counts == expected).all()
    assert shares(errors.counts) == dict(good=60, jitter=20, inversion=0, swap=0, miss=20)
    assert math.isnan(shares(errors.counts[4, 1])['good'])


def test_a_detection_counts_for_one_person_and_a_bad_one_for_none():
    people = [_person()]
    found = [
        _found(people[0], 0.5),
        _found(people[0], 0.9, moved=8),
        _found(people[0], 0.8, moved=500),
    ]
    errors = find_keypoint_errors(_data(people, found), MIRROR)
    assert errors.matched == 1 and errors.counts.sum() == 5
    assert shares(errors.counts)['jitter'] == 100  # the surest
    assert find_keypoint_errors(_data(people, found[2:]), MIRROR).matched == 0


def test_crowded_people_have_keypoints_of_others_in_their_box():
    """The third person's right hand is at 390.5, in the second's box, and the second's left hand
    at 400.5 in the third's. A crowd does not count, nor does another image."""
    people = [
        _person(),
        _person(300),
        _person(390),
        dict(_person(50), iscrowd=1),
        _person(image=2),
    ]
    data = _data(people, [], images=(1, 2))
    assert find_uncrowded(data) == [1, 5]
    people[2]['keypoints'][4 * 3 + 2] = 0
    assert find_uncrowded(_data(people, [], images=(1, 2))) == [1, 2, 5]


def test_errors_of_crowded_people_alone():
    """The neighbor's hand is taken for the own one; a lonely person's hand is missed."""
    people = [_person(), _person(90), _person(600)]
    found = [
        _found(people[0], keypoints={3: (190, 60)}),
        _found(people[1]),
        _found(people[2], keypoints={3: (900, 190)}),
    ]
    data = _data(people, found)
    everybody = find_keypoint_errors(data, MIRROR)
    crowded = find_keypoint_errors(data, MIRROR, find_uncrowded(data))
    assert (everybody.people, crowded.people) == (3, 2)
    counts = [errors.counts.sum((0, 1)) for errors in (everybody, crowded)]
    assert [each[KINDS.index('swap')] for each in counts] == [1, 1]
    assert [each[KINDS.index('miss')] for each in counts] == [1, 0]


def test_rankings_by_hand():
    """A right pose and one that is 400 pixels off, which has the better box. Keypoint scores of 1
    rank as the box; the predicted OKS of 0.9 and 0.1 corrects it."""
    people = [_person()]
    found = [_found(people[0], 0.8), _found(people[0], 0.9, moved=400)]
    for (_, entry), oks in zip(found, (0.9, 0.1)):
        entry['pose_score'] = oks
        entry['keypoints'][2::3] = [1.0] * 5
    rankings = compare_rankings(_data(people, found))
    assert rankings.keys() == {'keypoints'}
    ap = {name: each.figures['AP'] for name, each in rankings['keypoints'].items()}
    assert ap == pytest.approx(dict(bbox=50, bbox_keypoint=50, bbox_oks=100))
    curve = rankings['keypoints']['bbox_oks'].curve  # 0.72 has an OKS of 1, 0.09 of 0
    assert [(each.observed, each.size) for each in (curve[7], curve[0])] == [(1, 1), (0, 1)]
    assert curve[7].predicted == pytest.approx(0.72)
    assert sum(each.size for each in curve) == 2


def test_precision_recall_curves_by_hand():
    """Right, wrong, right. The second right box is moved by 23 of 100 pixels:
    IoU 77 / 123 = 0.626, right at three thresholds of ten."""
    people = [_person(), _person(600)]
    found = [
        _found(people[0], 0.9),
        _found(people[0], 0.8, moved=1500),
        _found(people[1], 0.7, moved=23),
    ]
    data = _data(people, found)
    curves = precision_curves(data.run('bbox'))
    assert curves['0.50'] == pytest.approx([1] * 51 + [2 / 3] * 50)
    assert curves['0.75'] == pytest.approx([1] * 51 + [0] * 50)
    assert curves['mean'] == pytest.approx([1] * 51 + [0.2] * 50)
    figures = evaluate(data.truth, dict(bbox=data.entries['bbox']), SIGMAS, [1], [1])['bbox']
    for name, curve in (('AP50', '0.50'), ('AP75', '0.75'), ('AP', 'mean')):
        assert 100 * np.mean(curves[curve]) == pytest.approx(figures[name])


def test_no_curve_without_ground_truth():
    assert precision_curves(_data([], [_found(_person())]).run('bbox')) is None


def test_groups_by_number_of_people():
    """One person, detected; two, of whom one is detected, and a crowd; five, none detected, and
    a false positive; an image without people and a false positive."""
    people = [
        _person(image=1),
        _person(image=2),
        _person(600, image=2),
        dict(_person(900, image=2), iscrowd=1),
    ]
    people += [_person(200 * i, image=3) for i in range(5)]
    found = [
        _found(people[0]),
        _found(people[1]),
        _found(_person(1500, image=3)),
        _found(_person(image=4)),
    ]
    groups = by_people(_data(people, found, images=(1, 2, 3, 4)))
    assert [(g.name, g.images, g.people) for g in groups] == [
        ('1 person', 1, 1),
        ('2 to 4 people', 1, 2),
        ('5 or more people', 1, 5),
    ]
    for task in ('bbox', 'keypoints'):
        ap = [group.scores[task].AP for group in groups]
        assert ap == pytest.approx([100, 100 * 51 / 101, 0])
        recall = [group.scores[task].AR for group in groups]
        assert recall == pytest.approx([100, 50, 0])


def test_groups_by_size():
    people = [_person(side=20), _person(300, side=50), _person(600)]
    data = _data(people, [_found(people[0]), _found(people[2])])
    results = {task: data.run(task) for task in data.entries}
    groups = by_size(data, results)
    assert [(g.name, g.people) for g in groups] == [('small', 1), ('medium', 1), ('large', 1)]
    ap = [group.scores['bbox'].AP for group in groups]
    assert ap == pytest.approx([100, 0, 100])
    assert math.isnan(groups[0].scores['keypoints'].AP)
    assert pytest.approx(100) == groups[2].scores['keypoints'].AR


def test_groups_by_occlusion_ignore_the_other_people():
    """The visible person is detected with a lower score than a false positive: precision 1/2. The
    partly occluded person is not detected: 0."""
    people = [_person(), _person(300, visible=(2, 2, 2, 1, 2)), _person(600, visible=(0,) * 5)]
    found = [_found(people[0], 0.5), _found(_person(1500), 0.9), _found(people[2], 0.95)]
    groups = by_occlusion(_data(people, found))
    assert [(g.name, g.people) for g in groups] == [
        ('all keypoints visible', 1),
        ('some keypoints occluded', 1),
        ('no keypoints labeled', 1),
    ]
    assert [g.scores['bbox'].AP for g in groups] == pytest.approx([50, 0, 100])
    assert [g.scores['bbox'].AR for g in groups] == pytest.approx([100, 0, 100])
    assert math.isnan(groups[2].scores['keypoints'].AP)


def test_ignored_people_do_not_affect_the_next_evaluation():
    people = [_person(), _person(300)]
    data = _data(people, [_found(people[0])])
    ignoring = data.run('bbox', ignored=[2])
    assert precision_curves(ignoring)['mean'] == pytest.approx([1] * 101)
    again = precision_curves(data.run('bbox'))['mean']
    assert again == pytest.approx([1] * 51 + [0] * 50)


def test_groups_by_visibility_of_the_keypoints():
    """The visible keypoints are right and the covered hand is far off; somebody
    else has no covered keypoint."""
    people = [_person(visible=(2, 2, 2, 2, 1)), _person(600)]
    found = [_found(people[0], keypoints={4: (300, 190)}), _found(people[1])]
    data = _data(people, found)
    groups = by_visibility(data)
    assert [(g.name, g.people) for g in groups] == [
        ('visible keypoints', 2),
        ('occluded keypoints', 1),
    ]
    scores = [g.scores['keypoints'] for g in groups]
    assert [s.AP for s in scores] == pytest.approx([100, 0])
    # The annotations stay as they were.
    assert data.truth.anns[1]['num_keypoints'] == 5


def test_scores_of_images():
    """A true positive, a false positive and a detection below the threshold: 2 / (2 detections +
    1 person). An image without people and detections."""
    people = [_person(), _person(image=4)]
    found = [
        _found(people[0]),
        _found(_person(600)),
        _found(_person(900), score=0.2),
        _found(_person(image=3)),
    ]
    scores = image_scores(_data(people, found, images=(1, 2, 3, 4)), 0.3)
    assert scores[1].tasks == pytest.approx(dict(bbox=200 / 3, keypoints=200 / 3))
    assert (scores[1].people, scores[1].found) == (1, 2)
    assert scores[1].mean == pytest.approx(200 / 3)
    assert scores[2] == ({}, 0, 0) and scores[2].mean == 100
    assert scores[3] == (dict(bbox=0, keypoints=0), 0, 1)
    assert scores[4] == (dict(bbox=0, keypoints=0), 1, 0)


def test_an_image_is_scored_at_all_thresholds():
    """IoU 77 / 123 is right at three thresholds of ten; keypoints moved by 10
    have OKS exp(-0.5) = 0.61, right at three, too."""
    people = [_person(), _person(600, visible=(0,) * 5)]
    found = [_found(people[0], moved=10), _found(people[1], moved=23)]
    scores = image_scores(_data(people, found), 0.3)[1]
    # Moved by 10 the box has IoU 90 / 110 = 0.82: seven thresholds.
    assert scores.tasks['bbox'] == pytest.approx((70 + 30) / 2)
    assert scores.tasks['keypoints'] == pytest.approx(30)
