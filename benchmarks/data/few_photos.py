#!/usr/bin/env python
"""Fine-tune on few photos: from the pretrained base and from random weights.

    python -m benchmarks.data.few_photos --data FOLDER --json docs/results/few-photos.json

FOLDER (or the environment variable FEW_PHOTOS_ROOT) has ``images/``,
``person_keypoints_train.json`` and ``person_keypoints_heldout.json``. Every run
is set up by tools/finetune.py with the rules' own settings, trained, and its last
checkpoint is tested on the held-out photos: nothing is chosen by them. The
base with RB+H is also trained on random subsets of the photos, each a part of
the next larger one.

    python -m benchmarks.data.few_photos --data FOLDER --json FILE --folds 3 --cfg-options NAME=VALUE

is for choosing settings: cross-validation inside the training photos. Stopped
and started again, both go on where they were.
"""  # noqa: E501

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
from multitask_refine.engine import ConfigError, explained_errors, write_record
from multitask_refine.evaluation.predictions import file_sha256
from multitask_refine.finetune import find_base
from tools.ablation import run_tool

TASKS = ('bbox', 'segm', 'keypoints')
TRAIN, TEST = 'person_keypoints_train.json', 'person_keypoints_heldout.json'


class Run(NamedTuple):
    """One fine-tuning.

    Attributes:
        start: 'base' or 'scratch'.
        variant: As of tools/finetune.py.
        photos: Number of photos to train on.
        seed: Of the subset and of the training.
        fold: Which part of the training photos is tested on; 0 for the
            held-out photos.
    """

    start: str
    variant: str
    photos: int
    seed: int
    fold: int = 0

    @property
    def setting(self) -> str:
        return f'{self.start}, {self.variant}, {self.photos} photos'

    @property
    def name(self) -> str:
        return '_'.join(map(str, self))


def hash_data(folder: Path) -> str:
    """Hash names and contents of annotations and images.

    Args:
        folder (Path): Of the data set.

    Returns:
        str: SHA-256 over the sorted pairs of name and SHA-256 of each file.

    Raises:
        ConfigError: If a part of it is missing.
    """
    for part in ('images', TRAIN, TEST):
        if not (folder / part).exists():
            raise ConfigError(
                f'{folder}: expected images/, {TRAIN} and {TEST}, found no '
                f'{part}. Name the folder by --data or FEW_PHOTOS_ROOT.'
            )
    files = [folder / TRAIN, folder / TEST, *sorted((folder / 'images').iterdir())]
    pairs = sorted((path.name, file_sha256(str(path))) for path in files)
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def choose_photos(content: dict, photos: int, seed: int) -> dict:
    """Choose a random subset, which a larger one of the same seed contains.

    Args:
        content (dict): Of an annotation file.
        photos (int): Size of the subset.
        seed (int): Another one chooses others.
    """
    ids = [image['id'] for image in content['images']]
    random.Random(seed).shuffle(ids)
    return select_images(content, set(ids[:photos]))


def write_parts(run: Run, args: argparse.Namespace, folder: Path) -> list[Path]:
    """Write what a run trains on and what it is tested on.

    Returns:
        list[Path]: Two annotation files.
    """
    content = read_annotations(str(args.data / TRAIN))
    if run.fold:
        groups = group_images(content['images'], None, None)
        parts = assign_groups(groups, [1.0] * args.folds, 0)
        tested = parts[run.fold - 1]
        parts = [
            select_images(content, set().union(*parts) - tested),
            select_images(content, tested),
        ]
    else:
        parts = [
            choose_photos(content, run.photos, run.seed),
            read_annotations(str(args.data / TEST)),
        ]
    files = [folder / 'train.json', folder / 'test.json']
    folder.mkdir(parents=True, exist_ok=True)
    for file, part in zip(files, parts, strict=True):
        write_json(file, part)
    return files


