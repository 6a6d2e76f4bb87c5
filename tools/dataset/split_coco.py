#!/usr/bin/env python
"""Split a COCO annotation file without leaking images between the parts.

    python tools/dataset/split_coco.py ANNOTATIONS.json FOLDER --parts train=0.8 val=0.2
    python tools/dataset/split_coco.py ANNOTATIONS.json FOLDER --folds 5

writes FOLDER/train.json and FOLDER/val.json, or FOLDER/fold1_train.json, FOLDER/fold1_val.json
and so on, a pair for each fold. Entries of the same file name stay together; so do images of the
same scene with --group or --group-prefix. The same seed gives the same split.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from multitask_refine.datasets import AnnotationError, read_annotations
from multitask_refine.datasets.annotation_file import select_images, write_json
from multitask_refine.datasets.splits import assign_groups, group_images
from multitask_refine.utils.errors import explained_errors


def check_content(path: Path, content: dict, field: str | None) -> None:
    """Check that an annotation file can be split.

    Raises:
        AnnotationError: If it lacks images, annotations or ids, an annotation belongs to no
            image, numbers are not finite, or no image has the group field.
    """
    remedy = f'Repair the file: tools/dataset/check_coco.py {path} --fix OUT.json'
    if 'annotations' not in content:
        raise AnnotationError(
            f'{path}: annotations: expected a list, found nothing. Name a file with annotations.'
        )
    for name, key in (('images', 'id'), ('annotations', 'image_id')):
        for index, entry in enumerate(content[name]):
            if not isinstance(entry, dict) or type(entry.get(key)) not in (int, str):
                raise AnnotationError(
                    f'{path}: {name}[{index}].{key}: expected an id, found {entry!r:.60}. {remedy}'
                )
    try:
        json.dumps(content, allow_nan=False)
    except ValueError:
        raise AnnotationError(
            f'{path}: expected finite numbers, found NaN or infinity, which JSON does not have. '
            f'{remedy}'
        ) from None
    ids = {image['id'] for image in content['images']}
    if len(ids) < len(content['images']):
        raise AnnotationError(f'{path}: images: expected distinct ids, found one twice. {remedy}')
    for ann in content['annotations']:
        if ann['image_id'] not in ids:
            raise AnnotationError(
                f'{path}: annotation {ann.get("id")!r:.30}: expected the id of an image, found '
                f'image_id {ann["image_id"]!r:.30}. {remedy}'
            )
    if field is not None and all(image.get(field) is None for image in content['images']):
        raise AnnotationError(
            f'{path}: images: expected the field {field!r} of --group, found it in none. Name a '
            'field that the images have.'
        )
    if not content['images']:
        raise AnnotationError(f'{path}: images: expected at least one, found none.')


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('annotations', type=Path, metavar='ANNOTATIONS')
    parser.add_argument('folder', type=Path, metavar='FOLDER', help='folder for the new files')
    split = parser.add_mutually_exclusive_group(required=True)
    split.add_argument(
        '--parts',
        nargs='+',
        metavar='NAME=SHARE',
        help='parts and their shares, such as train=0.8 val=0.2',
    )
    split.add_argument(
        '--folds', type=int, metavar='K', help='K pairs of files for cross-validation'
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the random order (default: %(default)s)'
    )
    parser.add_argument(
        '--group',
        metavar='FIELD',
        help='images with the same value of this field, such as video_id, stay together',
    )
    parser.add_argument(
        '--group-prefix',
        metavar='TEXT',
        help='images whose file names are the same up to the '
        'last TEXT, such as _ or /, stay together',
    )
    args = parser.parse_args(argv)
    if args.folds is not None and args.folds < 2:
        parser.error(f'--folds: expected at least 2, got {args.folds}')
    if args.group_prefix == '':
        parser.error('--group-prefix: expected some text, got none')
    args.shares = {}
    for part in args.parts or ():
        name, _, share = part.partition('=')
        try:
            args.shares[name] = float(share)
        except ValueError:
            parser.error(f'--parts: expected NAME=SHARE, got {part!r}')
        if not name or '/' in name or not 0 < args.shares[name] < 1e9:
            parser.error(f'--parts: expected a name without / and a share above 0, got {part!r}')
    if args.parts and (len(args.shares) < len(args.parts) or len(args.shares) < 2):
        parser.error(f'--parts: expected at least two distinct names, got {" ".join(args.parts)}')
    return args


@explained_errors()
def main(argv: Sequence[str] | None = None) -> int:
    """Split a file; return 0."""
    args = parse_args(argv)
    content = read_annotations(str(args.annotations))
    check_content(args.annotations, content, args.group)
    groups = group_images(content['images'], args.group, args.group_prefix)
    shares = list(args.shares.values()) or [1.0] * args.folds
    parts = assign_groups(groups, shares, args.seed)
    if not all(parts):
        raise AnnotationError(
            f'{args.annotations}: images: expected enough for {len(parts)} parts, found '
            f'{len(content["images"])} in {len(groups)} groups that stay together. Ask for fewer '
            'parts, larger shares or smaller groups.'
        )
    files = dict(zip(args.shares, parts))
    if args.folds:
        all_ids = set().union(*parts)
        for number, part in enumerate(parts, 1):
            files[f'fold{number}_train'] = all_ids - part
            files[f'fold{number}_val'] = part
    paths = {name: args.folder / f'{name}.json' for name in files}
    for path in paths.values():
        if path.exists() or path.is_symlink():
            raise AnnotationError(
                f'{path}: expected no such file, found one. Name another folder, or move it away: '
                'nothing is overwritten.'
            )
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, ids in files.items():
        part = select_images(content, ids)
        write_json(paths[name], part)
        print(
            f'{paths[name]}: {len(part["images"])} images, {len(part["annotations"])} annotations'
        )
    return 0


if __name__ == '__main__':
    sys.exit(main())
