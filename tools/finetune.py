#!/usr/bin/env python
"""Fine-tune the pretrained base on a folder of few photos.

    python tools/finetune.py IMAGES ANNOTATIONS.json --work-dir WORK_DIR --val VAL.json

reads the statistics of the COCO annotations, chooses the settings from them,
writes them as WORK_DIR/config.py, trains, and tests the checkpoint that was best
on VAL.json. The config can be edited and trained by tools/train.py like any
other; --no-train only writes it.
"""  # noqa: E501

import argparse
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from multitask_refine.apis import test, train
from multitask_refine.datasets import AnnotationError, load_meta_file, read_annotations
from multitask_refine.datasets.splits import assign_groups, group_images, select_images
from multitask_refine.datasets.validation.annotations import remove_images, write_json
from multitask_refine.datasets.validation.images import list_missing
from multitask_refine.engine import ConfigError, SettingsAction, explained_errors
from multitask_refine.finetune import (
    COCO_KEYPOINTS,
    VARIANTS,
    Source,
    append_options,
    choose_settings,
    collect_statistics,
    find_base,
    format_config,
    format_meta_file,
    format_tables,
    mend_annotations,
    read_keypoints,
    select_classes,
)


def parse_args(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('images', type=Path, metavar='IMAGES', help='folder of the images')
    parser.add_argument(
        'annotations', type=Path, metavar='ANNOTATIONS', help='COCO annotation file to train on'
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        required=True,
        help='new folder for config, checkpoints and results',
    )
    validation = parser.add_mutually_exclusive_group()
    validation.add_argument(
        '--val', type=Path, metavar='ANNOTATIONS', help='COCO annotation file to validate on'
    )
    validation.add_argument(
        '--hold-out',
        type=float,
        metavar='SHARE',
        help='validate on this share of the images, such as 0.2, and do not train on it',
    )
    parser.add_argument(
        '--val-images',
        type=Path,
        metavar='IMAGES',
        help='folder of the images of --val (default: IMAGES)',
    )
    parser.add_argument(
        '--variant',
        choices=VARIANTS,
        default='rb-h',
        help='refined or regular network (default: %(default)s)',
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        '--base',
        metavar='CHECKPOINT',
        help='start from this checkpoint instead of the pretrained base',
    )
    start.add_argument('--from-scratch', action='store_true', help='start from random weights')
    parser.add_argument('--iterations', type=int, help='instead of the number by the rules')
    parser.add_argument(
        '--long-side',
        type=int,
        metavar='PIXELS',
        help='of the input, instead of that by the rules',
    )
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='categories to train on (default: all that have annotations)',
    )
    parser.add_argument(
        '--metainfo',
        metavar='FILE',
        help="meta file of the keypoints in mmpose's format (default: written from their names)",
    )
    parser.add_argument(
        '--same-keypoints',
        nargs='+',
        default=[],
        metavar='NAME=BASE_NAME',
        help='keypoints that the base names differently, such as head=nose',
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=SettingsAction,
        default={},
        help='settings that override the config',
    )
    parser.add_argument('--no-train', action='store_true', help='only write the config')
    args = parser.parse_args(argv)
    if args.hold_out is not None and not 0 < args.hold_out < 1:
        parser.error(f'--hold-out: expected a share between 0 and 1, got {args.hold_out}')
    for name, least in (('iterations', 2), ('long_side', 32)):
        value = getattr(args, name)
        if value is not None and value < least:
            parser.error(f'--{name.replace("_", "-")}: expected at least {least}, got {value}')
    pairs = [pair.partition('=') for pair in args.same_keypoints]
    if not all(name and base for name, _, base in pairs):
        parser.error(
            f'--same-keypoints: expected NAME=BASE_NAME, got {" ".join(args.same_keypoints)}'
        )
    args.same_keypoints = {name: base for name, _, base in pairs}
    return args


class Keypoints(NamedTuple):
    """Of the training data.

    Attributes:
        names: The K names, empty if nothing is labelled.
        named: Whether the file or a meta file names them.
        meta_file: Its text, or the name of an existing one.
        is_text: Which of the two it is.
    """

    names: List[str]
    named: bool
    meta_file: str
    is_text: bool = False


