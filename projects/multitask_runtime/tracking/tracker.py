"""Who is who from one video frame to the next.

Own code, because the trackers that mmdet ships (ByteTrack, OC-SORT and
others) compare boxes only and need the package lap, which is not among the
pinned ones. Joints tell people apart who stand in front of each other, where
their boxes are nearly the same.

T tracks, N people, K joints.
"""

from dataclasses import dataclass
from typing import List, Optional, Sequence

import numpy as np
from pycocotools import mask as rle

from .assignment import assign

_STEADINESS = 0.5  # how much of a change of speed is believed


@dataclass
class _Track:
    id: int
    label: int
    box: np.ndarray  # (4), xyxy
    joints: Optional[np.ndarray]  # (K, 2)
    speed: np.ndarray  # (2), pixels a frame
    missing: int = 0  # frames without this person

    def predict(self) -> None:
        """Go on as before."""
        self._shift(self.speed)
        self.missing += 1

    def follow(self, box: np.ndarray, joints: Optional[np.ndarray]) -> None:
        """The person was found here."""
        error = _centre(box) - _centre(self.box)
        self.speed = self.speed + _STEADINESS * error / self.missing
        self.box, self.joints, self.missing = box, joints, 0

    def _shift(self, step: np.ndarray) -> None:
        self.box = self.box + np.tile(step, 2)
        if self.joints is not None:
            self.joints = self.joints + step


def _centre(box: np.ndarray) -> np.ndarray:
    return (box[:2] + box[2:]) / 2


class Tracker:
    """Number the people of a video.

    Each track is expected to move on at its speed. The people of a frame are
    assigned to the tracks such that the similarities add up to the most:
    OKS where there are joints, else the IoU of the boxes. Who is like no
    track starts a new one, with the next number.

    Args:
        sigmas (Sequence[float], optional): OKS sigma of each joint; needed
            if there are joints.
        score_thr (float): People with a lower score are not tracked.
            Defaults to 0.3.
        min_similarity (float): People less alike are never the same one.
            Defaults to 0.2.
        max_missing (int): For so many frames without its person a track is
            kept. Defaults to 10.
    """

    def __init__(
        self,
        sigmas: Optional[Sequence[float]] = None,
        score_thr: float = 0.3,
        min_similarity: float = 0.2,
        max_missing: int = 10,
    ) -> None:
        self.sigmas = sigmas
        self.score_thr = score_thr
        self.min_similarity = min_similarity
        self.max_missing = max_missing
        self._tracks: List[_Track] = []
        self._next_id = 1

    def update(self, result: dict) -> np.ndarray:
        """Take the next frame.

        Args:
            result (dict): Has ``bboxes`` (N, 4) xyxy, ``scores`` (N),
                ``labels`` (N) and maybe ``keypoints`` (N, K, 2), in pixels,
                NaN where a category has no such keypoint.

        Returns:
            np.ndarray: The number of each person's track, int (N); -1 for
            those that are not tracked.
        """
        sure = np.flatnonzero(result['scores'] >= self.score_thr)
        boxes, labels = result['bboxes'][sure], result['labels'][sure]
        joints = result.get('keypoints')
        joints = [None] * len(sure) if joints is None else joints[sure]
        for track in self._tracks:
            track.predict()
        ids = np.full(len(result['scores']), -1)
        for person, track in enumerate(self._assign(boxes, labels, joints)):
            if track is None:
                track = self._start(boxes[person], labels[person], joints[person])
            else:
                track.follow(boxes[person], joints[person])
            ids[sure[person]] = track.id
        self._tracks = [track for track in self._tracks if track.missing <= self.max_missing]
        return ids

    def _assign(
        self, boxes: np.ndarray, labels: np.ndarray, joints: Sequence
    ) -> List[Optional[_Track]]:
        """The track of each person, or None."""
        assigned = [None] * len(boxes)
        if not self._tracks or not len(boxes):
            return assigned
        similarity = self._compare(boxes, joints)
        old_labels = np.array([track.label for track in self._tracks])
        differ = old_labels[:, None] != labels
        similarity[differ | (similarity < self.min_similarity)] = 0
        for row, person in assign(similarity):
            if similarity[row, person]:
                assigned[person] = self._tracks[row]
        return assigned

    def _compare(self, boxes: np.ndarray, joints: Sequence) -> np.ndarray:
        """Similarity (T, N) of tracks and people, 0 to 1."""
        old_boxes = np.stack([track.box for track in self._tracks])
        if joints[0] is None:
            return _overlap(old_boxes, boxes)
        old_joints = np.stack([track.joints for track in self._tracks])
        similarity = object_keypoint_similarity(old_joints, old_boxes, joints, self.sigmas)
        # Of instances without a keypoint in common.
        unknown = np.isnan(similarity)
        if unknown.any():
            similarity[unknown] = _overlap(old_boxes, boxes)[unknown]
        return similarity

    def _start(self, box: np.ndarray, label: int, joints: Optional[np.ndarray]) -> _Track:
        track = _Track(self._next_id, label, box, joints, np.zeros(2))
        self._next_id += 1
        self._tracks.append(track)
        return track


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU (T, N) of boxes xyxy."""
    sides = [
        np.hstack([each[:, :2], each[:, 2:] - each[:, :2]]).astype(float)
        for each in (boxes, others)
    ]
    return rle.iou(*sides, [False] * len(others))


def object_keypoint_similarity(
    joints: np.ndarray, boxes: np.ndarray, others: np.ndarray, sigmas: Sequence[float]
) -> np.ndarray:
    """COCO's OKS of people with the areas of their boxes, and other people.

    Args:
        joints (np.ndarray): (T, K, 2) in pixels.
        boxes (np.ndarray): (T, 4) xyxy, whose areas say how large they are.
        others (np.ndarray): (N, K, 2). Those that are NaN here or there
            do not count.
        sigmas (Sequence[float]): OKS sigma of each joint, (K).

    Returns:
        np.ndarray: (T, N), from 0 to 1; NaN where no joint counts.
    """
    distance = ((joints[:, None] - others[None]) ** 2).sum(-1)  # (T, N, K)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], -1)[:, None, None]
    spread = (2 * np.asarray(sigmas)) ** 2 * np.maximum(area, 1)
    similarity = np.exp(-distance / (2 * spread))
    counts = np.isfinite(similarity).sum(-1)
    return np.divide(
        np.nansum(similarity, -1), counts, where=counts > 0, out=np.full(counts.shape, np.nan)
    )
