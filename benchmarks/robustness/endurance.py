#!/usr/bin/env python
"""Stress test: a long distributed training on dirty data, with an interruption.

    python -m benchmarks.robustness.endurance --json docs/results/performance/endurance.json

Two ranks with two loader workers each train the smallest network on a synthetic dataset with
missing and damaged images and annotations. Half way, the run receives SIGTERM, more images are
damaged, and it is resumed. The memory of every process is sampled. How many images must have
been replaced is counted by loading the same images again, without a network.
"""

import argparse
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack, suppress
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

from benchmarks.robustness.dirty_data import damage_annotations, damage_files
from multitask_refine.engine import load_checkpoint_file, write_record
from multitask_refine.engine.hooks.preemption_hook import EX_TEMPFAIL
from multitask_refine.engine.runner import reproducible_loop
from tools.dataset import make_sample

ROOT = Path(__file__).resolve().parents[2]

CONFIG = 'configs/sample/multitask-rcnn_r26-w16_fpn-ms_rb-h_1xb4-1500_sample.py'
RANKS, WORKERS, BATCH = 2, 2, 2
IMAGE_SIZE = 96
SAMPLING_SECONDS = 2
MIN_SAMPLES = 16  # of a process whose memory is described
SETTINGS = [
    'model.backbone.base_channels=4',
    'model.backbone.stem_channels=4',
    'model.neck.in_channels=[32,64,128]',
    f'train_dataloader.batch_size={BATCH}',
    f'train_dataloader.num_workers={WORKERS}',
    'train_dataloader.persistent_workers=True',
    'train_cfg.val_begin=1000000000',
    'default_hooks.checkpoint.interval=50',
    'default_hooks.logger.interval=50',
    'default_hooks.bad_images.max_share=0.1',
    'randomness.seed=0',
]


class Leg(NamedTuple):
    """A part of the training, from a start to its end or interruption.

    Attributes:
        status: Exit status of the launcher.
        seconds: Wall time.
        memory: Samples of each process, by role and process id: bytes that are its own, in
            memory or swapped out.
    """

    status: int
    seconds: float
    memory: dict[str, list[int]]


def train(folder: Path, work_dir: Path, iterations: int, stop_at: int | None) -> Leg:
    """Run the launcher of distributed training; it receives SIGTERM at iteration ``stop_at``."""
    command = ['bash', 'tools/dist_train.sh', CONFIG, str(RANKS), f'--work-dir={work_dir}']
    command += ['--resume', '--cfg-options', f'train_cfg.max_iters={iterations}', *SETTINGS]
    env = dict(SAMPLE_ROOT=str(folder), OMP_NUM_THREADS='1', PYTHON=sys.executable, PORT='29611')
    log, start = work_dir / 'output.txt', time.monotonic()
    memory: dict[str, list[int]] = defaultdict(list)
    with log.open('a') as out:  # both legs append to it
        launcher = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **env}, stdout=out, stderr=out
        )
        while launcher.poll() is None:
            time.sleep(SAMPLING_SECONDS)
            with suppress(psutil.Error):  # a process has ended
                # The launcher starts torchrun, torchrun the ranks, and a rank its workers.
                for torchrun in psutil.Process(launcher.pid).children():
                    for rank in torchrun.children():
                        for process in (rank, *rank.children()):
                            info = process.memory_full_info()
                            role = 'rank' if process is rank else 'worker'
                            memory[f'{role} {process.pid}'].append(info.uss + info.swap)
            reached = re.findall(r'Iter\(train\) \[ *(\d+)/', log.read_text(errors='replace'))
            if stop_at and reached and int(reached[-1]) >= stop_at:
                launcher.send_signal(signal.SIGTERM)  # as a scheduler's preemption
                stop_at = None
    return Leg(launcher.returncode, time.monotonic() - start, dict(memory))


def describe_memory(memory: dict[str, list[int]]) -> list[dict]:
    """Describe the memory of each process by the medians of the quarters of its life, in MiB.

    The growth is from the third to the last quarter: before, libraries and buffers are still
    being loaded.
    """
    rows = []
    for name, samples in sorted(memory.items()):
        if len(samples) >= MIN_SAMPLES:
            length = len(samples) // 4
            quarters = [
                round(median(samples[i * length : (i + 1) * length]) / 2**20, 1) for i in range(4)
            ]
            growth = round(100 * (quarters[3] / quarters[2] - 1), 2)
            row = dict(process=name.split()[0], samples=len(samples), quarters=quarters)
            rows.append(dict(row, growth_percent=growth))
    return rows


