"""Statistics of a data set, from which the settings of a fine-tuning are chosen."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .data import Keypoints


class DatasetStatistics(NamedTuple):
    """Statistics of a training set.

    Attributes:
        images: Number of images.
        instances: Number of instances without crowds.
        labeled: Number of instances with a 'bbox', 'segm' and 'keypoints' label.
        classes: Names of the classes, in the order of the file.
        keypoints: The K keypoint names, () if no instance has keypoints.
        keypoints_named: Whether a file names the keypoints.
        image_size: Median width and height in pixels.
        long_side: 90th percentile of the longer image side in pixels.
        instance_size: 10th, 50th and 90th percentile of the square root of the box area, as a
            fraction of the longer image side.
        max_instances: Maximal number of instances of an image.
    """

    images: int
    instances: int
    labeled: dict[str, int]
    classes: tuple[str, ...]
    keypoints: tuple[str, ...]
    keypoints_named: bool
    image_size: tuple[int, int]
    long_side: int
    instance_size: tuple[float, float, float]
    max_instances: int


def collect_statistics(
    content: dict, classes: Sequence[str], keypoints: Keypoints
) -> DatasetStatistics:
    """Collect the statistics of a data set.

    Args:
        content: Repaired content of its annotation file.
        classes: Names of its classes.
        keypoints: Keypoints of its instances.
    """
    sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
    instances = [ann for ann in content['annotations'] if not ann['iscrowd']]
    relative_sizes = [
        np.sqrt(ann['bbox'][2] * ann['bbox'][3]) / max(sizes[ann['image_id']]) for ann in instances
    ]
    width, height = np.median(list(sizes.values()), axis=0)
    return DatasetStatistics(
        images=len(sizes),
        instances=len(instances),
        labeled=dict(
            bbox=len(instances),
            segm=sum(bool(ann.get('segmentation')) for ann in instances),
            keypoints=sum(any((ann.get('keypoints') or [])[2::3]) for ann in instances),
        ),
        classes=tuple(classes),
        keypoints=tuple(keypoints.names),
        keypoints_named=keypoints.are_named,
        image_size=(int(width), int(height)),
        long_side=int(np.percentile([max(each) for each in sizes.values()], 90)),
        instance_size=tuple(float(each) for each in np.percentile(relative_sizes, [10, 50, 90])),
        max_instances=max(Counter(ann['image_id'] for ann in instances).values()),
    )
