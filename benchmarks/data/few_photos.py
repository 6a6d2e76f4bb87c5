#!/usr/bin/env python
r"""Fine-tune on few photos, from the pretrained base and from random weights.

    python -m benchmarks.data.few_photos --data FOLDER --json docs/results/few-photos.json

FOLDER (default: the environment variable FEW_PHOTOS_ROOT) has ``images/``,
``person_keypoints_train.json`` and ``person_keypoints_heldout.json``. Every run is configured by
tools/finetune.py with its default settings and trained, and its last checkpoint is tested on the
held-out photos: nothing is chosen on them. From the base, RB+H is also trained on random subsets
of the photos, each contained in the next larger one.

    python -m benchmarks.data.few_photos --data FOLDER --json FILE --folds 3 \
        --cfg-options NAME=VALUE

cross-validates within the training photos, to choose settings. When restarted, both skip
finished runs and resume the others.
"""

import argparse
import hashlib
import json
import os
import random
import sys
import time
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from multitask_refine.datasets import read_annotations
from multitask_refine.datasets.annotation_file import select_images, write_json
from multitask_refine.datasets.splits import assign_groups, group_images
from multitask_refine.datasets.validation.annotations import repair
from multitask_refine.engine import ConfigError, explained_errors, write_record
from multitask_refine.evaluation import TASKS
from multitask_refine.finetune import find_base
from multitask_runtime.utils.files import file_sha256
from tools.ablation import run_tool

TRAIN, TEST = 'person_keypoints_train.json', 'person_keypoints_heldout.json'


class Run(NamedTuple):
    """A fine-tuning.

    Attributes:
        start: ``base`` or ``scratch``.
        variant: Of tools/finetune.py.
        photos: Number of training photos.
        seed: Of the subset and of the training.
        fold: Part of the training photos that is tested on; 0 for the held-out photos.
    """

    start: str
    variant: str
    photos: int
    seed: int
    fold: int = 0


def hash_data(folder: Path) -> str:
    """Hash a dataset.

    Args:
        folder: With images and annotations.

    Returns:
        SHA-256 over the sorted pairs of name and SHA-256 of each file.

    Raises:
        ConfigError: If a part of the dataset is missing.
    """
    for part in ('images', TRAIN, TEST):
        if not (folder / part).exists():
            raise ConfigError(
                f'{folder}: expected images/, {TRAIN} and {TEST}, found no '
                f'{part}. Name the folder by --data or FEW_PHOTOS_ROOT.'
            )
    files = [folder / TRAIN, folder / TEST, *sorted((folder / 'images').iterdir())]
    pairs = sorted((path.name, file_sha256(path)) for path in files)
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def choose_photos(content: dict, photos: int, seed: int) -> dict:
    """Choose a random subset of an annotation file.

    Args:
        content: Of the annotation file.
        photos: Size of the subset. With the same seed, a larger subset contains a smaller one.
        seed: Random seed.
    """
    ids = [image['id'] for image in content['images']]
    random.Random(seed).shuffle(ids)
    return select_images(content, set(ids[:photos]))


