"""Convert datasets between COCO's format and those of other tools, and check the result."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from multitask_runtime.formats import (
    coco_to_cvat,
    coco_to_label_studio,
    coco_to_labelme,
    coco_to_yolo,
    cvat_to_coco,
    label_studio_to_coco,
    labelme_to_coco,
    yolo_to_coco,
)
from multitask_runtime.formats.coco import Losses
from multitask_runtime.formats.files import write_new
from multitask_runtime.formats.yolo import Task

from .annotation_file import read_annotations
from .metainfo.meta_file import load_meta_file
from .validation.annotations import repair
from .validation.check import check, format_result
from .validation.issues import AnnotationError, Issue, format_issues


class Options(NamedTuple):
    """Options of a conversion; each format takes those that it needs.

    Attributes:
        images: Folder of the images.
        task: Task of YOLO labels to write.
        split: Split of a YOLO dataset.
        meta: Meta file that names the keypoints in their order, where the data do not.
        image_url: What stands before the file name of an image in Label Studio.
    """

    images: Path | None = None
    task: Task = 'pose'
    split: str = 'train'
    meta: str | None = None
    image_url: str = ''


def convert_data(source: Path, out: Path, format_name: str, options: Options) -> int:
    """Convert a dataset into a COCO file, check that, and print what was lost.

    Args:
        source: File or folder of the dataset.
        out: COCO file to write.
        format_name: 'yolo', 'labelme', 'cvat' or 'label-studio'.
        options: Further options.

    Returns:
        int: Number of issues that the check found.

    Raises:
        FormatError: If the source is wrong, or there is a file of the name ``out``.
    """
    keypoints = _read_keypoint_names(options.meta)
    if format_name == 'yolo':
        content, losses = yolo_to_coco(source, options.split, keypoints)
    elif format_name == 'labelme':
        content, losses = labelme_to_coco(source, options.images, keypoints)
    elif format_name == 'cvat':
        content, losses = cvat_to_coco(source, keypoints)
    else:
        content, losses = label_studio_to_coco(source, options.images, keypoints)
    write_new(out, json.dumps(content, allow_nan=False))
    print(
        f'{out}: written, with {len(content["images"])} images, {len(content["annotations"])} '
        f'annotations, {len(content["categories"])} categories'
    )
    _print_losses(losses)
    result = check(content, {}, options.images, workers=1)
    print(format_result(result, out, max_shown=3))
    return len(result.issues)


def export_data(source: Path, out: Path, format_name: str, options: Options) -> None:
    """Convert a COCO file into a dataset of another format, and print what was lost.

    Args:
        source: COCO file; what breaks a rule of the check is repaired or left out.
        out: File or folder to write.
        format_name: 'yolo', 'labelme', 'cvat' or 'label-studio'.
        options: Further options.

    Raises:
        AnnotationError: If the COCO file cannot be read, or has no valid image.
        FormatError: If the annotations do not fit, or ``out`` exists.
    """
    issues: list[Issue] = []
    content, found = repair(read_annotations(str(source), issues))
    issues += found
    if not content['images']:
        table = f':\n{format_issues(issues)}' if issues else '.'
        raise AnnotationError(f'{source}: images: expected at least one, found none{table}')
    if format_name == 'yolo':
        losses = coco_to_yolo(content, out, options.task, options.split, options.images)
    elif format_name == 'labelme':
        losses = coco_to_labelme(content, out, options.images)
    elif format_name == 'cvat':
        losses = coco_to_cvat(content, out)
    else:
        losses = coco_to_label_studio(content, out, options.image_url)
    if issues:
        print(f'{len(issues)} issues were repaired or left out:\n{format_issues(issues)}')
    print(
        f'{out}: written, with {len(content["images"])} images and '
        f'{len(content.get("annotations", ()))} annotations of {source}'
    )
    _print_losses(losses)


def _read_keypoint_names(meta: str | None) -> Sequence[str] | None:
    if meta is None:
        return None
    names = load_meta_file(meta)['keypoint_id2name']
    return [names[i] for i in range(len(names))]


def _print_losses(losses: Losses) -> None:
    if losses:
        print('what the format cannot hold:')
    for loss, count in losses.items():
        print(f'    {count} {loss}')
