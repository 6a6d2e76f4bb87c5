#!/usr/bin/env python
"""Splits a COCO annotation file without leaking images between the parts.

    python tools/dataset/split_coco.py ANNOTATIONS.json FOLDER --parts train=0.8 val=0.2
    python tools/dataset/split_coco.py ANNOTATIONS.json FOLDER --folds 5

writes FOLDER/train.json and FOLDER/val.json, or FOLDER/fold1_train.json,
FOLDER/fold1_val.json and so on, one pair for each fold. Entries that share a
file name stay together; so do images of the same scene with --group or
--group-prefix. The same seed gives the same split.
"""  # noqa: E501

import argparse
import json
import sys
from pathlib import Path

from multitask_refine.datasets import AnnotationError, read_annotations
from multitask_refine.datasets.splits import assign_groups, group_images, select_images
from multitask_refine.datasets.validation.annotations import write_json
from multitask_refine.utils.errors import explained_errors


def check_links(path: Path, content: dict, field: str | None) -> None:
    """Refuse what cannot be distributed.

    Raises:
        AnnotationError: If the file has no annotations, numbers that are not
            finite, images without ids of their own, annotations of none of
            them, or no image with the field.
    """
    cure = f'Mend the file: tools/dataset/check_coco.py {path} --fix OUT.json'
    if 'annotations' not in content:
        raise AnnotationError(
            f'{path}: annotations: expected a list, found nothing. Name a file with annotations.'
        )
    for name, key in (('images', 'id'), ('annotations', 'image_id')):
        for index, entry in enumerate(content[name]):
            if not isinstance(entry, dict) or type(entry.get(key)) not in (int, str):
                raise AnnotationError(
                    f'{path}: {name}[{index}].{key}: expected an id, found {entry!r:.60}. {cure}'
                )
    try:
        json.dumps(content, allow_nan=False)
    except ValueError:
        raise AnnotationError(
            f'{path}: expected finite numbers, found NaN or infinity, which '
            f'JSON does not have. {cure}'
        ) from None
    ids = [image['id'] for image in content['images']]
    if len(set(ids)) < len(ids):
        raise AnnotationError(f'{path}: images: expected ids that differ, found one twice. {cure}')
    known = set(ids)
    for ann in content['annotations']:
        if ann['image_id'] not in known:
            raise AnnotationError(
                f'{path}: annotation {ann.get("id")!r:.30}: expected the id '
                f'of an image, found image_id {ann["image_id"]!r:.30}. {cure}'
            )
    if field is not None and all(image.get(field) is None for image in content['images']):
        raise AnnotationError(
            f'{path}: images: expected the field {field!r} of --group, found '
            'it in none. Name a field that the images have.'
        )


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('annotations', type=Path, metavar='ANNOTATIONS')
    parser.add_argument('folder', type=Path, metavar='FOLDER', help='where the new files go')
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument(
        '--parts',
        nargs='+',
        metavar='NAME=SHARE',
        help='parts and their shares, such as train=0.8 val=0.2',
    )
    how.add_argument(
        '--folds', type=int, metavar='K', help='K pairs of files for cross-validation'
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='of the random order (default: %(default)s)'
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
        parser.error('--group-prefix: expected a text, got none')
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
        parser.error(
            f'--parts: expected at least two names that differ, got {" ".join(args.parts)}'
        )
    return args


def _split(args: argparse.Namespace) -> None:
    content = read_annotations(str(args.annotations))
    check_links(args.annotations, content, args.group)
    if not content['images']:
        raise AnnotationError(f'{args.annotations}: images: expected at least one, found none.')
    groups = group_images(content['images'], args.group, args.group_prefix)
    shares = list(args.shares.values()) or [1.0] * args.folds
    parts = assign_groups(groups, shares, args.seed)
    if not all(parts):
        raise AnnotationError(
            f'{args.annotations}: images: expected enough for {len(parts)} '
            f'parts, found {len(content["images"])} in {len(groups)} groups '
            'that stay together. Ask for fewer parts, larger shares or '
            'smaller groups.'
        )
    files = dict(zip(args.shares, parts))
    if args.folds:
        everything = set().union(*parts)
        for number, part in enumerate(parts, 1):
            files[f'fold{number}_train'] = everything - part
            files[f'fold{number}_val'] = part
    paths = {name: args.folder / f'{name}.json' for name in files}
    for path in paths.values():
        if path.exists() or path.is_symlink():
            raise AnnotationError(
                f'{path}: expected no such file, found one. Name another '
                'folder, or move it away: nothing is overwritten.'
            )
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, ids in files.items():
        part = select_images(content, ids)
        write_json(paths[name], part)
        print(
            f'{paths[name]}: {len(part["images"])} images, {len(part["annotations"])} annotations'
        )


def main(argv: list[str] | None = None) -> int:
    """Split; end by one sentence and status 1 where that cannot be done."""
    args = parse_args(argv)
    with explained_errors():
        _split(args)
    return 0


if __name__ == '__main__':
    sys.exit(main())
