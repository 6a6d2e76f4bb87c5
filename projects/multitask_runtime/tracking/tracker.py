"""Track people across video frames by OKS (or box IoU).

The trackers of MMDetection (ByteTrack, OC-SORT) compare boxes only. Keypoints
tell people apart who stand in front of each other, where the boxes are nearly
the same.

Shape letters: T tracks, N instances, K keypoints. Coordinates are image pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils
from scipy.optimize import linear_sum_assignment

from multitask_runtime.utils.types import Array

_GAIN = 0.5  # share of the prediction error by which the velocity is corrected


@dataclass
class _Track:
    id: int
    label: int
    box: Array  # (4), xyxy
    keypoints: Array | None  # (K, 2)
    velocity: Array  # (2), pixels per frame
    age: int = 0  # frames since the last detection

    def predict(self) -> None:
        """Move on at constant velocity."""
        self.box = self.box + np.tile(self.velocity, 2)
        if self.keypoints is not None:
            self.keypoints = self.keypoints + self.velocity
        self.age += 1

    def update(self, box: Array, keypoints: Array | None) -> None:
        """Correct the velocity and take over the position of a detection."""
        error = (box[:2] + box[2:] - self.box[:2] - self.box[2:]) / 2  # of the centers
        self.velocity = self.velocity + _GAIN * error / self.age
        self.box, self.keypoints, self.age = box, keypoints, 0


class Tracker:
    """Assign a track id to each instance of a video.

    Tracks move on at constant velocity. The detections of a frame are assigned to
    them by the Hungarian method, maximizing the total similarity: OKS where there
    are keypoints, otherwise the IoU of the boxes. A detection that is similar to no
    track starts a new one with the next id.

    Args:
        sigmas (Sequence[float], optional): OKS sigma of each keypoint; needed if there
            are keypoints.
        score_thr (float): Instances with a lower score are not tracked.
            Defaults to 0.3.
        min_similarity (float): Least similarity of a detection to its track.
            Defaults to 0.2.
        max_missing (int): Number of frames without a detection after which a track
            ends. Defaults to 10.
    """

    def __init__(
        self,
        sigmas: Sequence[float] | None = None,
        score_thr: float = 0.3,
        min_similarity: float = 0.2,
        max_missing: int = 10,
    ) -> None:
        self.sigmas = sigmas
        self.score_thr = score_thr
        self.min_similarity = min_similarity
        self.max_missing = max_missing
        self._tracks: list[_Track] = []
        self._next_id = 1

    def update(self, result: Mapping[str, Any]) -> Array:
        """Track the instances of the next frame.

        Args:
            result (dict): ``bboxes`` (N, 4) xyxy, ``scores`` (N), ``labels`` (N) and
                optionally ``keypoints`` (N, K, 2), NaN for keypoints that the
                category does not have.

        Returns:
            np.ndarray: Track ids, int, shape (N); -1 for instances that are not tracked.
        """
        kept = np.flatnonzero(result['scores'] >= self.score_thr)
        boxes, labels = result['bboxes'][kept], result['labels'][kept]
        keypoints = result['keypoints'][kept] if 'keypoints' in result else None
        for track in self._tracks:
            track.predict()
        matches: dict[int, _Track] = {}
        if self._tracks and len(boxes):
            similarity = self._similarity(boxes, keypoints)  # (T, N)
            same_label = np.array([track.label for track in self._tracks])[:, None] == labels
            similarity[~same_label | (similarity < self.min_similarity)] = 0
            rows, columns = linear_sum_assignment(similarity, maximize=True)
            for row, column in zip(rows, columns, strict=True):
                if similarity[
                    row, column
                ]:  # the assignment also pairs those that are too different
                    matches[int(column)] = self._tracks[row]
        ids = np.full(len(result['scores']), -1)
        for i, (index, box) in enumerate(zip(kept, boxes, strict=True)):
            points = None if keypoints is None else keypoints[i]
            if i in matches:
                matches[i].update(box, points)
                ids[index] = matches[i].id
            else:
                track = _Track(self._next_id, labels[i], box, points, np.zeros(2))
                self._tracks.append(track)
                self._next_id += 1
                ids[index] = track.id
        self._tracks = [track for track in self._tracks if track.age <= self.max_missing]
        return ids

    def _similarity(self, boxes: Array, keypoints: Array | None) -> Array:
        """Compute the similarity, shape (T, N), of tracks and detections, 0 to 1."""
        track_boxes = np.stack([track.box for track in self._tracks])
        # pycocotools takes xywh
        xywh = [
            np.hstack([each[:, :2], each[:, 2:] - each[:, :2]]).astype(float)
            for each in (track_boxes, boxes)
        ]
        iou: Array = mask_utils.iou(*xywh, [False] * len(boxes))
        if keypoints is None or self.sigmas is None:
            return iou
        # (T, K, 2)
        track_keypoints = np.stack(
            [track.keypoints for track in self._tracks if track.keypoints is not None]
        )
        oks = object_keypoint_similarity(track_keypoints, track_boxes, keypoints, self.sigmas)
        # Instances of different categories may have no keypoint in common.
        return np.where(np.isnan(oks), iou, oks)


def object_keypoint_similarity(
    keypoints: Array, boxes: Array, others: Array, sigmas: Sequence[float]
) -> Array:
    """Compute the OKS of COCO between two sets of instances.

    The scale of an instance is the area of its box.

    Args:
        keypoints (np.ndarray): Shape (T, K, 2). Keypoints that are NaN here or in
            ``others`` do not count.
        boxes (np.ndarray): Boxes of these instances, xyxy, shape (T, 4).
        others (np.ndarray): Shape (N, K, 2).
        sigmas (Sequence[float]): OKS sigma of each keypoint, shape (K).

    Returns:
        np.ndarray: Shape (T, N), 0 to 1; NaN for instances without a common keypoint.
    """
    distance = ((keypoints[:, None] - others[None]) ** 2).sum(-1)  # (T, N, K)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], -1)[:, None, None]  # (T, 1, 1)
    variance = (2 * np.asarray(sigmas)) ** 2 * np.maximum(area, 1)
    similarity = np.exp(-distance / (2 * variance))
    counts = np.isfinite(similarity).sum(-1)  # (T, N), keypoints in common
    oks: Array = np.divide(
        np.nansum(similarity, -1), counts, where=counts > 0, out=np.full(counts.shape, np.nan)
    )
    return oks