def find_keypoints(args: argparse.Namespace, content: dict, classes: Tuple[str, ...]) -> Keypoints:
    """Find names and meta file of the keypoints.

    Raises:
        AnnotationError, ConfigError: See :func:`read_keypoints` and
            :func:`load_meta_file`.
    """
    if args.metainfo:
        names = list(load_meta_file(args.metainfo)['keypoint_name2id'])
        path = Path(args.metainfo)
        return Keypoints(names, True, str(path.resolve()) if path.is_file() else args.metainfo)
    names, named = read_keypoints(content, str(args.annotations), classes)
    if names in ([], COCO_KEYPOINTS):
        return Keypoints(names, named, 'coco.py')
    skeleton = next(
        (
            category['skeleton']
            for category in content['categories']
            if category.get('name') in classes and category.get('skeleton')
        ),
        [],
    )
    valid = [
        pair
        for pair in skeleton
        if len(pair) == 2 and all(type(end) is int and 0 < end <= len(names) for end in pair)
    ]
    return Keypoints(names, named, format_meta_file(names, valid), True)


def read_source(
    source: Source,
    classes: Tuple[str, ...],
    keypoints: Keypoints,
    content: dict,
    for_test: bool = False,
) -> dict:
    """Mend annotations; leave out images whose file is missing.

    Raises:
        AnnotationError: If nothing is left.
    """
    content = mend_annotations(
        content,
        str(source.annotations),
        str(source.images),
        classes,
        len(keypoints.names),
        for_test,
    )
    paths = {image['id']: str(source.images / image['file_name']) for image in content['images']}
    missing = list_missing(paths.values())
    if missing.issuperset(paths.values()):
        raise AnnotationError(
            f'{source.images}: expected the images of {source.annotations} '
            f'in this folder, found none of {len(paths)}, such as '
            f'{min(missing)}. Name their folder.'
        )
    if missing and for_test:
        raise AnnotationError(
            f'{source.images}: expected the images of {source.annotations}, '
            f'found {len(paths) - len(missing)} of {len(paths)} without '
            f'{min(missing)}. Copy them there, or take them out of the file: '
            f'tools/dataset/check_coco.py {source.annotations} --images '
            f'{source.images} --fix OUT.json'
        )
    if missing:
        print(
            f'{len(missing)} of {len(paths)} images are missing and left '
            f'out, such as {min(missing)}'
        )
        content = remove_images(content, {key for key, path in paths.items() if path in missing})
    if not any(not ann['iscrowd'] for ann in content['annotations']):
        raise AnnotationError(
            f'{source.annotations}: annotations: expected an instance '
            'in the images that are there, found none.'
        )
    return content


def read_validation(source: Source, classes: Tuple[str, ...], keypoints: Keypoints) -> None:
    """Check that a file can be evaluated with.

    Raises:
        AnnotationError: If it lacks a class, has other keypoints or
            problems that would spoil the evaluation.
    """
    path = str(source.annotations)
    content = read_annotations(path)
    select_classes(content, path, classes)
    names, named = read_keypoints(content, path, classes)
    if (
        names
        and keypoints.names
        and (
            named
            and keypoints.named
            and names != keypoints.names
            or len(names) != len(keypoints.names)
        )
    ):
        raise AnnotationError(
            f'{path}: categories: keypoints: expected those of the training, '
            f'{keypoints.names}, found {names}. Validate on a file with the '
            'same keypoints.'
        )
    read_source(source, classes, keypoints, content, for_test=True)


def hold_out(content: dict, share: float, seed: int, path: Path) -> Tuple[dict, dict]:
    """Split annotations into a part to train on and one to validate on.

    Raises:
        AnnotationError: If one of them would be empty.
    """
    groups = group_images(content['images'], None, None)
    parts = assign_groups(groups, [1 - share, share], seed)
    halves = [select_images(content, part) for part in parts]
    for name, half in zip(('train', 'validate'), halves):
        if not any(not ann['iscrowd'] for ann in half['annotations']):
            raise AnnotationError(
                f'{path}: images: expected enough to {name} on with '
                f'--hold-out {share:g}, found no instance for it in '
                f'{len(content["images"])} images. Annotate more, or leave '
                '--hold-out out.'
            )
    return halves[0], halves[1]


