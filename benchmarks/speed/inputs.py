"""Synthetic images and annotations, the same in the processes of all baselines."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from multitask_refine.testing.synthetic_images import draw_image

PEOPLE = 4  # per image
EXTRA_PROPOSALS = 8  # per person
KEYPOINTS = 17
MAX_SHIFT = 0.08  # of an extra proposal, as a fraction of the box: its IoU stays above 0.7

draw_cached = lru_cache(maxsize=16)(draw_image)


class People(NamedTuple):
    """Annotations of an image with N people.

    Attributes:
        boxes: xyxy in image pixels, float32 (N, 4).
        masks: An ellipse in each box, uint8 (N, H, W).
        keypoints: x and y inside the box, all visible, float32 (N, 17, 2).
        extra_proposals: Boxes with an IoU above 0.7 with a person's, float32 (8 N, 4).
    """

    boxes: np.ndarray
    masks: np.ndarray
    keypoints: np.ndarray
    extra_proposals: np.ndarray


def image_names(side: int, count: int) -> list[tuple[int, int, int]]:
    """Return seed, height and width of 4:3 images whose shorter side is ``side`` pixels."""
    return [(seed, side, round(side * 4 / 3)) for seed in range(1, count + 1)]


def load_images(names: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Draw the images of :func:`image_names`: RGB, uint8 (H, W, 3)."""
    return [draw_cached(*name) for name in names]


@lru_cache(maxsize=16)
def load_people(seed: int, height: int, width: int) -> People:
    """Draw the people of an image, side by side without overlap."""
    random = np.random.RandomState(seed)
    fractions = random.uniform(0.5, 0.7, PEOPLE), random.uniform(0.4, 0.7, PEOPLE)
    size = np.stack(fractions, 1) * [width / PEOPLE, height]  # (N, 2), width and height
    center = np.stack([(np.arange(PEOPLE) + 0.5) * width / PEOPLE, np.full(PEOPLE, height / 2)], 1)
    boxes = np.concatenate([center - size / 2, center + size / 2], 1)  # (N, 4)
    # Fractions of the box, relative to its center: (N, 17, 2).
    spread = random.uniform(-0.45, 0.45, (PEOPLE, KEYPOINTS, 2))
    shifts = random.uniform(-MAX_SHIFT, MAX_SHIFT, (PEOPLE, EXTRA_PROPOSALS, 2))
    extra = boxes[:, None] + np.tile(shifts * size[:, None], 2)  # (N, 8, 4)
    pixels = np.mgrid[:height, :width][::-1] + 0.5  # x and y, (2, H, W)
    radius = (pixels - center[..., None, None]) / size[..., None, None]  # (N, 2, H, W)
    return People(
        boxes.astype(np.float32),
        ((radius**2).sum(1) < 0.25).astype(np.uint8),
        (center[:, None] + size[:, None] * spread).astype(np.float32),
        extra.reshape(-1, 4).astype(np.float32),
    )
