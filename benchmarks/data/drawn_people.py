"""Ground truth and predictions of the size of COCO's val2017, drawn."""

from typing import NamedTuple

import numpy as np
from pycocotools import mask as rle_codec

IMAGES, PERSONS = 5000, 11004  # of val2017
HEIGHT, WIDTH = 480, 640
KEYPOINTS = 17


class DrawnPeople(NamedTuple):
    """An evaluation's input.

    Attributes:
        truth: The content of an annotation file.
        entries: COCO result entries of each task; entry i of every task is
            of the same person.
    """

    truth: dict
    entries: dict[str, list[dict]]


def draw_people(
    images: int = IMAGES, persons: int = PERSONS, detections: int = 20, seed: int = 0
) -> DrawnPeople:
    """Draw people as ellipses with keypoints, and what a detector makes of them.

    Most people are found, at a box, mask and keypoints that are a little off;
    the other detections are false. Coordinates are image pixels.

    Args:
        images (int): Images of 480 x 640 pixels.
        persons (int): Annotated people, spread over half of the images, as
            in COCO, where the other half has none. One in twenty is a crowd.
        detections (int): Detections of each image.
        seed (int): Other seeds draw other people.
    """
    rng = np.random.default_rng(seed)
    hosts = rng.integers(0, (images + 1) // 2, persons)
    annotations, found = [], []
    for number, image in enumerate(hosts.tolist()):
        box, keypoints = _draw_person(rng)
        annotations.append(_annotate(number + 1, image + 1, box, keypoints, rng))
        if rng.random() < 0.85:
            found.append(
                (
                    image + 1,
                    box + rng.normal(0, 0.06, 4) * np.tile(box[2:], 2),
                    keypoints,
                    rng.random() ** 0.3,
                )
            )
    room = images * detections - len(found)
    for image in rng.integers(1, images + 1, max(0, room)).tolist():
        found.append((image, *_draw_person(rng), rng.random() ** 3))
    truth = dict(
        images=[
            dict(id=i + 1, file_name=f'{i + 1:012d}.jpg', height=HEIGHT, width=WIDTH)
            for i in range(images)
        ],
        annotations=annotations,
        categories=[dict(id=1, name='person')],
    )
    return DrawnPeople(truth, _entries(found, rng))


def _draw_person(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A box (x, y, width, height), and keypoints (K, 2) in it."""
    tall = 400 * rng.random() ** 2 + 12
    box = np.array(
        [
            rng.random() * (WIDTH - 0.5 * tall),
            rng.random() * (HEIGHT - tall),
            tall * rng.uniform(0.3, 0.5),
            tall,
        ]
    )
    return box, box[:2] + rng.random((KEYPOINTS, 2)) * box[2:]


def _annotate(
    number: int, image: int, box: np.ndarray, keypoints: np.ndarray, rng: np.random.Generator
) -> dict:
    crowd = int(rng.random() < 0.05)
    outline = _ellipse(box)
    visible = rng.integers(0, 3, KEYPOINTS) * (1 - crowd)
    flat = np.column_stack([keypoints.round(), visible]) * (visible > 0)[:, None]
    segmentation = [outline.flatten().round(2).tolist()]
    if crowd:
        segmentation = _rle(box)
        segmentation['counts'] = segmentation['counts'].decode()
    return dict(
        id=number,
        image_id=image,
        category_id=1,
        iscrowd=crowd,
        bbox=box.round(2).tolist(),
        area=round(float(np.pi / 4 * box[2] * box[3]), 2),
        segmentation=segmentation,
        keypoints=flat.flatten().astype(int).tolist(),
        num_keypoints=int((visible > 0).sum()),
    )


def _entries(found: list, rng: np.random.Generator) -> dict[str, list[dict]]:
    entries = dict(bbox=[], segm=[], keypoints=[])
    for image, box, keypoints, score in found:
        common = dict(image_id=image, category_id=1, score=float(score))
        box = np.maximum(box, [0, 0, 2, 2])
        noise = rng.normal(0, 0.04, keypoints.shape) * box[3]
        rows = np.column_stack([keypoints + noise, rng.random(KEYPOINTS)])
        entries['bbox'].append(dict(common, bbox=box.tolist()))
        entries['segm'].append(dict(common, segmentation=_rle(box)))
        entries['keypoints'].append(dict(common, keypoints=rows.flatten().tolist()))
    return entries


def _ellipse(box: np.ndarray) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    return box[:2] + box[2:] * (0.5 + 0.5 * circle)


def _rle(box: np.ndarray) -> dict:
    outline = _ellipse(box).flatten().tolist()
    return rle_codec.frPyObjects([outline], HEIGHT, WIDTH)[0]
