#!/usr/bin/env python
"""Train for long on dirty data, and look at memory and counts.

    python -m benchmarks.robustness.endurance --json docs/results/performance/endurance.json

Two ranks with two loader workers each train the smallest network on a drawn
sample with missing and damaged images and annotations. Half way the run gets
SIGTERM, more images are damaged while it is stopped, and it is resumed. The
memory of every process is sampled; how many images must have been replaced
is counted by loading the same images again, without a network.
"""

import argparse
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple
from unittest import mock

import mmengine.dataset.sampler
import psutil
import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.runner import Runner

from benchmarks.robustness.dirty_data import (
    copy_sample,
    damage_annotations,
    damage_files,
    remove_files,
)
from multitask_refine.engine import load_checkpoint_file, write_record
from multitask_refine.engine.runner import reproducible_loop
from tools.dataset import make_sample

ROOT = Path(__file__).resolve().parents[2]

CONFIG = 'configs/sample/multitask-rcnn_r26-w16_fpn-ms_rb-h_1xb4-1500_sample.py'
RANKS, WORKERS, BATCH = 2, 2, 2
SIZE = 96
EX_TEMPFAIL = 75
OPTIONS = [
    'model.backbone.base_channels=4',
    'model.backbone.stem_channels=4',
    'model.neck.in_channels=[32,64,128]',
    f'train_dataloader.batch_size={BATCH}',
    f'train_dataloader.num_workers={WORKERS}',
    'train_dataloader.persistent_workers=True',
    'train_cfg.val_interval=1000000',
    'default_hooks.checkpoint.interval=50',
    'default_hooks.logger.interval=50',
    'default_hooks.bad_images.max_share=0.1',
    'randomness.seed=0',
]


class Damage(NamedTuple):
    """What was done to the data, by counts."""

    images: int
    missing: int
    annotations: dict[str, int]
    files_before: int
    files_between: int


class Leg(NamedTuple):
    """One start of the training, until it ended or was stopped.

    Attributes:
        status: Exit status of the launcher.
        seconds: Wall time.
        memory: Of each process its role and (seconds, bytes) again and
            again; bytes that are its own, in memory and swapped out.
    """

    status: int
    seconds: float
    memory: dict[str, list[tuple]]


def draw(folder: Path, images: int) -> None:
    """Draw the sample once; it is copied before it is damaged."""
    if not (folder / 'sample.json').is_file():
        make_sample.main([str(folder), '--size', str(SIZE), '--train', str(images), '--val', '8'])


