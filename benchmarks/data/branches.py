#!/usr/bin/env python
"""Measure rankings, visibility and keypoint errors of the branches.

    python tools/ablation.py final --conditions regular visibility score mask-gate
    python tools/dataset/make_sample.py data/crowded --size 256 --seed 5000 --train 0 --val 150 \
        --crowded
    python -m benchmarks.data.branches

The runs are the final ones of the ablation, which have kept their predictions on its test split;
each is also tested on crowded images, in which several people cover each other. What was measured
before is not measured again.
"""

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from multitask_refine.analysis.ablation import protocol
from multitask_refine.engine import explained_errors
from tools.ablation import PREDICTIONS, run_tool

CONDITIONS = ('regular', 'visibility', 'score', 'mask-gate')


def measure(run: protocol.Run, args: argparse.Namespace) -> None:
    """Measure a run on both sets of images, and write a results file of each."""
    work_dir = args.work_dir / 'final' / run.name
    crowded = work_dir / 'crowded'
    log, env = crowded / 'output.txt', dict(os.environ, BASE_SAMPLE_ROOT=str(args.crowded))
    for split, folder in (('test', work_dir / 'test'), ('crowded', crowded)):
        out = args.results / split / f'{run.name}.json'
        if out.exists():
            continue
        predictions = folder / PREDICTIONS
        if split == 'crowded':
            checkpoint = (work_dir / 'last_checkpoint').read_text()
            options = [f'--work-dir={folder}', f'--predictions={predictions}']
            run_tool(log, env, 'test.py', run.config, checkpoint, *options)
        options = [str(predictions), f'--out={out}']
        run_tool(log, env, 'analysis_tools/measure_predictions.py', *options)
        print(out, flush=True)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default, text in (
        ('--work-dir', 'work_dirs/ablation', 'of tools/ablation.py'),
        ('--crowded', 'data/crowded', 'folder of the crowded images'),
        ('--results', 'docs/results/branches', 'folder of the results files'),
    ):
        parser.add_argument(
            name, type=Path, default=Path(default), help=f'{text} (default: %(default)s)'
        )
    parser.add_argument('--jobs', type=int, default=os.cpu_count(), help='concurrent tests')
    args = parser.parse_args(argv)
    args.work_dir, args.crowded = args.work_dir.resolve(), args.crowded.resolve()
    args.results = args.results.resolve()
    return args


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Measure the runs that are finished."""
    args = parse_args(argv)
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    runs = [
        run
        for run in protocol.final_runs(dict.fromkeys(protocol.BY_NAME, 0.0))
        if run.condition.name in CONDITIONS
    ]
    finished = [
        run for run in runs if (args.work_dir / 'final' / run.name / 'test' / PREDICTIONS).exists()
    ]
    print(f'{len(finished)} of {len(runs)} runs are finished', flush=True)
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda run: measure(run, args), finished))
    return 0


if __name__ == '__main__':
    sys.exit(main())
