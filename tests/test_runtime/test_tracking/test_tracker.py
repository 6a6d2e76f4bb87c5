"""Tracks of synthetic walks."""

import numpy as np
import pytest

from multitask_refine.apis import Tracker
from multitask_runtime.tracking.tracker import object_keypoint_similarity

SIGMAS = [0.05, 0.08, 0.1]
BODY = np.array([[20.0, 5.0], [20.0, 50.0], [20.0, 95.0]])  # in a box of 40 x 100


def person(x, y=0.0, score=0.9, lean=0.0):
    """A box of 40 x 100 pixels with its left upper corner at (x, y).

    ``lean`` moves the upper keypoint to the right, within the same box.
    """
    keypoints = BODY + [x, y]
    keypoints[0, 0] += lean
    return dict(box=[x, y, x + 40.0, y + 100.0], score=score, keypoints=keypoints)


def frame(*people, has_keypoints=True, labels=None):
    result = dict(
        bboxes=np.array([p['box'] for p in people]).reshape(-1, 4),
        scores=np.array([p['score'] for p in people]),
        labels=np.array(labels or [0] * len(people), dtype=int),
    )
    if has_keypoints:
        result['keypoints'] = np.array([p['keypoints'] for p in people]).reshape(-1, 3, 2)
    return result


def follow(frames, **options):
    tracker = Tracker(SIGMAS, **options)
    return [tracker.update(each).tolist() for each in frames]


def test_oks_by_hand():
    # Keypoint 1 is off by 6 and 8 pixels: d^2 / (2 area (2 sigma)^2) is
    # 100 / (2 * 100 * 100 * 0.01) = 0.5; keypoint 2 fits.
    boxes = np.array([[0.0, 0.0, 100.0, 100.0]])
    keypoints = np.array([[[10.0, 10.0], [50.0, 50.0]]])
    others = np.array([[[16.0, 18.0], [50.0, 50.0]], [[10.0, 10.0], [50.0, 50.0]]])
    found = object_keypoint_similarity(keypoints, boxes, others, [0.05, 0.1])
    np.testing.assert_allclose(found, [[(np.exp(-0.5) + 1) / 2, 1.0]])


@pytest.mark.parametrize('has_keypoints', [True, False])
def test_ids_do_not_depend_on_the_order(has_keypoints):
    walk = [(person(0 + 8 * i), person(300 - 8 * i)) for i in range(6)]
    frames = [
        frame(*pair[:: -1 if i % 2 else 1], has_keypoints=has_keypoints)
        for i, pair in enumerate(walk)
    ]
    assert follow(frames) == [[1, 2], [2, 1]] * 3


@pytest.mark.parametrize('has_keypoints', [True, False])
def test_crossing_people(has_keypoints):
    frames = [
        frame(person(12 * i), person(180 - 12 * i, y=10), has_keypoints=has_keypoints)
        for i in range(16)
    ]
    assert follow(frames) == [[1, 2]] * 16


def test_crossing_people_while_occluded():
    """The nearest track is the other person's."""
    frames = []
    for i in range(16):
        both = person(10 * i), person(150 - 10 * i)
        frames.append(frame() if 6 <= i <= 9 else frame(*both))
    assert follow(frames) == [[1, 2]] * 6 + [[]] * 4 + [[1, 2]] * 6


def test_person_occluded_while_crossing_keeps_its_id():
    frames, expected = [], []
    for i in range(16):
        front, behind = person(10 * i), person(150 - 10 * i, lean=15)
        covered = abs(10 * i - 75) < 20
        frames.append(frame(front) if covered else frame(front, behind))
        expected.append([1] if covered else [1, 2])
    assert expected.count([1]) == 4
    assert follow(frames) == expected


def test_keypoints_separate_people_with_the_same_box():
    left, right = person(0, lean=-20), person(0, lean=20)
    assert follow([frame(left, right), frame(right, left)]) == [[1, 2], [2, 1]]


def test_total_similarity_is_maximized():
    """A greedy assignment would leave one person without a track."""
    frames = [
        frame(person(0), person(20), has_keypoints=False),
        # The first has gone to 16, the second on to 36: 16 is closer to the
        # old 20 than anything else is to anything.
        frame(person(16), person(36), has_keypoints=False),
    ]
    assert follow(frames) == [[1, 2], [1, 2]]


@pytest.mark.parametrize('gap, expected', [(3, 1), (4, 2)])
def test_track_survives_missing_frames(gap, expected):
    frames = [frame(person(5))] + [frame()] * gap + [frame(person(5))]
    assert follow(frames, max_missing=3)[-1] == [expected]


def test_velocity_is_averaged_over_missing_frames():
    """12 pixels in 5 frames are slow, so a person who then stands is matched."""
    gap = [frame()] * 4
    frames = [frame(person(0)), *gap, frame(person(12)), *gap, frame(person(12))]
    found = follow(frames)
    assert found[0] == found[5] == found[10] == [1]


def test_new_person_gets_the_next_id():
    old = person(0), person(100)
    frames = [frame(*old), frame(person(300), *old), frame(*old)]
    assert follow(frames) == [[1, 2], [3, 1, 2], [1, 2]]


def test_ids_are_unique():
    frames = [frame(person(0)), frame(), frame(person(500)), frame()] * 2
    assert follow(frames, max_missing=0) == [[1], [], [2], [], [3], [], [4], []]


def test_dissimilar_detection_starts_a_track():
    assert follow([frame(person(0)), frame(person(300))]) == [[1], [2]]


def test_low_scores_are_not_tracked():
    frames = [
        frame(person(0, score=0.2), person(200)),
        frame(person(200), person(0, score=0.5)),
        frame(person(200, score=0.2), person(0, score=0.3)),
    ]
    assert follow(frames, score_thr=0.3) == [[-1, 1], [1, 2], [-1, 2]]


def test_tracks_keep_their_label():
    frames = [
        frame(person(0), labels=[0]),
        frame(person(0), labels=[1]),
        frame(person(0), person(0), labels=[1, 0]),
    ]
    assert follow(frames) == [[1], [2], [2, 1]]


def test_box_without_area():
    """It must not give NaN, which the assignment refuses."""
    flat = person(0)
    flat['box'] = [5.0, 5.0, 5.0, 5.0]
    for has_keypoints in (True, False):
        frames = [frame(flat, has_keypoints=has_keypoints)] * 2
        found = follow(frames)
        assert found[0] == [1] and found[1] in ([1], [2])
