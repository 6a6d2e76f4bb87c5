"""Precision-recall curves, and AP by groups of instances or images."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pycocotools.cocoeval import COCOeval

from multitask_refine.evaluation.coco_scores import ALL_SIZES, CocoData, build_coco

PEOPLE = (('1 person', 1, 1), ('2 to 4 people', 2, 4), ('5 or more people', 5, math.inf))
SIZES = dict(small=(0, 32**2), medium=(32**2, 96**2), large=(96**2, 1e10))
_VISIBLE, _OCCLUDED = 2, 1


class Score(NamedTuple):
    """AP and AR of a task over a group.

    Attributes:
        AP: Average precision in percent; NaN without ground truth.
        AR: Average recall in percent, with as many detections an image as
            COCO allows; NaN without ground truth.
    """

    AP: float
    AR: float


class Group(NamedTuple):
    """A group of instances or images with its scores.

    Attributes:
        name: Which people.
        images: Images with such people.
        people: How many they are, without crowds.
        scores: By task.
    """

    name: str
    images: int
    people: int
    scores: dict[str, Score]


def precision_curves(result: COCOeval) -> dict[str, list[float]] | None:
    """Return the precision at COCO's 101 recalls 0, 0.01, ..., 1.

    Args:
        result (COCOeval): With COCO's settings.

    Returns:
        dict[str, list[float]]: Precision, from 0 to 1, at the thresholds
        '0.50', '0.75' and as the mean over all ten ('mean'). The average of
        each is AP50, AP75 and AP. None without ground truth.
    """
    # Thresholds, recalls, categories, sizes, numbers of detections.
    precision = result.eval['precision'][:, :, :, 0, -1]  # of all sizes, with the most detections
    present = precision.max((0, 1)) >= 0  # (categories): -1 without ground truth
    if not present.any():
        return None
    precision = precision[:, :, present].mean(-1)  # (thresholds, recalls)
    thresholds = list(np.round(result.params.iouThrs, 2))
    return {
        '0.50': precision[thresholds.index(0.5)].tolist(),
        '0.75': precision[thresholds.index(0.75)].tolist(),
        'mean': precision.mean(0).tolist(),
    }


def _score(result: COCOeval, area: str = 'all') -> Score:
    if area not in result.params.areaRngLbl:
        return Score(math.nan, math.nan)
    index = result.params.areaRngLbl.index(area)
    values = (result.eval[name][..., index, -1] for name in ('precision', 'recall'))
    return Score(*(100 * float(v[v > -1].mean()) if (v > -1).any() else math.nan for v in values))


def by_size(data: CocoData, results: dict[str, COCOeval]) -> list[Group]:
    """Score small, medium and large instances, as COCO does.

    The size is the annotation's area, up to 32^2, up to 96^2 and above.
    Detections of people of other sizes do not count either, nor unmatched
    ones that are of another size themselves. COCO labels no keypoints of small
    people and has no keypoint AP for them.

    Args:
        data (CocoData): What was evaluated.
        results (dict[str, COCOeval]): By task, with COCO's settings.
    """
    groups = []
    for name, (low, high) in SIZES.items():
        people = [p for p in _people(data) if low <= p['area'] < high]
        groups.append(
            _group(name, people, {task: _score(result, name) for task, result in results.items()})
        )
    return groups


def by_people(data: CocoData) -> list[Group]:
    """Score groups of images by their number of people.

    Crowd regions are not counted as people. Images without people are in no
    group.

    Args:
        data (CocoData): What to evaluate.
    """
    people = _people(data)
    count = dict.fromkeys(data.images, 0)
    for person in people:
        count[person['image_id']] += 1
    groups = []
    for name, low, high in PEOPLE:
        images = [i for i in data.images if low <= count[i] <= high]
        part = data._replace(images=images)
        groups.append(
            _group(
                name,
                [p for p in people if p['image_id'] in set(images)],
                {
                    task: _score(part.run(task, **ALL_SIZES))
                    if images
                    else Score(math.nan, math.nan)
                    for task in data.entries
                },
            )
        )
    return groups


def by_occlusion(data: CocoData) -> list[Group]:
    """Score people with and without occluded keypoints.

    The people of the other groups are ignored as COCO ignores crowds: to
    find them is neither right nor wrong. Detections that match nobody count
    as false in every group, so AP compares two runs better than two groups;
    AR compares groups.

    Args:
        data (CocoData): What to evaluate.
    """
    people = _people(data)
    kinds = {}
    for person in people:
        visibility = person['keypoints'][2::3]
        kind = 'some keypoints occluded' if _OCCLUDED in visibility else 'all keypoints visible'
        kinds[person['id']] = kind if any(visibility) else 'no keypoints labeled'
    groups = []
    for name in ('all keypoints visible', 'some keypoints occluded', 'no keypoints labeled'):
        ignored = [i for i, kind in kinds.items() if kind != name]
        members = [p for p in people if kinds[p['id']] == name]
        groups.append(
            _group(
                name,
                members,
                {task: _score(data.run(task, ignored, **ALL_SIZES)) for task in data.entries},
            )
        )
    return groups


def by_visibility(data: CocoData) -> list[Group]:
    """Score keypoints with only the visible, or only the occluded, ones labeled.

    The other keypoints are taken as not labeled, and people who have none left
    are ignored, as COCO does with people without labeled keypoints.

    Args:
        data (CocoData): With the task 'keypoints'.
    """
    groups = []
    for name, visibility in (('visible keypoints', _VISIBLE), ('occluded keypoints', _OCCLUDED)):
        annotations = []
        for ann in data.truth.dataset['annotations']:
            keypoints = np.reshape(ann['keypoints'], (-1, 3)).copy()  # (K, 3)
            keypoints[keypoints[:, 2] != visibility] = 0
            count = int((keypoints[:, 2] > 0).sum())
            flat = keypoints.flatten().tolist()
            annotations.append(dict(ann, keypoints=flat, num_keypoints=count))
        truth = build_coco(dict(data.truth.dataset, annotations=annotations))
        part = data._replace(truth=truth)
        people = [p for p in _people(part) if p['num_keypoints']]
        groups.append(
            _group(name, people, dict(keypoints=_score(part.run('keypoints', **ALL_SIZES))))
        )
    return groups


def _people(data: CocoData) -> list[dict]:
    """Return the annotations in the tested images, without crowds."""
    images = set(data.images)
    return [
        ann
        for ann in data.truth.anns.values()
        if ann['image_id'] in images
        and not ann['iscrowd']
        and ann['category_id'] in data.categories
    ]


def _group(name: str, people: Sequence[dict], scores: dict[str, Score]) -> Group:
    images = {person['image_id'] for person in people}
    return Group(name, len(images), len(people), scores)
