"""Synthetic ground truth and detections of the size of COCO's val2017."""

from typing import NamedTuple

import numpy as np
from pycocotools import mask as rle_codec

IMAGES, PERSONS = 5000, 11004  # of val2017
HEIGHT, WIDTH = 480, 640
KEYPOINTS = 17


class DrawnPeople(NamedTuple):
    """Input of an evaluation.

    Attributes:
        truth: Content of a COCO annotation file.
        entries: COCO results by task; entry i of every task is of the same detection.
    """

    truth: dict
    entries: dict[str, list[dict]]


def draw_person(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a box, (x, y, width, height), and the keypoints in it, (17, 2), in pixels."""
    # Many small people and few large ones, from 12 to 412 pixels tall.
    height = 400 * rng.random() ** 2 + 12
    x, y = rng.random() * (WIDTH - 0.5 * height), rng.random() * (HEIGHT - height)
    box = np.array([x, y, rng.uniform(0.3, 0.5) * height, height])
    return box, box[:2] + rng.random((KEYPOINTS, 2)) * box[2:]


def draw_ellipse(box: np.ndarray) -> tuple[list[float], dict]:
    """Draw the ellipse in a box as polygon (x, y, x, y, ...) and as RLE."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])  # (24, 2)
    polygon = (box[:2] + box[2:] * (0.5 + 0.5 * circle)).flatten().tolist()
    return polygon, rle_codec.frPyObjects([polygon], HEIGHT, WIDTH)[0]


def draw_people(
    images: int = IMAGES, persons: int = PERSONS, detections: int = 20, seed: int = 0
) -> DrawnPeople:
    """Draw people as ellipses with keypoints, and noisy detections of them.

    Most people are detected, at slightly different boxes, masks and keypoints; the other
    detections are false positives.

    Args:
        images: Number of images of 480 x 640 pixels.
        persons: Number of annotations, in the first half of the images: in COCO, half of them
            show nobody. One in twenty is a crowd.
        detections: Number of detections per image.
        seed: Random seed.
    """
    rng = np.random.default_rng(seed)
    annotations, found = [], []
    for number, image in enumerate(rng.integers(0, (images + 1) // 2, persons).tolist(), 1):
        box, keypoints = draw_person(rng)
        is_crowd = bool(rng.random() < 0.05)
        polygon, rle = draw_ellipse(box)
        # 0 unlabeled, 1 hidden, 2 visible; COCO labels no keypoints of crowds.
        visible = rng.integers(0, 3, KEYPOINTS) * (not is_crowd)
        labeled = np.column_stack([keypoints.round(), visible]) * (visible > 0)[:, None]  # (17, 3)
        annotations.append(
            dict(
                id=number,
                image_id=image + 1,
                category_id=1,
                iscrowd=int(is_crowd),
                bbox=box.round(2).tolist(),
                area=round(float(np.pi / 4 * box[2] * box[3]), 2),
                segmentation=dict(rle, counts=rle['counts'].decode())
                if is_crowd
                else [np.round(polygon, 2).tolist()],
                keypoints=labeled.flatten().astype(int).tolist(),
                num_keypoints=int((visible > 0).sum()),
            )
        )
        if rng.random() < 0.85:  # detected, usually with a high score
            shifted = box + rng.normal(0, 0.06, 4) * np.tile(box[2:], 2)
            found.append((image + 1, shifted, keypoints, rng.random() ** 0.3))
    false_positives = max(0, images * detections - len(found))
    for image in rng.integers(1, images + 1, false_positives).tolist():
        found.append((image, *draw_person(rng), rng.random() ** 3))
    entries: dict[str, list[dict]] = dict(bbox=[], segm=[], keypoints=[])
    for image, box, keypoints, score in found:
        common = dict(image_id=image, category_id=1, score=float(score))
        box = np.maximum(box, [0, 0, 2, 2])  # at least 2 x 2 pixels after the noise
        noisy = keypoints + rng.normal(0, 0.04, keypoints.shape) * box[3]
        rows = np.column_stack([noisy, rng.random(KEYPOINTS)])  # (17, 3): x, y, score
        entries['bbox'].append(dict(common, bbox=box.tolist()))
        entries['segm'].append(dict(common, segmentation=draw_ellipse(box)[1]))
        entries['keypoints'].append(dict(common, keypoints=rows.flatten().tolist()))
    truth = dict(
        images=[
            dict(id=i, file_name=f'{i:012d}.jpg', height=HEIGHT, width=WIDTH)
            for i in range(1, images + 1)
        ],
        annotations=annotations,
        categories=[dict(id=1, name='person')],
    )
    return DrawnPeople(truth, entries)
