"""Average precision and calibration of probabilities."""

from typing import NamedTuple

import numpy as np

NUM_BINS = 10


class CalibrationBin(NamedTuple):
    """Predictions with similar probabilities.

    Attributes:
        predicted: Their mean probability, NaN without any.
        observed: The mean of what they predict, NaN without any.
        size: How many they are.
    """

    predicted: float
    observed: float
    size: int


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Compute the average precision as scikit-learn defines it.

    The sum over the ranks of the precision, weighted by the gain in recall, without
    interpolation. Equal scores are one rank.

    Args:
        scores (np.ndarray): Shape (N).
        labels (np.ndarray): Whether each item is a positive, bool (N).

    Returns:
        float: From 0 to 1; NaN without a positive.
    """
    if not labels.any():
        return float('nan')
    order = np.argsort(-scores, kind='stable')
    scores, labels = scores[order], labels[order]
    last_of_rank = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    true_positives = np.cumsum(labels)[last_of_rank]
    precision = true_positives / (last_of_rank + 1)
    gains = np.diff(true_positives, prepend=0) / true_positives[-1]
    return float((precision * gains).sum())


def calibration_curve(predicted: np.ndarray, observed: np.ndarray) -> list[CalibrationBin]:
    """Compare probabilities with what they predict, in bins of equal width.

    Args:
        predicted (np.ndarray): Probabilities, shape (N).
        observed (np.ndarray): What came, from 0 to 1, shape (N).

    Returns:
        list[CalibrationBin]: :data:`NUM_BINS` bins from 0 to 1.
    """
    bins = np.clip((predicted * NUM_BINS).astype(int), 0, NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    with np.errstate(invalid='ignore'):
        means = [np.bincount(bins, each, NUM_BINS) / counts for each in (predicted, observed)]
    return [
        CalibrationBin(float(p), float(o), int(size))
        for p, o, size in zip(*means, counts, strict=True)
    ]


def calibration_error(curve: list[CalibrationBin]) -> float:
    """Compute the expected calibration error.

    Args:
        curve (list[CalibrationBin]): From :func:`calibration_curve`.

    Returns:
        float: Mean distance of predicted and observed, weighted by their sizes; NaN without
        predictions.
    """
    filled = [each for each in curve if each.size]
    total = sum(each.size for each in filled)
    if not total:
        return float('nan')
    return sum(each.size * abs(each.predicted - each.observed) for each in filled) / total
