"""Read, check and split the annotations of a fine-tuning."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from multitask_refine.datasets import AnnotationError, load_meta_file, read_annotations, repair
from multitask_refine.datasets.annotation_file import filter_classes, select_images
from multitask_refine.datasets.splits import assign_groups, group_images
from multitask_refine.datasets.validation.images import list_missing
from multitask_refine.datasets.validation.summary import raise_if_fatal

COCO_KEYPOINTS = list(load_meta_file('coco.py')['keypoint_name2id'])


class Source(NamedTuple):
    """A folder of images with their annotation file."""

    images: Path
    annotations: Path


class Keypoints(NamedTuple):
    """Keypoints of a data set.

    Attributes:
        names: The K names, empty if no keypoint is labeled.
        are_named: Whether a file names them.
    """

    names: list[str]
    are_named: bool


def select_classes(
    content: dict, path: str, classes: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Select the categories to train on.

    Args:
        content: Content of the annotation file.
        path: Annotation file, for messages.
        classes: Names of the categories; by default all that have annotations.

    Returns:
        Names in the order of the file.

    Raises:
        AnnotationError: If the file has no annotations of its categories, or lacks one of
            ``classes``.
    """
    names = {
        category.get('id'): str(category.get('name'))
        for category in content['categories']
        if isinstance(category, dict)
    }
    missing = [name for name in classes or () if name not in names.values()]
    if missing:
        raise AnnotationError(
            f'{path}: categories: expected {missing[0]!r}, found {sorted(names.values())}. Name '
            'categories of the file.'
        )
    annotations = content.get('annotations') or []
    if not annotations:
        raise AnnotationError(
            f'{path}: annotations: expected some to learn from, found none. Annotate boxes, and '
            'masks and keypoints if the network is to predict them.'
        )
    used = Counter(
        names.get(ann.get('category_id')) for ann in annotations if isinstance(ann, dict)
    )
    selected = tuple(
        name for name in dict.fromkeys(names.values()) if used[name] and name in (classes or used)
    )
    if not selected:
        raise AnnotationError(
            f'{path}: annotations: expected a category_id of categories ({names}) in at least '
            f'one of {len(annotations)}, found none. Correct category_id, or add the category.'
        )
    return selected


def read_keypoints(content: dict, path: str, classes: Sequence[str]) -> Keypoints:
    """Read the names of the keypoints from the categories.

    17 keypoints without names are assumed to be COCO's.

    Args:
        content: Content of the annotation file.
        path: Annotation file, for messages.
        classes: Names of the categories in use.

    Raises:
        AnnotationError: If instances differ in K, the number of names is not K, or K keypoints
            have no names.
    """
    labels = [
        ann['keypoints']
        for ann in content['annotations']
        if isinstance(ann, dict) and isinstance(ann.get('keypoints'), list) and ann['keypoints']
    ]
    if not any(any(flat[2::3]) for flat in labels):
        return Keypoints([], False)
    counts = Counter(len(flat) / 3 for flat in labels)
    count, frequency = counts.most_common(1)[0]
    if count % 1 or 2 * frequency <= counts.total():
        found = ', '.join(
            f'{each:g} ({number} instances)' for each, number in sorted(counts.items())
        )
        raise AnnotationError(
            f'{path}: annotations: keypoints: expected 3 numbers for each of the same K keypoints '
            f'in all instances, found K = {found}. Correct them, or keep one kind.'
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
            f'{path}: categories: keypoints: expected the same names in all of {list(classes)}, '
            f'found {len(lists)} lists. Train one class at a time: --classes NAME.'
        )
    if not lists:
        if count == len(COCO_KEYPOINTS):
            return Keypoints(COCO_KEYPOINTS, False)
        raise AnnotationError(
            f'{path}: categories: keypoints: expected the names of the {count:g} keypoints, found '
            'none. Add them, left and right ones as left_NAME and right_NAME, or name a meta '
            'file: --metainfo FILE.'
        )
    names = [str(name) for name in lists.pop()]
    if len(names) != count or len(set(names)) != len(names):
        raise AnnotationError(
            f'{path}: categories: keypoints: expected {count:g} distinct names, as the instances '
            f'have {count:g} keypoints, found {names}. Correct the list.'
        )
    return Keypoints(names, True)


