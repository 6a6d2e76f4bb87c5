#!/usr/bin/env python
"""All that is to be measured on a CUDA machine, in parts that resume.

    python -m benchmarks.cuda.suite [--minutes 9] [--only PART ...]

Every part takes less than eight minutes and writes a results file of its own;
a part whose file is there is skipped, so the same command goes on where it
was stopped. It begins no part that may not fit into ``--minutes``. The
ablation is a training of hours: each call trains on for one part's time and
stops it by SIGTERM, after which it resumes.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
RESULTS = 'docs/results/performance'
PART_SECONDS = 460
GRACE = 60  # to write a checkpoint


class Part(NamedTuple):
    """One command and the file that it leaves when it is done."""

    name: str
    command: list[str]
    result: str
    resumes: bool = False  # may be stopped by SIGTERM and started again


def list_parts(python: str, detectron2: str | None) -> list[Part]:
    """In the order in which they are run."""
    parts = [
        _own('ops'),
        _own('precision'),
        _own('kernels'),
        *[
            _speed(name, python, detectron2)
            for name in (
                'detectron2',
                'refinement',
                'means-1',
                'means-2',
                'means-3',
                'mmdet',
                'torchvision-keypoints',
                'torchvision-masks',
            )
        ],
        Part(
            'scaling',
            [
                'benchmarks/speed/scaling.py',
                '--device',
                'cuda',
                '--json',
                f'{RESULTS}/scaling-cuda.json',
            ],
            f'{RESULTS}/scaling-cuda.json',
        ),
        Part(
            'ablation',
            ['tools/ablation.py', '--results', 'docs/results/offsets-cuda'],
            'docs/results/offsets-cuda/final/regular-sgd-b1_seed4.json',
            resumes=True,
        ),
    ]
    return parts


def _own(name: str) -> Part:
    result = f'{RESULTS}/cuda-{name}.json'
    return Part(name, [f'benchmarks/cuda/{name}.py', '--json', result], result)


def _speed(name: str, python: str, detectron2: str | None) -> Part:
    result = f'{RESULTS}/speed-cuda-{name}.json'
    command = [
        'benchmarks/speed/compare.py',
        '--device',
        'cuda',
        '--only',
        name,
        '--baseline-python',
        python,
        '--json',
        result,
    ]
    if detectron2:
        command += ['--detectron2', detectron2]
    return Part(f'speed-{name}', command, result)


def run_part(part: Part, seconds: float) -> int:
    """Run a part in a process group of its own; its exit status.

    At the end of its time the group gets SIGTERM, and later SIGKILL.
    """
    process = subprocess.Popen([sys.executable, *part.command], cwd=ROOT, start_new_session=True)
    for limit, sign in ((seconds, signal.SIGTERM), (GRACE, signal.SIGKILL)):
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, sign)
    return process.wait()


def run_parts(parts: list[Part], minutes: float) -> list[str]:
    """Run what is not done; the names of the parts that failed."""
    failed, end = [], time.monotonic() + 60 * minutes
    for number, part in enumerate(parts, 1):
        label = f'[{number}/{len(parts)}] {part.name}'
        left = end - time.monotonic() - GRACE
        if (ROOT / part.result).exists():
            print(f'{label}: done before', flush=True)
        elif left < (GRACE if part.resumes else PART_SECONDS):
            print(f'{label}: no time left; run the same command again', flush=True)
        else:
            print(label, flush=True)
            status = run_part(part, min(left, PART_SECONDS))
            done = (ROOT / part.result).exists()
            print(f'{label}: ended with {status}', flush=True)
            if not done and not part.resumes:
                failed.append(part.name)
    return failed


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--minutes', type=float, default=600)
    parser.add_argument('--only', nargs='+', help='names of parts')
    parser.add_argument(
        '--baseline-python',
        default=sys.executable,
        help='has torchvision, and what Detectron2 needs',
    )
    parser.add_argument('--detectron2', help='a checkout of it')
    args = parser.parse_args(argv)
    parts = list_parts(args.baseline_python, args.detectron2)
    names = [part.name for part in parts]
    unknown = sorted(set(args.only or ()) - set(names))
    if unknown:
        parser.error(f'--only: expected some of {", ".join(names)}, found {", ".join(unknown)}')
    chosen = [part for part in parts if not args.only or part.name in args.only]
    failed = run_parts(chosen, args.minutes)
    if failed:
        print(f'Failed: {", ".join(failed)}')
    return int(bool(failed))


if __name__ == '__main__':
    sys.exit(main())
