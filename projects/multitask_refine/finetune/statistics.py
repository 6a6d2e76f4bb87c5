"""Statistics of an annotation file, from which a fine-tuning is set up."""

from collections import Counter
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from multitask_refine.datasets import AnnotationError, load_meta_file, mend
from multitask_refine.datasets.validation.annotations import count_keypoints, keep_classes
from multitask_refine.datasets.validation.summary import refuse

COCO_KEYPOINTS = list(load_meta_file('coco.py')['keypoint_name2id'])


class DatasetStatistics(NamedTuple):
    """What the annotations of a training set are like.

    Attributes:
        images: Number of images.
        instances: Number of instances; crowds do not count.
        labelled: Instances with a 'bbox', a 'segm' and 'keypoints'.
        classes: Names of the categories that have instances, in the order
            of the file.
        keypoints: The K keypoint names, () if no instance has keypoints.
        keypoints_named: Whether the file names its keypoints.
        image_size: Median width and height in pixels.
        long_side: 90th percentile of the images' longer side in pixels.
        instance_size: 10th, 50th and 90th percentile of the square root of
            the box area, as a fraction of the image's longer side.
        crowding: Most instances in one image.
    """

    images: int
    instances: int
    labelled: Dict[str, int]
    classes: Tuple[str, ...]
    keypoints: Tuple[str, ...]
    keypoints_named: bool
    image_size: Tuple[int, int]
    long_side: int
    instance_size: Tuple[float, float, float]
    crowding: int


def select_classes(
    content: dict, path: str, classes: Optional[Sequence[str]] = None
) -> Tuple[str, ...]:
    """Find the categories to train on.

    Args:
        content (dict): Of the annotation file.
        path (str): The file, for messages.
        classes (Sequence[str], optional): Names of the categories to use.
            Defaults to all that have annotations.

    Returns:
        tuple[str]: Their names, in the order of the file.

    Raises:
        AnnotationError: If the file has no annotations, none of a known
            category, or lacks one of ``classes``.
    """
    names = {
        category.get('id'): str(category.get('name'))
        for category in content['categories']
        if isinstance(category, dict)
    }
    missing = [name for name in classes or () if name not in names.values()]
    if missing:
        raise AnnotationError(
            f'{path}: categories: expected {missing[0]!r}, found '
            f'{sorted(names.values())}. Name categories of the file.'
        )
    annotations = content.get('annotations') or []
    if not annotations:
        raise AnnotationError(
            f'{path}: annotations: expected some to learn from, found none. '
            'Annotate boxes, and masks and keypoints as far as the network '
            'should predict them.'
        )
    used = Counter(
        names.get(ann.get('category_id')) for ann in annotations if isinstance(ann, dict)
    )
    found = tuple(
        name for name in dict.fromkeys(names.values()) if used[name] and name in (classes or used)
    )
    if not found:
        raise AnnotationError(
            f'{path}: annotations: expected a category_id of categories '
            f'({names}) in at least one of {len(annotations)}, found none. '
            'Correct category_id, or add the category.'
        )
    return found


