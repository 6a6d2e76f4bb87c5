#!/usr/bin/env python
"""From nothing to a trained, tested and drawn network, in minutes on a CPU.

Draws a sample of people, trains the refined network (RB+H) on it, tests it
on pictures that it has not seen, and leaves in the work dir the table as
metrics.json and the predictions beside the ground truth in pictures/.
"""
import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import List, Optional

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ('configs/multitask_refine/'
          'multitask-rcnn_r26-w16_fpn-ms_rb-h_1xb8-1500_sample.py')
SAMPLE = 'data/sample'


def parse_args(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--config', default=CONFIG, help='sample config')
    parser.add_argument('--work-dir', default='work_dirs/quickstart')
    parser.add_argument(
        '--train', type=int, default=1000, help='pictures to train on')
    parser.add_argument(
        '--val', type=int, default=100, help='pictures to test on')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        help='settings that override the config')
    return parser.parse_args(argv)


def run(title: str, tool: str, *args: str) -> None:
    """Run one of the project's tools and say how long it took."""
    print(f'== {title}', flush=True)
    start = time.perf_counter()
    code = subprocess.call([sys.executable, f'tools/{tool}', *args], cwd=ROOT)
    if code:
        raise SystemExit(f'{title}: tools/{tool} failed with status {code}; '
                         'the reason is above')
    print(f'== {title}: {time.perf_counter() - start:.0f} s', flush=True)


def main(argv: Optional[List[str]] = None) -> int:
    args = parse_args(argv)
    work_dir = (ROOT / args.work_dir).resolve()
    options = ['--work-dir', str(work_dir)]
    if args.cfg_options:
        options += ['--cfg-options', *args.cfg_options]
    run('Drawing the sample', 'dataset/make_sample.py', SAMPLE, '--size',
        '192', '--train', str(args.train), '--val', str(args.val))
    run('Training', 'train.py', args.config, *options)
    checkpoint = (work_dir / 'last_checkpoint').read_text()
    run('Testing', 'test.py', args.config, checkpoint, '--json',
        str(work_dir / 'metrics.json'), '--show-dir',
        str(work_dir / 'pictures'), *options)
    print(f'Table: {work_dir / "metrics.json"}\n'
          f'Pictures, ground truth on the left: {work_dir / "pictures"}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