def soil(folder: Path, images: int) -> Damage:
    """Damage a fresh copy in all ways but the later one."""
    train = folder / 'train2017'
    missing = remove_files(train, images // 100, seed=1)
    faults = damage_annotations(
        folder / 'annotations/person_keypoints_train2017.json', images // 20, seed=2
    )
    damaged = damage_files(train, images // 100, seed=3)
    return Damage(images, len(missing), faults, len(damaged), images // 100)


def train(folder: Path, work_dir: Path, iterations: int, stop_at: int | None) -> Leg:
    """Run the launcher; with ``stop_at`` it gets SIGTERM at this iteration."""
    command = [
        'bash',
        'tools/dist_train.sh',
        CONFIG,
        str(RANKS),
        '--work-dir',
        str(work_dir),
        '--resume',
        '--cfg-options',
        f'train_cfg.max_iters={iterations}',
        *OPTIONS,
    ]
    env = dict(
        os.environ,
        SAMPLE_ROOT=str(folder),
        OMP_NUM_THREADS='1',
        PYTHON=sys.executable,
        PORT='29611',
    )
    start = time.monotonic()
    memory = defaultdict(list)
    with (work_dir / 'output.txt').open('a') as log:
        launcher = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
        while launcher.poll() is None:
            time.sleep(2)
            _sample_memory(launcher.pid, time.monotonic() - start, memory)
            if stop_at and _reached(work_dir) >= stop_at:
                launcher.send_signal(signal.SIGTERM)
                stop_at = None
    return Leg(launcher.returncode, time.monotonic() - start, dict(memory))


def _reached(work_dir: Path) -> int:
    found = re.findall(
        r'Iter\(train\) \[ *(\d+)/', (work_dir / 'output.txt').read_text(errors='replace')
    )
    return int(found[-1]) if found else 0


def _sample_memory(launcher: int, now: float, memory: dict) -> None:
    """The launcher starts torchrun, that the ranks, and these the workers."""
    for torchrun in _children(launcher):
        for rank in _children(torchrun.pid):
            _note('rank', rank, now, memory)
            for worker in _children(rank.pid):
                _note('worker', worker, now, memory)


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.Error:  # it has ended
        return []


def _note(role: str, process: psutil.Process, now: float, memory: dict) -> None:
    try:
        info = process.memory_full_info()
    except psutil.Error:
        return
    # What the system has put aside is the process's, too.
    memory[f'{role} {process.pid}'].append((now, info.uss + info.swap))


def describe_memory(memory: dict[str, list[tuple]]) -> list[dict]:
    """Mebibytes of each process in the quarters of its life, and its growth.

    The figures are the quarters' medians. Growth is from the third to the
    last: before, libraries and buffers are still being loaded.
    """
    rows = []
    for name, samples in sorted(memory.items()):
        if len(samples) < 16:
            continue
        used = [size / 2**20 for _, size in samples]
        length = len(used) // 4
        quarters = [round(median(used[i * length : (i + 1) * length]), 1) for i in range(4)]
        rows.append(
            dict(
                process=name.split()[0],
                samples=len(used),
                quarters=quarters,
                growth_percent=round(100 * (quarters[3] / quarters[2] - 1), 2),
            )
        )
    return rows


def expected_replacements(folder: Path, first: int, last: int) -> int:
    """Load what the ranks drew from iteration ``first`` to ``last``."""
    total = 0
    for rank in range(RANKS):
        with _as_rank(rank):
            loader = _train_loader(folder)
            loader.start_at(first, seed=0)
            batches = itertools.islice(iter(loader.batch_sampler), last - first)
            for visit in itertools.chain.from_iterable(batches):
                sample = loader.dataset[visit]['data_samples']
                total += len(sample.get('replaced_images', ()))
    return total


@contextmanager
def _as_rank(rank: int) -> Iterator[None]:
    """Samplers that ask are told that they are one of several ranks."""
    with ExitStack() as stack:
        for module in (reproducible_loop, mmengine.dataset.sampler):
            stack.enter_context(mock.patch.object(module, 'get_dist_info', lambda: (rank, RANKS)))
        yield


def _train_loader(folder: Path) -> reproducible_loop.ReproducibleLoader:
    with mock.patch.dict(os.environ, SAMPLE_ROOT=str(folder)):
        settings = Config.fromfile(str(ROOT / CONFIG)).train_dataloader
    settings.update(batch_size=BATCH, num_workers=0, persistent_workers=False)
    return reproducible_loop.ReproducibleLoader(Runner.build_dataloader(settings, seed=0))


def counted_replacements(work_dir: Path) -> list[int]:
    """Images replaced and drawn, as the newest checkpoint says."""
    newest = Path((work_dir / 'last_checkpoint').read_text().strip())
    state = load_checkpoint_file(str(newest), 'cpu')
    return list(state['message_hub']['runtime_info']['bad_images'])


def endure(args: argparse.Namespace) -> dict:
    """Both legs of the run, and what came out."""
    folder, work_dir = args.folder / 'dirty', args.folder / 'work_dir'
    draw(args.folder / 'clean', args.images)
    copy_sample(args.folder / 'clean', folder)
    damage = soil(folder, args.images)
    work_dir.mkdir()
    half = args.iterations // 2
    first = train(folder, work_dir, args.iterations, half)
    stopped = _reached_checkpoint(work_dir)
    before = expected_replacements(folder, 0, stopped)
    damage_files(folder / 'train2017', damage.files_between, seed=4)
    second = train(folder, work_dir, args.iterations, None)
    after = expected_replacements(folder, stopped, args.iterations)
    counted, drawn = counted_replacements(work_dir)
    return dict(
        ranks=RANKS,
        workers=WORKERS,
        batch=BATCH,
        iterations=args.iterations,
        stopped_after=stopped,
        damage=damage._asdict(),
        status=[first.status, second.status],
        seconds=[round(leg.seconds, 1) for leg in (first, second)],
        images_drawn=drawn,
        replaced=counted,
        replaced_expected=before + after,
        memory=[describe_memory(leg.memory) for leg in (first, second)],
    )


def _reached_checkpoint(work_dir: Path) -> int:
    name = (work_dir / 'last_checkpoint').read_text().strip()
    return int(re.search(r'iter_(\d+)', name)[1])


def passed(result: dict) -> bool:
    """No hang, all counted, and no process grew by a tenth."""
    growth = [row['growth_percent'] for leg in result['memory'] for row in leg]
    return (
        result['status'] == [EX_TEMPFAIL, 0]
        and result['replaced'] == result['replaced_expected']
        and bool(growth)
        and max(growth) < 10
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--images', type=int, default=3000)
    parser.add_argument('--iterations', type=int, default=3000)
    parser.add_argument(
        '--folder',
        type=Path,
        default=ROOT / 'work_dirs/endurance',
        help='for the data and the work dir',
    )
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    args.folder = args.folder.resolve()
    if (args.folder / 'work_dir').exists():
        parser.error(
            f'{args.folder}/work_dir is there already: remove it, or name another --folder'
        )
    torch.set_num_threads(1)
    register_all_modules(init_default_scope=True)
    result = endure(args)
    write_record(args.json, dict(result, passed=passed(result)))
    print(f'{args.json}: {"passed" if passed(result) else "NOT passed"}')
    return int(not passed(result))


if __name__ == '__main__':
    sys.exit(main())