def write_files(files: Dict[Path, object]) -> None:
    """Write new files.

    Raises:
        ConfigError: If one exists.
    """
    for path in files:
        if path.exists():
            raise ConfigError(
                f'{path}: expected no such file, found one. Name another '
                '--work-dir, or train the config that is there by python '
                'tools/train.py: nothing is overwritten.'
            )
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        else:
            write_json(path, content)


def prepare(args: argparse.Namespace) -> Path:
    """Read the data, choose the settings, print both, write the config.

    Returns:
        Path: Of the config.
    """
    folder = args.work_dir.resolve()
    source = Source(args.images.resolve(), args.annotations.resolve())
    content = read_annotations(str(args.annotations))
    classes = select_classes(content, str(args.annotations), args.classes)
    keypoints = find_keypoints(args, content, classes)
    content = read_source(source, classes, keypoints, content)
    config = folder / 'config.py'
    files: Dict[Path, object] = {config: ''}
    validation = None
    if args.val:
        validation = Source((args.val_images or args.images).resolve(), args.val.resolve())
        read_validation(validation, classes, keypoints)
    elif args.hold_out:
        content, held_out = hold_out(content, args.hold_out, args.seed, args.annotations)
        source, validation = (
            Source(source.images, folder / f'{part}.json') for part in ('train', 'val')
        )
        files.update({source.annotations: content, validation.annotations: held_out})
    stats = collect_statistics(content, classes, keypoints.names, keypoints.named)
    base, base_keypoints = find_base(args.base, args.from_scratch)
    settings = choose_settings(
        stats,
        base,
        base_keypoints,
        args.same_keypoints,
        args.variant,
        args.iterations,
        args.long_side,
    )
    print(format_tables(stats, settings), flush=True)
    meta_file = keypoints.meta_file
    if keypoints.is_text:
        meta_file = str(folder / 'keypoints.py')
        files[folder / 'keypoints.py'] = keypoints.meta_file
    files[config] = format_config(
        stats,
        settings,
        source,
        validation,
        folder / 'train',
        meta_file,
        args.same_keypoints,
        args.seed,
    )
    is_new = not folder.exists()
    write_files(files)
    if args.cfg_options:
        try:
            config.write_text(append_options(config, args.cfg_options))
        except ConfigError:
            for path in files:
                path.unlink()
            if is_new:
                folder.rmdir()
            raise
    print(f'\nConfig: {config}', flush=True)
    return config


def run(config: Path, validated: bool) -> None:
    """Train, test on the validation data, and print what to do next."""
    train.main([str(config)])
    folder = config.parent
    checkpoint = Path((folder / 'train/last_checkpoint').read_text())
    if validated:
        best = sorted((folder / 'train').glob('best_*.pth'))
        checkpoint = best[-1] if best else checkpoint
        test.main(
            [
                str(config),
                str(checkpoint),
                '--work-dir',
                str(folder / 'test'),
                '--json',
                str(folder / 'metrics.json'),
            ]
        )
    commands = dict(
        Test=f'tools/test.py {config} {checkpoint} --show-dir {folder / "test/drawn"}',
        Draw=f'demo/image_demo.py PHOTOS {config} {checkpoint} --out-dir {folder / "drawn"}',
        Export=f'tools/deployment/export_onnx.py {config} {checkpoint} {folder / "model.onnx"}',
    )
    print(
        '\n' + '\n'.join(f'{name + ":":8}python {command}' for name, command in commands.items())
    )


@explained_errors()
def main(argv: Optional[List[str]] = None) -> int:
    args = parse_args(argv)
    config = prepare(args)
    if not args.no_train:
        run(config, bool(args.val or args.hold_out))
    return 0


if __name__ == '__main__':
    sys.exit(main())
