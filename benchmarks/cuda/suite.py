#!/usr/bin/env python
"""Run all benchmarks on a CUDA machine, resumably.

    python -m benchmarks.cuda.suite [--minutes 9] [--only PART ...]

Each part takes less than eight minutes and writes a results file of its own. Parts whose file
exists are skipped, so the same command continues where it was stopped. No part is started that
may not finish within --minutes.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
RESULTS = 'docs/results/performance'
PART_SECONDS = 480  # limit of a part
SPEED_PARTS = (
    'detectron2',
    'refinement',
    'means-1',
    'means-2',
    'means-3',
    'mmdet',
    'torchvision-keypoints',
    'torchvision-masks',
)


class Part(NamedTuple):
    """A benchmark: name, arguments of the interpreter, and the results file that it writes."""

    name: str
    command: list[str]
    result: str


def list_parts(python: str, detectron2: str | None) -> list[Part]:
    """List the parts in the order in which they run.

    Args:
        python: Interpreter with torchvision and the dependencies of Detectron2.
        detectron2: Checkout of Detectron2.
    """
    commands = {
        f'cuda-{name}': [f'benchmarks.cuda.{name}'] for name in ('ops', 'precision', 'kernels')
    }
    environment = [
        '--baseline-python',
        python,
        *(['--detectron2', detectron2] if detectron2 else []),
    ]
    for name in SPEED_PARTS:
        commands[f'speed-cuda-{name}'] = [
            *('benchmarks.speed.compare', '--device', 'cuda', '--only', name),
            *environment,
        ]
    commands['scaling-cuda'] = ['benchmarks.speed.scaling', '--device', 'cuda']
    return [
        Part(name, ['-m', *command, '--json', f'{RESULTS}/{name}.json'], f'{RESULTS}/{name}.json')
        for name, command in commands.items()
    ]


def run_parts(parts: list[Part], minutes: float) -> list[str]:
    """Run the parts that have no results file; return the names of those that failed."""
    failed, end = [], time.monotonic() + 60 * minutes
    for number, part in enumerate(parts, 1):
        label = f'[{number}/{len(parts)}] {part.name}'
        if (ROOT / part.result).exists():
            print(f'{label}: results file exists', flush=True)
        elif end - time.monotonic() < PART_SECONDS:
            print(f'{label}: no time left; run the same command again', flush=True)
        else:
            print(label, flush=True)
            try:
                command = [sys.executable, *part.command]
                status = subprocess.run(command, cwd=ROOT, timeout=PART_SECONDS).returncode
            except subprocess.TimeoutExpired:
                status = f'a timeout of {PART_SECONDS} s'
            print(f'{label}: ended with {status}', flush=True)
            if status:
                failed.append(part.name)
    return failed


def main(argv: list[str] | None = None) -> int:
    """Run the chosen parts; return 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--minutes', type=float, default=600, help='time limit (default: %(default)s)'
    )
    parser.add_argument('--only', nargs='+', metavar='PART', help='names of parts (default: all)')
    parser.add_argument(
        '--baseline-python',
        default=sys.executable,
        help='interpreter with torchvision and the dependencies of Detectron2 (default: this one)',
    )
    parser.add_argument('--detectron2', metavar='CHECKOUT', help='checkout of Detectron2')
    args = parser.parse_args(argv)
    parts = {part.name: part for part in list_parts(args.baseline_python, args.detectron2)}
    unknown = sorted(set(args.only or ()) - set(parts))
    if unknown:
        parser.error(f'--only: expected some of {", ".join(parts)}, got {", ".join(unknown)}')
    failed = run_parts([parts[name] for name in args.only or parts], args.minutes)
    if failed:
        print(f'Failed: {", ".join(failed)}')
    return int(bool(failed))


if __name__ == '__main__':
    sys.exit(main())
