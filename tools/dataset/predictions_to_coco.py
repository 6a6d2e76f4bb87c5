#!/usr/bin/env python
"""Convert predictions into draft annotations, to be corrected by hand.

    python tools/dataset/predictions_to_coco.py PREDICTIONS.json OUT.json

PREDICTIONS.json is written by tools/test.py --predictions, or is the predictions.json of the
demos. Instances and keypoints are kept by score thresholds. What breaks a rule of
tools/dataset/check_coco.py is repaired or left out, and listed.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from multitask_refine.datasets import AnnotationError, read_annotations, repair
from multitask_refine.datasets.annotation_file import write_json
from multitask_refine.datasets.validation.images import check_image
from multitask_refine.datasets.validation.issues import format_issues
from multitask_refine.datasets.validation.masks import (
    approximate_area,
    are_finite_numbers,
    find_rle_error,
)
from multitask_refine.evaluation import read_predictions
from multitask_refine.evaluation.predictions import FORMAT
from multitask_refine.utils.errors import explained_errors


def load_predictions(path: Path, images: Path | None) -> dict:
    """Load predictions of either format as a COCO file with scores.

    Args:
        path: Predictions of tools/test.py or of the demos.
        images: Folder of the images, None for the one that the file names.

    Returns:
        Content with 'images', 'categories' and 'annotations', whose keypoints have a score in
        place of the visibility.

    Raises:
        AnnotationError: If it is no file of predictions, or the size of an image is unknown.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        content = None  # reported by read_annotations
    if isinstance(content, dict) and content.get('format') == FORMAT:
        return _join_tasks(path, read_predictions(str(path)), images)
    content = read_annotations(str(path))
    for index, ann in enumerate(content.get('annotations', ())):
        if not isinstance(ann, dict) or not are_finite_numbers([ann.get('score')]):
            found = ann.get('score') if isinstance(ann, dict) else ann
            raise AnnotationError(
                f'{path}: annotations[{index}].score: expected a number, found {found!r:.60}. '
                'Name a file of predictions.'
            )
    if any(isinstance(image, dict) and 'frame' in image for image in content['images']):
        raise AnnotationError(
            f'{path}: images: expected images, found frames of a video. Write the frames as '
            'images (ffmpeg -i VIDEO %06d.png) and predict on these.'
        )
    return content


def _join_tasks(path: Path, content: dict, images: Path | None) -> dict:
    """Merge entry i of all tasks, which are of the same instance."""
    if 'bbox' not in content['tasks']:
        raise AnnotationError(
            f'{path}: tasks: expected "bbox" among them, found {content["tasks"]}. Test again '
            'with tasks of the evaluator that have it.'
        )
    images = images or (content['image_folder'] and Path(content['image_folder']))
    ids, names = content['categories']['ids'], content['categories']['names']
    categories = [dict(id=number, name=name) for number, name in zip(ids, names, strict=False)]
    if 'keypoints' in content['tasks']:
        metas = content['categories'].get('keypoints') or [content['keypoints']] * len(ids)
        for category, meta in zip(categories, metas, strict=False):
            if meta['names']:
                skeleton = [[start + 1, end + 1] for start, end in meta['skeleton']]
                category.update(keypoints=meta['names'], skeleton=skeleton)
    entries, annotations = [], []
    # Boxes come last: the score of an instance is that of its box.
    tasks = sorted(content['tasks'], key='bbox'.__eq__)
    for image in content['images']:
        # Any mask tells the size of the image; otherwise the image itself.
        sizes = [entry['segmentation'].get('size') for entry in image.get('segm', ())]
        sizes = [each[::-1] for each in sizes if isinstance(each, list) and len(each) == 2]
        if not sizes and images:
            issue, _ = check_image(str(images / image['file_name']), 0, 0)
            if issue.change:
                sizes = [(issue.change['width'], issue.change['height'])]
        if not sizes:
            raise AnnotationError(
                f'{path}: image {image["image_id"]!r:.30}: expected an image '
                f'{image["file_name"]!r} to take its size from, found none in {images}. Name the '
                'folder of the images by --images.'
            )
        width, height = sizes[0]
        entries.append(
            dict(id=image['image_id'], file_name=image['file_name'], width=width, height=height)
        )
        for parts in zip(*(image[task] for task in tasks), strict=False):
            annotations.append({field: value for part in parts for field, value in part.items()})
    return dict(images=entries, annotations=annotations, categories=categories)


def to_annotations(content: dict, score_thr: float, keypoint_thr: float) -> dict:
    """Convert predictions with sufficient scores into annotations.

    Args:
        content: From :func:`load_predictions`.
        score_thr: Minimal score of an instance.
        keypoint_thr: Minimal score of a keypoint; it gets visibility 2, others are unlabeled.

    Returns:
        Content of a COCO annotation file, not yet checked.
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
        if ann['score'] < score_thr:
            continue
        ann = ann | dict(id=len(annotations) + 1, iscrowd=0)
        flat = ann.get('keypoints')
        if isinstance(flat, list) and flat and are_finite_numbers(flat):
            ann['keypoints'] = keypoints = []
            for x, y, score in zip(flat[::3], flat[1::3], flat[2::3], strict=False):
                keypoints += [round(x, 2), round(y, 2), 2] if score >= keypoint_thr else [0, 0, 0]
            ann['num_keypoints'] = sum(visibility > 0 for visibility in keypoints[2::3])
        mask, box, size = ann.get('segmentation'), ann.get('bbox'), sizes.get(ann.get('image_id'))
        if isinstance(mask, dict) and size and not find_rle_error(mask, *size):
            ann['area'] = approximate_area(mask)
        elif isinstance(box, list) and len(box) == 4 and are_finite_numbers(box):
            ann['area'] = box[2] * box[3]
        annotations.append(ann)
    return dict(
        info=dict(description='Draft annotations from predictions'),
        images=content['images'],
        annotations=annotations,
        categories=content['categories'],
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('predictions', type=Path, metavar='PREDICTIONS')
    parser.add_argument('out', type=Path, metavar='OUT.json')
    parser.add_argument(
        '--score',
        type=float,
        default=0.5,
        help='minimal score of an instance (default: %(default)s)',
    )
    parser.add_argument(
        '--visibility',
        type=float,
        default=0.3,
        help='minimal score of a keypoint to be labeled (default: %(default)s)',
    )
    parser.add_argument(
        '--images',
        type=Path,
        metavar='FOLDER',
        help='folder of the images, if the predictions do not give their sizes',
    )
    args = parser.parse_args(argv)
    if args.out.exists() or args.out.is_symlink():
        parser.error(f'{args.out} exists already; name a new file')
    if not args.out.parent.is_dir():
        parser.error(f'{args.out}: there is no folder {args.out.parent}')
    return args


@explained_errors()
def main(argv: Sequence[str] | None = None) -> int:
    """Convert a file of predictions; return 0."""
    args = parse_args(argv)
    content = load_predictions(args.predictions, args.images)
    draft = to_annotations(content, args.score, args.visibility)
    repaired, issues = repair(draft)
    if not repaired['images']:
        table = f':\n{format_issues(issues)}' if issues else '.'
        raise AnnotationError(
            f'{args.predictions}: images: expected at least one valid entry, found none{table}'
        )
    write_json(args.out, repaired)
    if issues:
        print(f'{len(issues)} issues were repaired or left out:\n{format_issues(issues)}')
    print(
        f'{args.out}: {len(repaired["annotations"])} of {len(content.get("annotations", ()))} '
        f'predictions in {len(repaired["images"])} images'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
