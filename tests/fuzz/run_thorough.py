#!/usr/bin/env python
"""Run the thorough profile of the fuzz tests and write down what it did.

    python tests/fuzz/run_thorough.py --seed 7

A failure is printed with the input that made it; hypothesis keeps it in
.hypothesis and tries it first the next time.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

from multitask_refine.utils.results_file import (
    command_line,
    current_commit,
    describe_machine,
    write_results,
)

ROOT = Path(__file__).resolve().parents[2]

FOLDER = Path(__file__).parent


def run_module(path: Path, seed: int) -> tuple[dict[str, int], str]:
    """Run one module.

    Args:
        path (Path): The module.
        seed (int): Of hypothesis.

    Returns:
        tuple[dict[str, int], str]: The number of inputs of each property, and
        the output where one failed, else ''.
    """
    command = [
        sys.executable,
        '-m',
        'pytest',
        str(path),
        '-q',
        '--tb=short',
        '-p',
        'no:cacheprovider',
        '-W',
        'ignore',
        f'--hypothesis-seed={seed}',
        '--hypothesis-show-statistics',
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(os.environ, HYPOTHESIS_PROFILE='thorough'),
    )
    return count(done.stdout), done.stdout if done.returncode else ''


def count(output: str) -> dict[str, int]:
    """Inputs by property, from what hypothesis says of its work."""
    inputs: dict[str, int] = {}
    name = ''
    for line in output.splitlines():
        title = re.match(r'\S+::(\w+)(\[.*\])?:$', line)
        name = title[1] if title else name
        numbers = re.search(r'- (\d+) passing, (\d+) failing, and (\d+) invalid', line)
        if name and numbers:
            inputs.setdefault(name, 0)
            inputs[name] += sum(map(int, numbers.groups()))
    return inputs


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--seed', type=int, help='default: a new one')
    parser.add_argument('--out', default=str(ROOT / 'docs/results/fuzzing/fuzzing.json'))
    args = parser.parse_args(argv)
    seed = random.randrange(2**31) if args.seed is None else args.seed
    start = time.perf_counter()
    inputs: dict[str, dict[str, int]] = {}
    failed = []
    for path in sorted(FOLDER.glob('test_*.py')):
        inputs[path.stem], output = run_module(path, seed)
        print(
            f'{path.stem}: {sum(inputs[path.stem].values())} inputs{", FAILED" if output else ""}',
            flush=True,
        )
        if output:
            failed.append(path.stem)
            print(output)
    write_results(
        args.out,
        {},
        dict(
            command=command_line(),
            commit=current_commit(),
            date=time.strftime('%Y-%m-%d'),
            seconds=round(time.perf_counter() - start, 1),
            seed=seed,
            inputs=inputs,
            failed=failed,
            machine=describe_machine(),
        ),
    )
    print(f'Results file: {args.out}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
