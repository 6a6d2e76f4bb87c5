"""Average precision and calibration, by hand and by brute force."""

import math

import numpy as np
import pytest

from multitask_refine.evaluation.calibration import (
    average_precision,
    calibration_curve,
    calibration_error,
)


def test_average_precision_by_hand():
    """Right, wrong, right, wrong: half of the recall at precision 1, half at 2/3."""
    scores, labels = np.array([0.2, 0.9, 0.5, 0.1]), np.array([True, True, False, False])
    assert average_precision(scores, labels) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_equal_scores_are_one_rank():
    """Guessing gives the share of the positives, whatever their order."""
    for labels in ([True, False, False, False], [False, False, False, True]):
        assert average_precision(np.full(4, 0.3), np.array(labels)) == pytest.approx(0.25)


def test_no_positive_no_average_precision():
    assert math.isnan(average_precision(np.array([0.5]), np.array([False])))
    assert math.isnan(average_precision(np.zeros(0), np.zeros(0, bool)))


def test_average_precision_is_the_sum_over_thresholds():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 20, 200) / 20, rng.random(200) < 0.3
    expected, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        found = scores >= threshold
        now = (found & labels).sum() / labels.sum()
        expected += (now - recall) * (found & labels).sum() / found.sum()
        recall = now
    assert average_precision(scores, labels) == pytest.approx(expected)


def test_calibration_by_hand():
    """Two at 0.85 of which one is right, one sure and right: errors 0.35 and 0."""
    curve = calibration_curve(np.array([0.85, 1.0, 0.85]), np.array([1.0, 1.0, 0.0]))
    assert [each.size for each in curve] == [0] * 8 + [2, 1]
    assert (curve[8].predicted, curve[8].observed) == (pytest.approx(0.85), 0.5)
    assert (curve[9].predicted, curve[9].observed) == (1, 1)
    assert math.isnan(curve[0].predicted)
    assert calibration_error(curve) == pytest.approx(2 / 3 * 0.35)
    assert math.isnan(calibration_error(calibration_curve(np.zeros(0), np.zeros(0))))
