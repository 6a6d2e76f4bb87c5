#!/usr/bin/env python
"""Fine-tune the pretrained base on a few images.

    python tools/finetune.py IMAGES ANNOTATIONS.json --work-dir WORK_DIR --val VAL.json

collects statistics of the COCO annotations, chooses the settings by rules, writes them to
WORK_DIR/config.py, trains, and tests the best checkpoint on VAL.json. The config can be edited,
and trained by tools/train.py like any other; --no-train only writes it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from multitask_refine.apis.test import evaluate_model
from multitask_refine.apis.train import train_model
from multitask_refine.datasets import load_meta_file, read_annotations
from multitask_refine.datasets.annotation_file import write_json
from multitask_refine.engine import ConfigError, SettingsAction, explained_errors
from multitask_refine.finetune import (
    COCO_KEYPOINTS,
    VARIANTS,
    Keypoints,
    Source,
    append_options,
    check_validation,
    choose_settings,
    collect_statistics,
    find_base,
    format_config,
    format_meta_file,
    format_tables,
    hold_out,
    read_keypoints,
    repair_source,
    select_classes,
)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
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
        metavar='FRACTION',
        help='validate on this fraction of the images, such as 0.2, and do not train on it',
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
    parser.add_argument(
        '--iterations', type=int, help='number of iterations (default: chosen by rules)'
    )
    parser.add_argument(
        '--long-side',
        type=int,
        metavar='PIXELS',
        help='longer side of the input (default: chosen by rules)',
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
        help='names in the base of keypoints that it names differently, such as head=nose',
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
        parser.error(f'--hold-out: expected a fraction between 0 and 1, got {args.hold_out}')
    for name, minimum in (('iterations', 2), ('long_side', 32)):
        value = getattr(args, name)
        if value is not None and value < minimum:
            parser.error(f'--{name.replace("_", "-")}: expected at least {minimum}, got {value}')
    pairs = [pair.partition('=') for pair in args.same_keypoints]
    if not all(name and base for name, _, base in pairs):
        parser.error(
            f'--same-keypoints: expected NAME=BASE_NAME, got {" ".join(args.same_keypoints)}'
        )
    args.same_keypoints = {name: base for name, _, base in pairs}
    return args


def find_keypoints(
    args: argparse.Namespace, content: dict, classes: Sequence[str]
) -> tuple[Keypoints, str, str | None]:
    """Find the keypoints of the training data and their meta file.

    Returns:
        Keypoints, the name of an existing meta file, and otherwise the text of a new one.

    Raises:
        AnnotationError: If the annotations do not name their keypoints.
        ConfigError: If the meta file is inconsistent.
    """
    if args.metainfo:
        keypoints = Keypoints(list(load_meta_file(args.metainfo)['keypoint_name2id']), True)
        path = Path(args.metainfo)
        return keypoints, str(path.resolve()) if path.is_file() else args.metainfo, None
    keypoints = read_keypoints(content, str(args.annotations), classes)
    if keypoints.names in ([], COCO_KEYPOINTS):
        return keypoints, 'coco.py', None
    skeletons = [
        category['skeleton']
        for category in content['categories']
        if category.get('name') in classes and category.get('skeleton')
    ]
    count = len(keypoints.names)
    links = [
        link
        for link in (skeletons[0] if skeletons else [])
        if len(link) == 2 and all(type(end) is int and 0 < end <= count for end in link)
    ]
    return keypoints, '', format_meta_file(keypoints.names, links)


def prepare(args: argparse.Namespace) -> Path:
    """Check the data, choose and print the settings, and write the config.

    Returns:
        Path of the config.

    Raises:
        AnnotationError: If the data cannot be used.
        ConfigError: If an option or the base is invalid, or a file exists.
    """
    folder = args.work_dir.resolve()
    config = folder / 'config.py'
    source, validation = Source(args.images.resolve(), args.annotations.resolve()), None
    content = read_annotations(str(args.annotations))
    classes = select_classes(content, str(args.annotations), args.classes)
    keypoints, meta_file, meta_text = find_keypoints(args, content, classes)
    content = repair_source(source, content, classes, len(keypoints.names))
    files: dict[Path, object] = {config: ''}
    if args.val:
        validation = Source((args.val_images or args.images).resolve(), args.val.resolve())
        check_validation(validation, classes, keypoints)
    elif args.hold_out:
        content, held_out = hold_out(content, args.hold_out, args.seed, args.annotations)
        source, validation = (
            Source(source.images, folder / f'{part}.json') for part in ('train', 'val')
        )
        files |= {source.annotations: content, validation.annotations: held_out}
    if meta_text:
        meta_file = str(folder / 'keypoints.py')
        files[folder / 'keypoints.py'] = meta_text

    stats = collect_statistics(content, classes, keypoints)
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
    for path in files:
        if path.exists():
            raise ConfigError(
                f'{path}: expected no such file, found one. Name another --work-dir, or train '
                'the config that is there by python tools/train.py: nothing is overwritten.'
            )
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    for path, file_content in files.items():
        if isinstance(file_content, str):
            path.write_text(file_content)
        else:
            write_json(path, file_content)
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
    """Train, test on the validation data, and print further commands."""
    train_model(str(config))
    folder = config.parent
    checkpoint = Path((folder / 'train/last_checkpoint').read_text())
    if validated:
        best = sorted((folder / 'train').glob('best_*.pth'))
        checkpoint = best[-1] if best else checkpoint
        evaluate_model(
            str(config),
            str(checkpoint),
            work_dir=str(folder / 'test'),
            results_file=str(folder / 'metrics.json'),
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
def main(argv: Sequence[str] | None = None) -> int:
    """Write the config and, unless --no-train, train and test it; return 0."""
    args = parse_args(argv)
    config = prepare(args)
    if not args.no_train:
        run(config, bool(args.val or args.hold_out))
    return 0


if __name__ == '__main__':
    sys.exit(main())