def repair_source(
    source: Source,
    content: dict,
    classes: Sequence[str],
    num_keypoints: int,
    test_mode: bool = False,
) -> dict:
    """Repair the annotations of some classes, and leave out missing images.

    Args:
        source: Images and annotation file.
        content: Content of the annotation file.
        classes: Names of the categories to keep.
        num_keypoints: K, 0 if there are no keypoints.
        test_mode: Raise an error for missing images and for issues that would distort an
            evaluation, which reads the file itself.

    Returns:
        The repaired content.

    Raises:
        AnnotationError: If nothing is left, the coordinates are in another unit, or ``test_mode``
            does not allow to go on.
    """
    path, folder = str(source.annotations), str(source.images)
    content = filter_classes(content, classes)
    content, issues = repair(content, num_keypoints or None)
    raise_if_fatal(issues, path, folder, test_mode, strict=False)
    if not content['annotations']:
        raise AnnotationError(
            f'{path}: annotations: expected at least one that can be used, found {len(issues)} '
            f'issues. List them: python tools/dataset/check_coco.py {path} --images {folder}'
        )
    paths = {image['id']: str(source.images / image['file_name']) for image in content['images']}
    missing = list_missing(paths.values())
    if missing.issuperset(paths.values()):
        raise AnnotationError(
            f'{folder}: expected the images of {path} in this folder, found none of {len(paths)}, '
            f'such as {min(missing)}. Name their folder.'
        )
    if missing and test_mode:
        raise AnnotationError(
            f'{folder}: expected the images of {path}, found {len(paths) - len(missing)} of '
            f'{len(paths)} without {min(missing)}. Copy them there, or remove them from the file: '
            f'tools/dataset/check_coco.py {path} --images {folder} --fix OUT.json'
        )
    if missing:
        print(
            f'{len(missing)} of {len(paths)} images are missing and left out, such as '
            f'{min(missing)}'
        )
        content = select_images(content, {i for i, each in paths.items() if each not in missing})
    if all(ann['iscrowd'] for ann in content['annotations']):
        raise AnnotationError(
            f'{path}: annotations: expected an instance in the images that are there, found none.'
        )
    return content


def check_validation(source: Source, classes: Sequence[str], keypoints: Keypoints) -> None:
    """Check that a data set can be validated on.

    Args:
        source: Images and annotation file.
        classes: Names of the categories of the training data.
        keypoints: Keypoints of the training data.

    Raises:
        AnnotationError: If it lacks a class, has other keypoints, or has issues that would distort
            the evaluation.
    """
    path = str(source.annotations)
    content = read_annotations(path)
    select_classes(content, path, classes)
    own = read_keypoints(content, path, classes)
    if own.names and keypoints.names:
        comparable = own.are_named and keypoints.are_named
        if len(own.names) != len(keypoints.names) or (comparable and own.names != keypoints.names):
            raise AnnotationError(
                f'{path}: categories: keypoints: expected those of the training, '
                f'{keypoints.names}, found {own.names}. Validate on a file with the same '
                'keypoints.'
            )
    repair_source(source, content, classes, len(keypoints.names), test_mode=True)


def hold_out(content: dict, fraction: float, seed: int, path: Path) -> tuple[dict, dict]:
    """Split annotations into a part to train on and a part to validate on.

    Args:
        content: Repaired content of an annotation file.
        fraction: Fraction of the images to validate on.
        seed: Seed of the random split.
        path: Annotation file, for the message.

    Raises:
        AnnotationError: If one of them would have no instance.
    """
    groups = group_images(content['images'], None, None)
    train, val = (
        select_images(content, ids)
        for ids in assign_groups(groups, [1 - fraction, fraction], seed)
    )
    for name, part in (('train', train), ('validate', val)):
        if all(ann['iscrowd'] for ann in part['annotations']):
            raise AnnotationError(
                f'{path}: images: expected enough to {name} on with --hold-out {fraction:g}, '
                f'found no instance for it in {len(content["images"])} images. Annotate more, or '
                'leave --hold-out out.'
            )
    return train, val