def count_replacements(folder: Path, first: int, last: int) -> int:
    """Load what the ranks load from iteration ``first`` to ``last``, and count replacements."""
    with mock.patch.dict(os.environ, SAMPLE_ROOT=str(folder)):
        settings = Config.fromfile(ROOT / CONFIG).train_dataloader
    settings.update(batch_size=BATCH, num_workers=0, persistent_workers=False)
    total = 0
    for rank in range(RANKS):
        with ExitStack() as stack:
            # The samplers take themselves for those of a rank.
            for module in (reproducible_loop, mmengine.dataset.sampler):
                patch = mock.patch.object(module, 'get_dist_info', lambda rank=rank: (rank, RANKS))
                stack.enter_context(patch)
            loader = Runner.build_dataloader(settings, seed=0)
            loader = reproducible_loop.ReproducibleLoader(loader)
            loader.start_at(first, seed=0)
            batches = itertools.islice(iter(loader.batch_sampler), last - first)
            for visit in itertools.chain.from_iterable(batches):
                sample = loader.dataset[visit]['data_samples']
                total += len(sample.get('replaced_images', ()))
    return total


def run_test(folder: Path, images: int, iterations: int) -> dict:
    """Damage a dataset, train on it in two legs, and count.

    Args:
        folder: For datasets and work dir.
        images: Number of training images.
        iterations: Of both legs together.

    Returns:
        The content of the results file.
    """
    clean, dirty, work_dir = (folder / name for name in ('clean', 'dirty', 'work_dir'))
    if not (clean / 'sample.json').is_file():
        options = [f'--size={IMAGE_SIZE}', f'--train={images}', '--val=8']
        make_sample.main([str(clean), *options])
    # Drawing takes long, so the clean dataset is kept and a copy is damaged.
    shutil.rmtree(dirty, ignore_errors=True)
    shutil.copytree(clean, dirty)
    # One image in a hundred is missing, one damaged; one annotation per 20 images is damaged.
    files, few = dirty / 'train2017', images // 100
    missing = damage_files(files, few, 1, dict(missing=Path.unlink))
    annotations = dirty / 'annotations/person_keypoints_train2017.json'
    damage = dict(
        images=images,
        missing=len(missing),
        annotations=damage_annotations(annotations, images // 20, seed=2),
        files_before=len(damage_files(files, few, seed=3)),
        files_between=few,
    )
    work_dir.mkdir()
    last_checkpoint = work_dir / 'last_checkpoint'
    first = train(dirty, work_dir, iterations, iterations // 2)
    stopped = int(re.search(r'iter_(\d+)', last_checkpoint.read_text())[1])
    expected = count_replacements(dirty, 0, stopped)
    damage_files(files, few, seed=4)
    second = train(dirty, work_dir, iterations, None)
    expected += count_replacements(dirty, stopped, iterations)
    state = load_checkpoint_file(last_checkpoint.read_text().strip(), 'cpu')
    replaced, drawn = state['message_hub']['runtime_info']['bad_images']
    memory = [describe_memory(leg.memory) for leg in (first, second)]
    status = [first.status, second.status]
    growth = [row['growth_percent'] for rows in memory for row in rows]
    return dict(
        ranks=RANKS,
        workers=WORKERS,
        batch=BATCH,
        iterations=iterations,
        stopped_after=stopped,
        damage=damage,
        status=status,
        seconds=[round(leg.seconds, 1) for leg in (first, second)],
        images_drawn=drawn,
        replaced=replaced,
        replaced_expected=expected,
        memory=memory,
        # Both legs ended as they should, all images count, and no process grew by a tenth.
        passed=status == [EX_TEMPFAIL, 0]
        and replaced == expected
        and bool(growth)
        and max(growth) < 10,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the test; return 1 if it does not pass."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--images', type=int, default=3000, help='default: %(default)s')
    parser.add_argument('--iterations', type=int, default=3000, help='default: %(default)s')
    parser.add_argument(
        '--folder',
        type=Path,
        default=ROOT / 'work_dirs/endurance',
        help='folder of datasets and work dir (default: work_dirs/endurance)',
    )
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    folder = args.folder.resolve()
    if (folder / 'work_dir').exists():
        parser.error(f'{folder}/work_dir exists: remove it, or name another --folder')
    torch.set_num_threads(1)
    register_all_modules(init_default_scope=True)
    result = run_test(folder, args.images, args.iterations)
    write_record(args.json, result)
    print(f'Results file: {args.json}; {"passed" if result["passed"] else "NOT passed"}')
    return int(not result['passed'])


if __name__ == '__main__':
    sys.exit(main())
