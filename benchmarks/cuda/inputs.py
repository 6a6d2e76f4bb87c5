"""Drawn images and people, for measurements in which their size does not matter.

It needs NumPy alone, so that it runs beside other frameworks, too.
"""

from typing import NamedTuple

import numpy as np

IMAGES, PEOPLE, ROIS, DETECTIONS, KEYPOINTS = 2, 4, 64, 20, 17
HEIGHT, WIDTH = 128, 160
SEED = 7


class People(NamedTuple):
    """Annotations of an image.

    Attributes:
        boxes: xyxy in image pixels, float32 (4, 4).
        masks: The boxes' pixels, uint8 (4, H, W).
        keypoints: x, y in image pixels, float32 (4, 17, 2).
    """

    boxes: np.ndarray
    masks: np.ndarray
    keypoints: np.ndarray


def draw_batch(num_images: int) -> list[tuple[np.ndarray, People]]:
    """Draw images, uint8 (3, H, W), and their people."""
    random = np.random.RandomState(SEED)
    batch = []
    for _ in range(num_images):
        extent = random.uniform(30, 80, (PEOPLE, 2))
        corner = random.uniform(0, [WIDTH, HEIGHT] - extent)
        boxes = np.hstack([corner, corner + extent]).round().astype(np.float32)
        masks = np.zeros((PEOPLE, HEIGHT, WIDTH), np.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
            mask[top:bottom, left:right] = 1
        places = random.uniform(0.1, 0.9, (PEOPLE, KEYPOINTS, 2))
        keypoints = (corner[:, None] + extent[:, None] * places).astype(np.float32)
        image = random.randint(0, 256, (3, HEIGHT, WIDTH)).astype(np.uint8)
        batch.append((image, People(boxes, masks, keypoints)))
    return batch
