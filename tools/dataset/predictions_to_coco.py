#!/usr/bin/env python
"""Turns predictions into a first annotation, to be corrected by hand.

    python tools/dataset/predictions_to_coco.py PREDICTIONS.json OUT.json

PREDICTIONS.json is what tools/test.py --predictions writes, or the
predictions.json of the demos. Instances are kept from a score on, keypoints
are labelled from a score of their own on, masks are kept. What would not be
in order (tools/dataset/check_coco.py) is mended or left out, and said.
"""

import argparse
import json
import sys
from pathlib import Path

from multitask_refine.datasets import AnnotationError, mend, read_annotations
from multitask_refine.datasets.validation.annotations import write_json
from multitask_refine.datasets.validation.images import inspect_image
from multitask_refine.datasets.validation.masks import are_numbers, rle_fault, rough_area
from multitask_refine.datasets.validation.summary import format_table
from multitask_refine.evaluation import read_predictions
from multitask_refine.evaluation.predictions import FORMAT
from multitask_refine.utils.errors import explained_errors


def read(path: Path, folder: Path | None) -> dict:
    """Read predictions of either kind as one: a COCO file with scores.

    Args:
        path: The file.
        folder: Of the images; None for what the file says.

    Returns:
        With 'images', 'categories' and 'annotations', whose keypoints have
        a score in place of the visibility.

    Raises:
        AnnotationError: If it is no such file, or sizes of images are
            unknown.
    """
    content = read_annotations(str(path)) if not _is_of_test(path) else None
    if content is None:
        return _join_tasks(path, read_predictions(str(path)), folder)
    for index, ann in enumerate(content.get('annotations', ())):
        if not isinstance(ann, dict) or not are_numbers([ann.get('score')]):
            found = ann.get('score') if isinstance(ann, dict) else ann
            raise AnnotationError(
                f'{path}: annotations[{index}].score: expected a number, '
                f'found {found!r:.60}. Name a file of predictions.'
            )
    if any(isinstance(image, dict) and 'frame' in image for image in content['images']):
        raise AnnotationError(
            f'{path}: images: expected pictures, found frames of a video. '
            'Write the frames as pictures (ffmpeg -i VIDEO %06d.png) and '
            'predict on these.'
        )
    return content