def write_annotations(run: Run, args: argparse.Namespace, folder: Path) -> list[Path]:
    """Write the annotation files of a run: ``train.json`` and ``test.json``."""
    content = read_annotations(str(args.data / TRAIN))
    if run.fold:
        groups = group_images(content['images'], None, None)
        folds = assign_groups(groups, [1.0] * args.folds, 0)
        test_ids = folds[run.fold - 1]
        parts = dict(
            train=select_images(content, set().union(*folds) - test_ids),
            # A test refuses annotations with issues, which a training leaves out.
            test=repair(select_images(content, test_ids))[0],
        )
    else:
        parts = dict(
            train=choose_photos(content, run.photos, run.seed),
            test=read_annotations(str(args.data / TEST)),
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        write_json(folder / f'{name}.json', part)
    return [folder / f'{name}.json' for name in parts]


def execute(run: Run, args: argparse.Namespace) -> dict:
    """Train and test a network, unless it has been done before.

    Returns:
        ``metrics`` in percent, and ``seconds`` of training and test, None if interrupted.
    """
    folder = args.work_dir / '_'.join(map(str, run))
    result, metrics = folder / 'result.json', folder / 'metrics.json'
    if result.exists():
        return json.loads(result.read_text())
    start = time.perf_counter()
    log, env, work_dir = folder / 'output.txt', dict(os.environ), folder / 'finetune'
    config, last = work_dir / 'config.py', work_dir / 'train/last_checkpoint'
    is_resumed = last.exists()
    if not config.exists():  # tools/finetune.py overwrites nothing
        train, test = write_annotations(run, args, folder)
        images = str(args.data / 'images')
        options = [f'--val={test}', f'--work-dir={work_dir}', f'--variant={run.variant}']
        options += [f'--seed={run.seed}', '--no-train', *args.options]
        if run.start == 'scratch':
            options.append('--from-scratch')
        elif args.base:
            options.append(f'--base={args.base}')
        # No validation: it would choose a checkpoint on the held-out photos.
        settings = [
            'train_cfg.val_begin=1000000000',
            'default_hooks.checkpoint.interval=100',
            'default_hooks.checkpoint.max_keep_ckpts=1',
            *args.cfg_options,
        ]
        run_tool(log, env, 'finetune.py', images, str(train), *options, '--cfg-options', *settings)
    run_tool(log, env, 'train.py', str(config), *(['--resume'] * is_resumed))
    options = [f'--work-dir={work_dir / "test"}', f'--json={metrics}']
    run_tool(log, env, 'test.py', str(config), last.read_text(), *options)
    content = json.loads(metrics.read_text())
    del content['run']
    seconds = None if is_resumed else round(time.perf_counter() - start, 1)
    write_json(result, dict(metrics=content, seconds=seconds))
    return dict(metrics=content, seconds=seconds)


def summarize(runs: list[dict]) -> dict[str, dict]:
    """Average the AP of each setting over seeds or folds.

    Args:
        runs: With ``setting``, ``metrics`` and ``seconds``.

    Returns:
        By setting: ``runs``, their number; for each task ``mean`` and ``std`` of AP in percent,
        None if it has no labels, ``std`` also of one run; ``seconds`` of the longest run.
    """
    summary = {}
    for setting in dict.fromkeys(run['setting'] for run in runs):
        same = [run for run in runs if run['setting'] == setting]
        seconds = [run['seconds'] for run in same if run['seconds']]
        row = summary[setting] = dict(runs=len(same))
        for task in TASKS:
            found = [run['metrics'].get(f'{task}_AP') for run in same]
            is_labeled = None not in found
            row[task] = dict(
                mean=round(mean(found), 2) if is_labeled else None,
                std=round(stdev(found), 2) if is_labeled and len(found) > 1 else None,
            )
        row['seconds'] = max(seconds, default=None)
    return summary


def list_runs(args: argparse.Namespace) -> list[Run]:
    """List the runs, all of one seed before those of the next."""
    if args.folds:
        return [
            Run(args.start, args.variant, 0, seed, fold)
            for seed in args.seeds
            for fold in range(1, args.folds + 1)
        ]
    count = len(read_annotations(str(args.data / TRAIN))['images'])
    settings = [('base', 'rb-h', count), ('base', 'regular', count), ('scratch', 'rb-h', count)]
    settings += [('base', 'rb-h', photos) for photos in args.curve if photos < count]
    return [Run(*setting, seed) for seed in args.seeds for setting in settings]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--json', required=True, help='results file')
    parser.add_argument(
        '--data',
        type=Path,
        default=os.environ.get('FEW_PHOTOS_ROOT', 'data/few_photos'),
        help='folder of the dataset (default: %(default)s)',
    )
    parser.add_argument('--base', metavar='CHECKPOINT', help='instead of the pretrained base')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/few_photos'),
        help='folder of checkpoints and logs (default: %(default)s)',
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], help='default: 0 1 2')
    parser.add_argument(
        '--curve',
        nargs='*',
        type=int,
        default=[5, 10, 20],
        help='sizes of the subsets (default: 5 10 20)',
    )
    parser.add_argument(
        '--folds', type=int, default=0, help='cross-validate within the training photos instead'
    )
    parser.add_argument(
        '--start', choices=['base', 'scratch'], default='base', help='with --folds'
    )
    parser.add_argument('--variant', default='rb-h', help='with --folds (default: %(default)s)')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], help='settings that override the config'
    )
    parser.add_argument('--iterations', type=int, help='instead of the number by rules')
    parser.add_argument('--long-side', type=int, help='instead of the input size by rules')
    args = parser.parse_args(argv)
    options = dict(iterations=args.iterations, **{'long-side': args.long_side})
    args.options = [f'--{name}={value}' for name, value in options.items() if value is not None]
    args.work_dir, args.data = args.work_dir.resolve(), args.data.resolve()
    return args


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Execute all runs and summarize them."""
    args = parse_args(argv)
    base, _ = find_base(args.base)
    data_sha256 = hash_data(args.data)
    runs = []
    for run in list_runs(args):
        found = execute(run, args)
        size = f'{args.folds} folds' if run.fold else f'{run.photos} photos'
        setting = f'{run.start}, {run.variant}, {size}'
        runs.append(dict(run._asdict(), setting=setting, **found))
        scores = {task: found['metrics'].get(f'{task}_AP') for task in TASKS}
        print(f'{setting}, seed {run.seed}, fold {run.fold}: {scores}', flush=True)
    content = dict(
        data_sha256=data_sha256,
        base=Path(base).name,
        base_sha256=file_sha256(base),
        options=args.options,
        cfg_options=args.cfg_options,
        summary=summarize(runs),
        runs=runs,
    )
    write_record(args.json, content)
    print(f'Results file: {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
