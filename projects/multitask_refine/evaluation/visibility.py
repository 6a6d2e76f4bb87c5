"""Evaluation of the predicted visibility of keypoints.

Shape letters: P keypoints of all matched people.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from .calibration import CalibrationBin, average_precision, calibration_curve, calibration_error
from .coco_scores import CocoData, match_people

# COCO's visibility 0, 1 and 2
LEVELS = ('absent', 'occluded', 'visible')


class Visibility(NamedTuple):
    """Quality of the predicted visibility.

    Attributes:
        metrics: In percent ``AP_<level>`` and their mean ``AP``, ``accuracy``, and the expected
            calibration error ``ECE`` of the likeliest level's probability.
        shares: Percent of the keypoints by level, the AP of guesses.
        curve: Calibration of the likeliest level's probability.
        num_keypoints: P.
    """

    metrics: dict[str, float]
    shares: dict[str, float]
    curve: list[CalibrationBin]
    num_keypoints: int


def has_visibility(entries: Sequence[dict[str, Any]]) -> bool:
    """Tell whether result entries of keypoints have a predicted visibility."""
    return bool(entries) and all('keypoints_visible_probs' in each for each in entries)


def evaluate_visibility(parts: Sequence[CocoData], unlabeled: Collection[int] = ()) -> Visibility:
    """Compare the predicted visibility with COCO's.

    Detections are matched to people by OKS, see :func:`match_people`. All keypoints of the matched
    people count; those with visibility 0 are absent.

    Args:
        parts (Sequence[CocoData]): With the task 'keypoints' and ``keypoints_visible_probs`` in
            its entries. Several, where categories have keypoints of their own.
        unlabeled (Collection[int]): Indices of keypoints that the annotations do not have.
    """
    all_probs, all_levels = [np.zeros((0, len(LEVELS)))], [np.zeros(0, int)]
    for data in parts:
        kept = [i for i in range(len(data.sigmas)) if i not in set(unlabeled)]
        for detection, person in match_people(data).pairs:
            all_probs.append(np.array(detection['keypoints_visible_probs'], float)[kept])
            all_levels.append(np.array(person['keypoints'][2::3], int)[kept])
    probs, levels = np.concatenate(all_probs), np.concatenate(all_levels)  # (P, 3), (P)
    likeliest = probs.argmax(-1)
    curve = calibration_curve(probs.max(-1), likeliest == levels)
    values = {
        f'AP_{name}': average_precision(probs[:, level], levels == level)
        for level, name in enumerate(LEVELS)
    }
    known = [value for value in values.values() if not np.isnan(value)]
    values = dict(
        AP=float(np.mean(known)) if known else float('nan'),
        **values,
        accuracy=float((likeliest == levels).mean()) if len(levels) else float('nan'),
        ECE=calibration_error(curve),
    )
    return Visibility(
        {name: 100 * value for name, value in values.items()},
        {
            name: 100 * float((levels == level).mean()) if len(levels) else float('nan')
            for level, name in enumerate(LEVELS)
        },
        curve,
        len(levels),
    )