def read_keypoints(content: dict, path: str, classes: Sequence[str]) -> Tuple[List[str], bool]:
    """Find the names of the keypoints that are labelled.

    Args:
        content (dict): Of the annotation file, of ``classes`` alone.
        path (str): The file, for messages.
        classes (Sequence[str]): Names of the categories that are used.

    Returns:
        tuple: The K names, [] if no instance has keypoints, and whether the
        file gives them. 17 keypoints without names are taken for COCO's.

    Raises:
        AnnotationError: If the instances differ in K, their number differs
            from that of the names, or K keypoints have no names.
    """
    counts = Counter(
        len(ann['keypoints']) / 3
        for ann in content['annotations']
        if isinstance(ann, dict) and isinstance(ann.get('keypoints'), list) and ann['keypoints']
    )
    if not counts or not any(
        any(ann.get('keypoints', [])[2::3])
        for ann in content['annotations']
        if isinstance(ann, dict) and isinstance(ann.get('keypoints'), list)
    ):
        return [], False
    number, times = counts.most_common(1)[0]
    if number % 1 or 2 * times <= counts.total():
        found = ', '.join(
            f'{each:g} ({count} instances)' for each, count in sorted(counts.items())
        )
        raise AnnotationError(
            f'{path}: annotations: keypoints: expected 3 numbers for each of '
            f'the same K keypoints in all instances, found K = {found}. '
            'Correct them, or keep one kind.'
        )
    lists = {
        tuple(category['keypoints'])
        for category in content['categories']
        if isinstance(category, dict)
        and category.get('name') in classes
        and isinstance(category.get('keypoints'), list)
        and category['keypoints']
    }
    if len(lists) > 1:
        raise AnnotationError(
            f'{path}: categories: keypoints: expected the same names in '
            f'all of {list(classes)}, found {len(lists)} lists. Train one '
            'class at a time: --classes NAME.'
        )
    if not lists:
        if number == len(COCO_KEYPOINTS):
            return COCO_KEYPOINTS, False
        raise AnnotationError(
            f'{path}: categories: keypoints: expected the names of the '
            f'{number:g} keypoints, found none. Add them, left and right ones '
            'as left_NAME and right_NAME, or name a meta file: --metainfo '
            'FILE.'
        )
    names = [str(name) for name in lists.pop()]
    if len(names) != number or len(set(names)) != len(names):
        raise AnnotationError(
            f'{path}: categories: keypoints: expected {number:g} names that '
            f'differ, as the instances have {number:g} keypoints, found '
            f'{names}. Correct the list.'
        )
    return names, True


def mend_annotations(
    content: dict,
    path: str,
    images: str,
    classes: Sequence[str],
    num_keypoints: int,
    for_test: bool = False,
) -> dict:
    """Keep some classes, and mend what is wrong with their annotations.

    Args:
        content (dict): Of the annotation file.
        path (str): The file, for messages.
        images (str): The folder of the images, for messages.
        classes (Sequence[str]): Names of the categories to keep.
        num_keypoints (int): K, 0 if there are no keypoints.
        for_test (bool): Refuse what would spoil an evaluation, which reads
            the file itself. Defaults to False.

    Returns:
        dict: The content mended.

    Raises:
        AnnotationError: If coordinates are in another unit, or no
            annotation is left.
    """
    content = keep_classes(content, classes)
    mended, problems = mend(
        content, count_keypoints(content, num_keypoints) if num_keypoints else {}
    )
    refuse(problems, path, images, for_test, False)
    if not mended['annotations']:
        raise AnnotationError(
            f'{path}: annotations: expected at least one that can be used, '
            f'found {len(problems)} problems. See them: python '
            f'tools/dataset/check_coco.py {path} --images {images}'
        )
    return mended


def collect_statistics(
    content: dict, classes: Sequence[str], keypoints: Sequence[str], keypoints_named: bool = True
) -> DatasetStatistics:
    """Count and measure what a mended annotation file has.

    Args:
        content (dict): From :func:`mend_annotations`.
        classes (Sequence[str]): Names of its classes.
        keypoints (Sequence[str]): Names of its keypoints, empty if there
            are none.
        keypoints_named (bool): Whether they are given by the file.
    """
    sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
    instances = [ann for ann in content['annotations'] if not ann['iscrowd']]
    relative = [
        np.sqrt(ann['bbox'][2] * ann['bbox'][3]) / max(sizes[ann['image_id']]) for ann in instances
    ]
    crowding = Counter(ann['image_id'] for ann in instances)
    width, height = np.median(list(sizes.values()), axis=0)
    return DatasetStatistics(
        images=len(sizes),
        instances=len(instances),
        labelled=dict(
            bbox=len(instances),
            segm=sum(bool(ann.get('segmentation')) for ann in instances),
            keypoints=sum(any((ann.get('keypoints') or [])[2::3]) for ann in instances),
        ),
        classes=tuple(classes),
        keypoints=tuple(keypoints),
        keypoints_named=keypoints_named,
        image_size=(int(width), int(height)),
        long_side=int(np.percentile([max(each) for each in sizes.values()], 90)),
        instance_size=tuple(float(each) for each in np.percentile(relative, [10, 50, 90])),
        crowding=max(crowding.values()),
    )