def _is_of_test(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False  # said by who reads it
    return isinstance(content, dict) and content.get('format') == FORMAT


def _join_tasks(path: Path, content: dict, folder: Path | None) -> dict:
    """Entry i of every task is of the same instance."""
    if 'bbox' not in content['tasks']:
        raise AnnotationError(
            f'{path}: tasks: expected "bbox" among them, found '
            f'{content["tasks"]}. Test again with tasks of the evaluator that '
            'have it.'
        )
    folder = folder or (content['image_folder'] and Path(content['image_folder']))
    ids, names = content['categories']['ids'], content['categories']['names']
    keypoints = [{}] * len(ids)
    if 'keypoints' in content['tasks']:
        sets = content['categories'].get('keypoints') or ([content['keypoints']] * len(ids))
        keypoints = [
            dict(keypoints=own['names'], skeleton=[[a + 1, b + 1] for a, b in own['skeleton']])
            if own['names']
            else {}
            for own in sets
        ]
    images, annotations = [], []
    for image in content['images']:
        width, height = _size(path, image, folder)
        images.append(
            dict(id=image['image_id'], file_name=image['file_name'], width=width, height=height)
        )
        # The box's score is kept, which no other task's ranking is part of.
        tasks = sorted(content['tasks'], key='bbox'.__eq__)
        for entries in zip(*(image[task] for task in tasks)):
            annotations.append(
                {field: value for entry in entries for field, value in entry.items()}
            )
    return dict(
        images=images,
        annotations=annotations,
        categories=[
            dict(id=number, name=name, **own) for number, name, own in zip(ids, names, keypoints)
        ],
    )


def _size(path: Path, image: dict, folder: Path | None) -> tuple[int, int]:
    """Width and height, by a mask of the image or the picture itself."""
    for entry in image.get('segm', ()):
        size = entry['segmentation'].get('size')
        if isinstance(size, list) and len(size) == 2:
            return size[1], size[0]
    if folder:
        fault, _ = inspect_image(str(folder / image['file_name']), 0, 0)
        if fault.size:
            return fault.size
    raise AnnotationError(
        f'{path}: image {image["image_id"]!r:.30}: expected a picture '
        f'{image["file_name"]!r} that tells its size, found none in '
        f'{folder}. Name the folder of the images by --images.'
    )


def to_annotations(content: dict, score: float, visibility: float) -> dict:
    """Keep what is sure enough.

    Args:
        content: From :func:`read`.
        score: Instances below are left out.
        visibility: Keypoints with a score below are not labelled; the others
            get visibility 2.

    Returns:
        A COCO annotation file, not yet mended.
    """
    sizes = {
        image['id']: (image['width'], image['height'])
        for image in content['images']
        if isinstance(image, dict)
        and isinstance(image.get('id'), (int, str))
        and {'width', 'height'} <= set(image)
    }
    annotations = []
    for ann in content.get('annotations', ()):
        if ann['score'] < score:
            continue
        ann = ann | dict(id=len(annotations) + 1, iscrowd=0)
        flat = ann.get('keypoints')
        if isinstance(flat, list) and flat and are_numbers(flat):
            ann['keypoints'] = [
                value
                for x, y, sure in zip(flat[::3], flat[1::3], flat[2::3])
                for value in ((round(x, 2), round(y, 2), 2) if sure >= visibility else (0, 0, 0))
            ]
            ann['num_keypoints'] = sum(value > 0 for value in ann['keypoints'][2::3])
        mask, size = ann.get('segmentation'), sizes.get(ann.get('image_id'))
        if isinstance(mask, dict) and size and not rle_fault(mask, *size):
            ann['area'] = rough_area(mask)
        elif (
            isinstance(ann.get('bbox'), list)
            and len(ann['bbox']) == 4
            and are_numbers(ann['bbox'])
        ):
            ann['area'] = ann['bbox'][2] * ann['bbox'][3]
        annotations.append(ann)
    return dict(
        info=dict(description='Predictions, as a first annotation'),
        images=content['images'],
        annotations=annotations,
        categories=content['categories'],
    )


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('predictions', type=Path, metavar='PREDICTIONS')
    parser.add_argument('out', type=Path, metavar='OUT.json')
    parser.add_argument(
        '--score', type=float, default=0.5, help='leave out instances below (default: %(default)s)'
    )
    parser.add_argument(
        '--visibility',
        type=float,
        default=0.3,
        help='leave keypoints with a score below unlabelled (default: %(default)s)',
    )
    parser.add_argument(
        '--images',
        type=Path,
        metavar='FOLDER',
        help='folder of the images, where nothing else tells their sizes',
    )
    args = parser.parse_args(argv)
    if args.out.exists() or args.out.is_symlink():
        parser.error(f'{args.out} exists already; name a new file')
    if not args.out.parent.is_dir():
        parser.error(f'{args.out}: there is no folder {args.out.parent}')
    return args


def _convert(args: argparse.Namespace) -> None:
    content = read(args.predictions, args.images)
    before = len(content.get('annotations', ()))
    drafted = to_annotations(content, args.score, args.visibility)
    mended, problems = mend(drafted)
    if not mended['images']:
        raise AnnotationError(
            f'{args.predictions}: images: expected at least one, found none '
            f'that is in order' + (f':\n{format_table(problems)}' if problems else '.')
        )
    write_json(args.out, mended)
    if problems:
        print(f'{len(problems)} problems were mended or left out:\n{format_table(problems)}')
    print(
        f'{args.out}: {len(mended["annotations"])} of {before} predictions '
        f'in {len(mended["images"])} images'
    )


def main(argv: list[str] | None = None) -> int:
    """Convert; end by one sentence and status 1 if that is not possible."""
    args = parse_args(argv)
    with explained_errors():
        _convert(args)
    return 0


if __name__ == '__main__':
    sys.exit(main())
