#!/usr/bin/env python
"""Does refinement help? Small-scale runs of the report's variants.

Draws a sample of people, trains every variant on it with several seeds, tests
each, and leaves one results file a run and the tables of all. Stopped and
started again, it goes on where it was: finished runs are skipped, a
half-trained one is resumed.

On a CPU the variants are those of the 26-layer network; where there is CUDA
they are those of ResNet-50, trained longer on a larger sample.
"""
import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import List, NamedTuple, Optional

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from projects.multitask_refine.errors import explained_errors  # noqa: E402
from tools.analysis_tools import ablation_tables  # noqa: E402

VARIANTS = ('fpn-ms_regular', 'fpn-ms_rb', 'fpn-ms_rb-h', 'fpn-ms_rb-h-kps',
            'fpn-ss_rb-h', 'fpn-ms_rb-h-no-offset',
            'fpn-ms_rb-h-slow-offset')


class Scale(NamedTuple):
    """What is trained on what."""
    config: str  # with a place for the variant
    sample: str
    size: int
    train: int
    val: int


CPU = Scale('multitask-rcnn_r26-w16_{}_1xb4-1500_sample', 'data/ablation', 192,
            1000, 300)
CUDA = Scale('multitask-rcnn_r50_{}_1xb16-6k_sample', 'data/ablation-large',
             384, 4000, 500)


class Run(NamedTuple):
    """One training with its test."""
    config: str
    seed: int

    @property
    def name(self) -> str:
        return f'{self.config}_seed{self.seed}'


def parse_args(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--variants', nargs='+', choices=VARIANTS, default=VARIANTS)
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument(
        '--jobs',
        type=int,
        default=1 if torch.cuda.is_available() else os.cpu_count(),
        help='runs at a time (default: one on CUDA, else one a core)')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs/ablation',
        help='folder of checkpoints and logs')
    parser.add_argument(
        '--results',
        type=Path,
        help='folder of the results files (default: results in the work dir)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        help='settings that override the configs')
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error(f'--jobs: expected at least 1, got {args.jobs}')
    args.work_dir = args.work_dir.resolve()
    args.results = (args.results or args.work_dir / 'results').resolve()
    return args


def call(log: Path, env: dict, tool: str, *args: str) -> None:
    """Run one of the project's tools, its output in a log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('a') as out:
        code = subprocess.call([sys.executable, f'tools/{tool}', *args],
                               cwd=ROOT, env=env, stdout=out,
                               stderr=subprocess.STDOUT)
    if code:
        tail = ''.join(log.read_text(errors='replace').splitlines(True)[-15:])
        raise SystemExit(f'tools/{tool} failed with status {code}; the end of '
                         f'{log}:\n{tail}')


def execute(run: Run, args: argparse.Namespace, env: dict) -> float:
    """Train and test; returns the minutes it took."""
    start = time.perf_counter()
    work_dir = args.work_dir / run.name
    log = work_dir / 'output.txt'
    config = f'configs/multitask_refine/{run.config}.py'
    common = ['--work-dir', str(work_dir)]
    # Room for a resume, and no test before the one that counts.
    options = [
        'default_hooks.checkpoint.interval=250',
        'default_hooks.checkpoint.max_keep_ckpts=2',
        'train_cfg.val_interval=1000000', *args.cfg_options
    ]
    call(log, env, 'train.py', config, *common, '--seed', str(run.seed),
         '--resume', '--cfg-options', *options)
    checkpoint = (work_dir / 'last_checkpoint').read_text()
    if args.cfg_options:
        common += ['--cfg-options', *args.cfg_options]
    call(log, env, 'test.py', config, checkpoint, '--json',
         str(args.results / f'{run.name}.json'), *common)
    return (time.perf_counter() - start) / 60


def execute_all(runs: List[Run], args: argparse.Namespace, env: dict) -> None:
    """Go through the runs, several at a time, with progress."""
    todo = [r for r in runs if not (args.results / f'{r.name}.json').exists()]
    print(f'{len(runs)} runs, {len(runs) - len(todo)} of them finished '
          'before', flush=True)
    start = time.perf_counter()
    with ThreadPoolExecutor(args.jobs) as pool:
        minutes = pool.map(lambda run: execute(run, args, env), todo)
        for done, (run, taken) in enumerate(zip(todo, minutes), 1):
            spent = (time.perf_counter() - start) / 60
            left = spent / done * (len(todo) - done)
            print(f'[{done}/{len(todo)}] {run.name}: {taken:.1f} min; about '
                  f'{left:.0f} min left', flush=True)


@explained_errors()
def main(argv: Optional[List[str]] = None) -> int:
    args = parse_args(argv)
    scale = CUDA if torch.cuda.is_available() else CPU
    threads = max(1, (os.cpu_count() or 1) // args.jobs)
    env = dict(
        os.environ, SAMPLE_ROOT=scale.sample, OMP_NUM_THREADS=str(threads))
    print(f'Drawing {scale.train} + {scale.val} pictures into {scale.sample}',
          flush=True)
    call(args.work_dir / 'sample.txt', env, 'dataset/make_sample.py',
         scale.sample, '--size', str(scale.size), '--train', str(scale.train),
         '--val', str(scale.val))
    # All variants with one seed before the next: a part is a fair part.
    runs = [
        Run(scale.config.format(variant), seed) for seed in args.seeds
        for variant in args.variants
    ]
    execute_all(runs, args, env)
    tables = args.work_dir / 'tables.md'
    tables.write_text(ablation_tables.render(args.results))
    print(f'Results files: {args.results}\nTables: {tables}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
