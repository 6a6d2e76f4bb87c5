"""Scores by which poses and masks can be ranked: their AP and calibration."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as mask_api

from multitask_refine.evaluation import CocoData, evaluate
from multitask_refine.evaluation.calibration import CalibrationBin, calibration_curve
from multitask_refine.evaluation.coco_scores import match_people

from .keypoint_errors import keypoint_similarity

# By task and ranking the factor of the box score, and the field that it needs.
_FACTORS: dict[str, dict[str, tuple[str | None, Callable[[dict[str, Any]], float]]]] = dict(
    segm=dict(
        bbox=(None, lambda entry: 1.0), bbox_iou=('mask_score', lambda entry: entry['mask_score'])
    ),
    keypoints=dict(
        bbox=(None, lambda entry: 1.0),
        bbox_keypoint=(None, lambda entry: float(np.mean(entry['keypoints'][2::3]))),
        bbox_oks=('pose_score', lambda entry: entry['pose_score']),
    ),
)


class Ranking(NamedTuple):
    """Poses or masks, ranked by one score.

    Attributes:
        figures: COCO's figures in percent, see ``evaluate``.
        curve: Calibration: the OKS or IoU with the matched person, 0 for nobody, over the score.
    """

    figures: dict[str, float]
    curve: list[CalibrationBin]


def compare_rankings(data: CocoData) -> dict[str, dict[str, Ranking]]:
    """Rank poses and masks by each score that the entries have.

    Args:
        data (CocoData): With the task 'bbox', whose entries have the box scores; without it
            nothing is ranked.

    Returns:
        dict[str, dict[str, Ranking]]: By task and, as ``MultitaskCocoMetric`` names them, by
        ranking.
    """
    found: dict[str, dict[str, Ranking]] = {}
    tasks = [task for task in _FACTORS if {task, 'bbox'} <= data.entries.keys()]
    for task in tasks:
        entries = data.entries[task]
        for name, (field, factor) in _FACTORS[task].items():
            if field and not all(field in entry for entry in entries):
                continue
            ranked = [
                dict(entry, score=box['score'] * factor(entry))
                for box, entry in zip(data.entries['bbox'], entries, strict=True)
            ]
            figures = evaluate(
                data.truth, {task: ranked}, data.sigmas, data.categories, data.images
            )[task]
            found.setdefault(task, {})[name] = Ranking(figures, _calibrate(data, task, ranked))
    return found


def _calibrate(data: CocoData, task: str, ranked: list[dict[str, Any]]) -> list[CalibrationBin]:
    """Compare the scores with the OKS or IoU of the detections that count."""
    matches = match_people(data._replace(entries={task: ranked}), task=task)
    scores = [detection['score'] for detection, _ in matches.pairs]
    qualities = [_QUALITIES[task](data, *pair) for pair in matches.pairs]
    scores += [detection['score'] for detection in matches.unmatched]
    qualities += [0.0] * len(matches.unmatched)
    return calibration_curve(np.array(scores, float), np.array(qualities, float))


def compute_oks(data: CocoData, detection: dict[str, Any], person: dict[str, Any]) -> float:
    """Compute the OKS of a detection and an annotation."""
    points, truth = (
        np.reshape(each['keypoints'], (-1, 3)).astype(float) for each in (detection, person)
    )
    similarity = keypoint_similarity(
        points[:, :2], truth[:, :2], person['area'], np.array(data.sigmas)
    )
    return float(similarity[truth[:, 2] > 0].mean())


def _compute_iou(data: CocoData, detection: dict[str, Any], person: dict[str, Any]) -> float:
    mask = data.truth.annToRLE(person)
    return float(mask_api.iou([detection['segmentation']], [mask], [0])[0, 0])


_QUALITIES = dict(keypoints=compute_oks, segm=_compute_iou)