def execute(run: Run, args: argparse.Namespace) -> dict:
    """Train and test one network, unless that has been done.

    Returns:
        dict: Metrics in percent, and ``seconds`` that training and test
        took, None if they were interrupted.
    """
    folder = args.work_dir / run.name
    result, log = folder / 'result.json', folder / 'output.txt'
    if result.exists():
        return json.loads(result.read_text())
    start = time.perf_counter()
    tuning, env = folder / 'finetune', dict(os.environ)
    config, last = tuning / 'config.py', tuning / 'train/last_checkpoint'
    resumed = last.exists()
    if not config.exists():
        train, test = write_parts(run, args, folder)
        how = (
            ['--from-scratch']
            if run.start == 'scratch'
            else (['--base', args.base] if args.base else [])
        )
        run_tool(
            log,
            env,
            'finetune.py',
            str(args.data / 'images'),
            str(train),
            '--val',
            str(test),
            '--work-dir',
            str(tuning),
            '--variant',
            run.variant,
            '--seed',
            str(run.seed),
            '--no-train',
            *how,
            *args.options,
            '--cfg-options',
            'train_cfg.val_interval=1000000',
            'default_hooks.checkpoint.interval=100',
            'default_hooks.checkpoint.max_keep_ckpts=1',
            *args.cfg_options,
        )
    run_tool(log, env, 'train.py', str(config), *(['--resume'] * resumed))
    run_tool(
        log,
        env,
        'test.py',
        str(config),
        last.read_text(),
        '--work-dir',
        str(tuning / 'test'),
        '--json',
        str(folder / 'metrics.json'),
    )
    metrics = json.loads((folder / 'metrics.json').read_text())
    metrics.pop('run')
    seconds = time.perf_counter() - start
    write_json(result, dict(metrics=metrics, seconds=None if resumed else round(seconds, 1)))
    return json.loads(result.read_text())


def summarize(runs: list[dict]) -> dict[str, dict]:
    """Average AP over seeds or folds, by setting, in percent.

    Args:
        runs (list[dict]): With ``setting``, ``metrics`` and ``seconds``.

    Returns:
        dict[str, dict]: By setting: ``runs``, and for each task ``mean`` and
        ``std`` (None of one run) of AP, None if it has no labels;
        ``seconds`` of the longest run.
    """
    summary = {}
    for setting in dict.fromkeys(run['setting'] for run in runs):
        same = [run for run in runs if run['setting'] == setting]
        summary[setting] = dict(runs=len(same))
        for task in TASKS:
            found = [run['metrics'].get(f'{task}_AP') for run in same]
            known = None not in found  # a task that is labeled
            summary[setting][task] = dict(
                mean=round(mean(found), 2) if known else None,
                std=round(stdev(found), 2) if known and len(found) > 1 else None,
            )
        summary[setting]['seconds'] = max(
            (run['seconds'] for run in same if run['seconds']), default=None
        )
    return summary


def list_runs(args: argparse.Namespace) -> list[Run]:
    """List the runs, all of one seed before the next."""
    if args.folds:
        return [
            Run(args.start, args.variant, 0, seed, fold)
            for seed in args.seeds
            for fold in range(1, args.folds + 1)
        ]
    images = read_annotations(str(args.data / TRAIN))['images']
    settings = [
        ('base', 'rb-h', len(images)),
        ('base', 'regular', len(images)),
        ('scratch', 'rb-h', len(images)),
    ]
    settings += [('base', 'rb-h', photos) for photos in args.curve if photos < len(images)]
    return [Run(*setting, seed) for seed in args.seeds for setting in settings]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--json', required=True, help='results file')
    parser.add_argument(
        '--data',
        type=Path,
        default=os.environ.get('FEW_PHOTOS_ROOT', 'data/few_photos'),
        help='folder of the data set (default: %(default)s)',
    )
    parser.add_argument('--base', metavar='CHECKPOINT', help='instead of the pretrained base')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/few_photos'),
        help='folder of checkpoints and logs',
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument(
        '--curve', nargs='*', type=int, default=[5, 10, 20], help='numbers of photos to train on'
    )
    parser.add_argument(
        '--folds', type=int, default=0, help='cross-validate in the training photos instead'
    )
    parser.add_argument(
        '--start', choices=['base', 'scratch'], default='base', help='with --folds'
    )
    parser.add_argument('--variant', default='rb-h', help='with --folds')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], help='settings that override those of the rules'
    )
    for name in ('iterations', 'long-side'):
        parser.add_argument(f'--{name}', type=int, help='instead of that by the rules')
    args = parser.parse_args(argv)
    args.options = [
        f'--{name}={value}'
        for name, value in (('iterations', args.iterations), ('long-side', args.long_side))
        if value is not None
    ]
    args.work_dir, args.data = args.work_dir.resolve(), args.data.resolve()
    return args


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    base, _ = find_base(args.base)
    data_sha256 = hash_data(args.data)
    runs = []
    for run in list_runs(args):
        found = execute(run, args)
        setting = (
            run.setting if not run.fold else (f'{run.start}, {run.variant}, {args.folds} folds')
        )
        runs.append(dict(run._asdict(), setting=setting, **found))
        print(
            run.name,
            {task: found['metrics'].get(f'{task}_AP') for task in TASKS},
            found['seconds'],
            's',
            flush=True,
        )
    write_record(
        args.json,
        dict(
            data_sha256=data_sha256,
            base=Path(base).name,
            base_sha256=file_sha256(base),
            options=args.options,
            cfg_options=args.cfg_options,
            summary=summarize(runs),
            runs=runs,
        ),
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
