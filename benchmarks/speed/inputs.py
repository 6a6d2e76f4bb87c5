"""What every baseline is given: drawn images and drawn people.

It needs numpy alone, so it runs beside every framework, and all processes
draw the same bits.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from multitask_refine.testing.synthetic_images import draw_image

PEOPLE = 4  # of an image
COPIES = 8  # near every person, added to the proposals
KEYPOINTS = 17
SHIFT = 0.08  # of the sides at most: the IoU stays above 0.7


class People(NamedTuple):
    """The annotations of an image, N people.

    Attributes:
        boxes: xyxy in image pixels, (N, 4).
        masks: An ellipse in each box, uint8 (N, H, W).
        keypoints: x, y inside the box, all visible, (N, 17, 2).
        copies: Boxes that overlap a person's with an IoU above 0.7,
            (8 N, 4).
    """

    boxes: np.ndarray
    masks: np.ndarray
    keypoints: np.ndarray
    copies: np.ndarray


def image_names(side: int, count: int) -> list[tuple[int, int, int]]:
    """Seed, height and width of 4:3 images with a short side of ``side``."""
    return [(seed, side, round(side * 4 / 3)) for seed in range(1, count + 1)]


@lru_cache(maxsize=16)
def load_image(seed: int, height: int, width: int) -> np.ndarray:
    """RGB pixels, uint8 (H, W, 3)."""
    return draw_image(seed, height, width)


def load_images(names: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """The images of :func:`image_names`."""
    return [load_image(*name) for name in names]


@lru_cache(maxsize=16)
def load_people(seed: int, height: int, width: int) -> People:
    """Draw the people of an image, side by side without overlap."""
    random = np.random.RandomState(seed)
    extent = np.stack(
        [
            random.uniform(0.5, 0.7, PEOPLE) * width / PEOPLE,
            random.uniform(0.4, 0.7, PEOPLE) * height,
        ],
        1,
    )
    centre = np.stack([(np.arange(PEOPLE) + 0.5) * width / PEOPLE, np.full(PEOPLE, height / 2)], 1)
    boxes = np.concatenate([centre - extent / 2, centre + extent / 2], 1)
    keypoints = centre[:, None] + extent[:, None] * random.uniform(
        -0.45, 0.45, (PEOPLE, KEYPOINTS, 2)
    )
    moves = random.uniform(-SHIFT, SHIFT, (PEOPLE, COPIES, 2))
    copies = boxes[:, None] + np.tile(moves * extent[:, None], 2)
    return People(
        boxes.astype(np.float32),
        _ellipses(centre, extent, height, width),
        keypoints.astype(np.float32),
        copies.reshape(-1, 4).astype(np.float32),
    )


def _ellipses(centre: np.ndarray, extent: np.ndarray, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width] + 0.5
    far = [
        ((x - cx) / wide) ** 2 + ((y - cy) / tall) ** 2
        for (cx, cy), (wide, tall) in zip(centre, extent, strict=True)
    ]
    return (np.stack(far) < 0.25).astype(np.uint8)
