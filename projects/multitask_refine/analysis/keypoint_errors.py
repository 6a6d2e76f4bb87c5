"""Keypoint errors by kind: jitter, inversion, swap or miss.

The kinds of error are those of Ronchi and Perona, "Benchmarking and error
diagnosis in multi-instance pose estimation", ICCV 2017 (arXiv 1707.05388).
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from multitask_refine.evaluation.coco_scores import CocoData, match_people

KINDS = ('good', 'jitter', 'inversion', 'swap', 'miss')
# A keypoint is near a true keypoint from the first similarity on, and as good as a
# human annotator's from the second.
NEAR, GOOD = 0.5, 0.85


class KeypointErrors(NamedTuple):
    """Keypoint errors of the detected people, counted by kind.

    Attributes:
        counts: (K, 2, 5) numbers of labeled keypoints: by keypoint, by visibility
            (0 occluded, 1 visible), by kind in the order of :data:`KINDS`.
        people: People with labeled keypoints.
        matched: Those of them whom a detection belongs to.
    """

    counts: np.ndarray
    people: int
    matched: int


def keypoint_similarity(
    points: np.ndarray, truth: np.ndarray, area: float, sigmas: np.ndarray
) -> np.ndarray:
    """Compute the keypoint similarity exp(-d^2 / (2 s^2 k^2)) of OKS.

    Args:
        points (np.ndarray): (K, 2) in pixels.
        truth (np.ndarray): (K, 2) in the same frame.
        area (float): The person's, s^2, in square pixels.
        sigmas (np.ndarray): (K,); k is twice sigma, as in pycocotools.

    Returns:
        np.ndarray: (K,) from 0 to 1.
    """
    squared = ((points - truth) ** 2).sum(-1)
    return np.exp(-squared / (2 * (area + np.spacing(1)) * (2 * sigmas) ** 2))


def classify_keypoints(
    points: np.ndarray,
    person: dict,
    others: Sequence[dict],
    sigmas: np.ndarray,
    mirror: Sequence[int],
) -> np.ndarray:
    """Classify the error of each predicted keypoint.

    The true keypoint with the highest similarity decides. If it is below
    :data:`NEAR`, the keypoint is a *miss*. Else it is *good* (from
    :data:`GOOD` on) or *jitter* near its own true keypoint, an *inversion* near
    the person's mirrored one (left for right), and a *swap* near the same or
    the mirrored keypoint of somebody else. Each similarity takes the area of the
    person whose true keypoint it is. At equal similarity the first of these
    counts.

    Args:
        points (np.ndarray): (K, 2) predicted keypoints in COCO's frame.
        person (dict): The annotation that they belong to.
        others (Sequence[dict]): The other people's annotations.
        sigmas (np.ndarray): (K,) OKS sigmas.
        mirror (Sequence[int]): For each keypoint the index of its mirror image,
            itself for one in the middle.

    Returns:
        np.ndarray: (K,) index into :data:`KINDS`; -1 where the person has no
        labeled keypoint.
    """
    mirror = np.asarray(mirror)
    itself = np.arange(len(mirror))
    own = _similarities(points, person, sigmas, itself)
    inverted = _similarities(points, person, sigmas, mirror)
    inverted[mirror == itself] = -1  # the nose has no other side
    swapped = [np.full(len(mirror), -1.0)]
    for other in others:
        swapped += [_similarities(points, other, sigmas, order) for order in (itself, mirror)]
    similarity = np.stack([own, inverted, np.max(swapped, 0)])  # (3, K)
    # (K) each; argmax takes the first of equal ones
    nearest, best = similarity.argmax(0), similarity.max(0)
    kinds = np.array([0, 2, 3])[nearest]  # good, inversion, swap
    kinds[(nearest == 0) & (best < GOOD)] = 1
    kinds[best < NEAR] = 4
    kinds[own < 0] = -1
    return kinds


def _similarities(
    points: np.ndarray, person: dict, sigmas: np.ndarray, order: np.ndarray
) -> np.ndarray:
    """Return the similarities to a person's reordered keypoints; -1 where unlabeled."""
    keypoints = np.reshape(person['keypoints'], (-1, 3)).astype(float)[order]
    similarity = keypoint_similarity(points, keypoints[:, :2], person['area'], sigmas)
    return np.where(keypoints[:, 2] > 0, similarity, -1)


def find_uncrowded(data: CocoData) -> list[int]:
    """Find the people whose box holds no labeled keypoint of anybody else.

    The others have a crowd index (CrowdPose) above 0: there a keypoint can be swapped.

    Args:
        data (CocoData): With the task 'keypoints'.

    Returns:
        list[int]: Ids of the annotations.
    """
    uncrowded = []
    for image in data.images:
        people = [
            (each, np.reshape(each['keypoints'], (-1, 3)).astype(float))
            for each in data.truth.imgToAnns[image]
            if not each['iscrowd'] and each['category_id'] in data.categories
        ]
        for person, _ in people:
            x, y, width, height = person['bbox']
            low, high = np.array([x, y]), np.array([x + width, y + height])
            others = [
                keypoints[keypoints[:, 2] > 0, :2]
                for other, keypoints in people
                if other is not person
            ]
            points = np.concatenate([np.zeros((0, 2)), *others]) + 0.5  # centers of pixels
            if not ((points >= low) & (points <= high)).all(-1).any():
                uncrowded.append(person['id'])
    return uncrowded


def find_keypoint_errors(
    data: CocoData, mirror: Sequence[int], ignored: Collection[int] = ()
) -> KeypointErrors:
    """Count the keypoint errors of all detected people.

    Detections are matched to people by OKS, see :func:`match_people`.

    Args:
        data (CocoData): With the task 'keypoints'.
        mirror (Sequence[int]): As in :func:`classify_keypoints`.
        ignored (Collection[int]): Ids of people that do not count.
    """
    sigmas = np.array(data.sigmas)
    counts = np.zeros((len(mirror), 2, len(KINDS)), int)
    matches = match_people(data, ignored)
    for detection, person in matches.pairs:
        keypoints = np.reshape(detection['keypoints'], (-1, 3)).astype(float)  # (K, 3)
        others = [
            other
            for other in data.truth.imgToAnns[person['image_id']]
            if other['id'] != person['id']
            and not other['iscrowd']
            and other['category_id'] in data.categories
        ]
        kinds = classify_keypoints(keypoints[:, :2], person, others, sigmas, mirror)
        visible = np.array(person['keypoints'][2::3]) == 2  # (K)
        for keypoint in np.flatnonzero(kinds >= 0):
            counts[keypoint, int(visible[keypoint]), kinds[keypoint]] += 1
    return KeypointErrors(counts, matches.people, len(matches.pairs))


def shares(counts: np.ndarray) -> dict[str, float]:
    """Convert counts by kind to percentages.

    Args:
        counts (np.ndarray): (..., 5) of :class:`KeypointErrors`.

    Returns:
        dict[str, float]: Percent by kind; NaN if there are no keypoints.
    """
    by_kind = counts.reshape(-1, len(KINDS)).sum(0)
    total = by_kind.sum()
    return {
        kind: 100 * float(count) / float(total) if total else float('nan')
        for kind, count in zip(KINDS, by_kind, strict=True)
    }
