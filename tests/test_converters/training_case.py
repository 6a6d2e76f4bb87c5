"""A few training steps, the same for every framework, and a summary of what they give.

The images are drawn and annotated by hand: people who overlap, an occluded and many unlabeled
keypoints, keypoints outside their box, a person smaller than every anchor, a mask of two parts, a
crowd, an image with nothing else and one without people. The networks are narrow. This file
imports nothing of the project, so that it also runs beside other frameworks (see
make_training_golden.py).
"""

import json
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image
from synthetic_images import draw_image
from synthetic_weights import draw_weights

STEPS = 5
# Width of the networks: the first convolution, the first stage's bottleneck, the FPN, the fully
# connected layers, the convolutions of the mask head and those of the keypoint head.
STEM, BASE, PYRAMID, FC, MASK, KEYPOINT = 8, 4, 16, 32, 8, 16
SHORT_SIDES = (96, 112, 128)
LONG_SIDE = 168
MAX_PROPOSALS = 100  # per image: RoIs are stored
WARMUP = 4  # iterations; the fifth has the full learning rate
NUM_PROJECTIONS = 8

# Seed, height, width of each image; its id is the index + 1.
IMAGES = ((11, 96, 128), (12, 128, 96), (13, 90, 136), (14, 100, 180), (15, 112, 120))
# Images of each step. The first step takes them as they are, for numbers without rounding.
BATCHES = ((1, 2), (3, 1), (4, 2), (1, 5), (2, 4))


def write_dataset(folder: Path) -> Path:
    """Write the images and their annotations in COCO's format; return the annotation file."""
    images = []
    for i, (seed, height, width) in enumerate(IMAGES, 1):
        name = f'{i:012d}.png'
        Image.fromarray(draw_image(seed, height, width)).save(folder / name)
        images.append(dict(id=i, file_name=name, height=height, width=width))
    path = folder / 'annotations.json'
    content = dict(
        images=images,
        annotations=_annotations(),
        categories=[dict(id=1, name='person', supercategory='person')],
    )
    path.write_text(json.dumps(content))
    return path


def _annotations() -> list[dict]:
    people = [
        # image, box xywh, seed of the keypoints, which are labeled (every n-th is not)
        (1, (18.31, 8.27, 41.7, 74.6), 1, 0),
        (1, (49.63, 25.71, 52.2, 61.3), 2, 3),  # overlaps the first
        (2, (11.83, 52.41, 33.9, 66.7), 3, 0),
        (2, (61.37, 13.29, 7.6, 9.3), 4, 1),  # small, and no keypoint is labeled
        (2, (47.19, 39.57, 40.3, 81.1), 5, 2),
        (4, (71.23, 21.43, 63.8, 70.9), 6, 4),
        (4, (23.57, 31.37, 30.7, 60.1), 7, 5),
    ]
    annotations = []
    for i, (image, (x, y, w, h), seed, unlabeled) in enumerate(people, 1):
        random = np.random.RandomState(seed)
        # Some of them lie outside the box.
        points = (random.random_sample((17, 2)) * 1.3 - 0.15) * (w, h) + (x, y)
        visible = 1 + (np.arange(17) % 4 > 0)  # every fourth is occluded
        if unlabeled:
            visible = visible * (np.arange(17) % unlabeled > 0)
        _, height, width = IMAGES[image - 1]
        points = np.round(points.clip(0.13, (width - 1.17, height - 1.17)), 2)
        keypoints = np.concatenate([points, visible[:, None]], 1) * (visible > 0)[:, None]
        annotations.append(
            dict(
                id=i,
                image_id=image,
                category_id=1,
                iscrowd=0,
                bbox=[x, y, w, h],
                area=round(0.7 * w * h, 2),
                segmentation=_outline(x, y, w, h, parts=1 + (i == 5)),
                keypoints=keypoints.flatten().tolist(),
                num_keypoints=int((visible > 0).sum()),
            )
        )
    for image, (left, top, width, height) in ((1, (104, 4, 22, 50)), (3, (20, 30, 64, 48))):
        rows, columns = IMAGES[image - 1][1:]
        before = left * rows + top
        counts = [before] + [height, rows - height] * (width - 1) + [height]
        counts.append(rows * columns - sum(counts))
        annotations.append(
            dict(
                id=len(annotations) + 1,
                image_id=image,
                category_id=1,
                iscrowd=1,
                bbox=[left, top, width, height],
                area=width * height,
                segmentation=dict(size=[rows, columns], counts=counts),
                keypoints=[0] * 51,
                num_keypoints=0,
            )
        )
    return annotations


def _outline(x: float, y: float, w: float, h: float, parts: int) -> list[list[float]]:
    """Make hexagons in a box, one beside the other."""
    hexagon = np.array([(0.3, 0), (0.8, 0.05), (1, 0.55), (0.7, 1), (0.2, 0.93), (0, 0.4)])
    width = w / parts
    return [
        np.round(hexagon * (0.9 * width if parts > 1 else w, h) + (x + i * width, y), 2)
        .flatten()
        .tolist()
        for i in range(parts)
    ]


def summarize(values: dict[str, np.ndarray]) -> np.ndarray:
    """Reduce each tensor to its norm and its projections on drawn directions.

    The entries of a direction have mean 0 and variance 1, so that the mean square of the
    projections of a difference estimates its squared norm.

    Args:
        values: Tensors by name, in the source's names.

    Returns:
        Shape (tensors, 1 + NUM_PROJECTIONS), float64, in the order of the names.
    """
    rows = []
    for name in sorted(values):
        flat = np.asarray(values[name], np.float64).flatten()
        random = np.random.RandomState(crc32(name.encode()))
        directions = (random.random_sample((NUM_PROJECTIONS, flat.size)) - 0.5) * np.sqrt(12)
        rows.append([np.linalg.norm(flat), *(directions @ flat)])
    return np.array(rows)


def draw_training_weights(
    shapes: dict[str, tuple[int, ...]], seed: int, other_classes: slice
) -> dict[str, np.ndarray]:
    """Draw weights whose classifier gives every class but the person no probability.

    Args:
        shapes: Shape of each tensor by its name.
        seed: Random seed.
        other_classes: Rows of the classifier that are neither person nor background.
    """
    weights = draw_weights(shapes, seed)
    for name, values in weights.items():
        if name.endswith(('cls_score.weight', 'fc_cls.weight')):
            values[other_classes] = 0
        elif name.endswith(('cls_score.bias', 'fc_cls.bias')):
            values[other_classes] = -100
    return weights
