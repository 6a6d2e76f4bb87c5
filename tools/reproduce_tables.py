#!/usr/bin/env python
"""Go over the rows of the report's tables and test what has been trained.

    python tools/reproduce_tables.py            # all rows
    python tools/reproduce_tables.py 3 6.kps    # Table 3 and a row of Table 6

Each config is tested once, however many rows it has, by tools/test.py, and
leaves a results file in docs/results/coco. Then the pages with the tables are
made. A row that fails does not stop the others.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from multitask_refine.analysis.report_tables import FILE, Row, Table, load_tables, rows_by_config
from multitask_refine.engine import (
    ExplainedError,
    describe_training,
    explained_errors,
    read_config,
)
from multitask_refine.engine.consistency import HEADS

ROOT = Path(__file__).resolve().parents[1]


class RowError(ExplainedError):
    """Why a row cannot be tested."""


class Job(NamedTuple):
    """A config to test and the rows that it fills."""

    config: str
    rows: list[tuple[Table, Row]]
    checkpoint: Path | None
    result: Path

    @property
    def path(self) -> Path:
        """The config's file."""
        found = sorted(ROOT.glob(f'configs/*/{self.config}.py'))
        return found[0] if found else ROOT / f'configs/multitask_refine/{self.config}.py'

    @property
    def keys(self) -> str:
        """The rows' names."""
        return ', '.join(row.key for _, row in self.rows)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'rows', nargs='*', metavar='ROW', help='a table (3) or a row of it (3.rb); default: all'
    )
    parser.add_argument('--list', action='store_true', help='show the rows and stop')
    parser.add_argument('--again', action='store_true', help='also test what has a results file')
    parser.add_argument(
        '--work-dirs',
        type=Path,
        default=ROOT / 'work_dirs',
        help='has a folder with checkpoints for each config',
    )
    parser.add_argument(
        '--checkpoint', type=Path, help='the weights, where the rows are of one config'
    )
    parser.add_argument('--gpus', type=int, help='test with so many processes')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        help='settings that override the configs, e.g. the place of COCO',
    )
    parser.add_argument('--tables', type=Path, default=FILE, help='another file of tables')
    parser.add_argument(
        '--root',
        type=Path,
        default=ROOT,
        help='folder whose docs/results, pages and README are written',
    )
    args = parser.parse_args(argv)
    # The tools run in the project's folder.
    args.work_dirs, args.root = args.work_dirs.resolve(), args.root.resolve()
    if args.checkpoint:
        args.checkpoint = args.checkpoint.resolve()
    return args


def find_checkpoint(folder: Path) -> Path | None:
    """The best checkpoint by keypoint AP, else the newest.

    Args:
        folder (Path): A work dir of tools/train.py; may be missing.

    Returns:
        Path, optional: None if it holds no checkpoint.
    """
    record = folder / 'last_checkpoint'
    last = folder / Path(record.read_text()).name if record.exists() else None
    for found in (
        folder.glob('best_coco_keypoints_AP*.pth'),
        [last] if last and last.exists() else [],
        folder.glob('iter_*.pth'),
    ):
        found = sorted(found, key=_iteration)
        if found:
            return found[-1]
    return None


def _iteration(path: Path) -> int:
    numbers = re.findall(r'\d+', path.stem)
    return int(numbers[-1]) if numbers else 0


def check(job: Job) -> None:
    """Refuse what would put a wrong or no number into a table.

    Raises:
        RowError: If the config is missing or lacks a task of the row, or the
            checkpoint is missing or was trained with another config.
    """
    if not job.path.is_file():
        raise RowError(f'{job.path}: there is no such config')
    if job.checkpoint is None or not job.checkpoint.is_file():
        raise RowError(f'no checkpoint{_in(job)}. Train it, or name one by --checkpoint')
    roi_head = read_config(job.path).model.roi_head
    has = [task for task, head in HEADS.items() if roi_head.get(head)]
    for table, row in job.rows:
        lacks = sorted(set(table.tasks_of(row)) - set(has))
        if lacks:
            raise RowError(
                f'row {row.key} asks for {", ".join(lacks)}, but '
                f'the network of {job.config} has heads for '
                f'{", ".join(has)} only. Choose another row or config'
            )
    trained_with = describe_training(str(job.checkpoint))['trained_with']
    if trained_with not in (None, job.config):
        raise RowError(
            f'{job.checkpoint} was trained with {trained_with}, the row is of {job.config}'
        )


def _in(job: Job) -> str:
    return f': {job.checkpoint}' if job.checkpoint else ' in the work dir'


def test(job: Job, args: argparse.Namespace) -> None:
    """Run tools/test.py, as one process or several.

    Raises:
        RowError: If it fails; with the last line that it wrote, which of
            several processes is torchrun's and says nothing.
    """
    check(job)
    names = [str(job.path), str(job.checkpoint)]
    work_dir = str(args.work_dirs / job.config)
    options = ['--json', str(job.result), '--work-dir', work_dir]
    if args.cfg_options:
        options += ['--cfg-options', *args.cfg_options]
    command = [sys.executable, 'tools/test.py', *names]
    if args.gpus:
        command = ['bash', 'tools/dist_test.sh', *names, str(args.gpus)]
    last = ''
    with subprocess.Popen(
        command + options,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(os.environ, PYTHON=sys.executable),
    ) as process:
        for line in process.stdout:
            print(line, end='', flush=True)
            last = line.strip() or last
    if process.returncode:
        reason = 'the reason is above' if args.gpus else last
        raise RowError(f'status {process.returncode}: {reason}')


def make_jobs(args: argparse.Namespace) -> list[Job]:
    """One job for each config of the chosen rows."""
    chosen = rows_by_config(load_tables(args.tables), args.rows)
    if args.checkpoint and len(chosen) != 1:
        raise RowError(
            f'--checkpoint: expected rows of one config, got '
            f'rows of {len(chosen)}: {", ".join(chosen)}'
        )
    folder = args.root / 'docs/results/coco'
    return [
        Job(
            config,
            rows,
            args.checkpoint or find_checkpoint(args.work_dirs / config),
            folder / f'{config}.json',
        )
        for config, rows in chosen.items()
    ]


def execute(jobs: Sequence[Job], args: argparse.Namespace) -> list[str]:
    """Test one after the other, with progress.

    Returns:
        list[str]: What failed and why.
    """
    failed = []
    for index, job in enumerate(jobs, 1):
        title = f'[{index}/{len(jobs)}] {job.config} ({job.keys})'
        if job.result.exists() and not args.again:
            print(f'{title}: was tested before (--again tests it anew)')
        elif job.checkpoint is None and not args.rows:
            print(f'{title}: no checkpoint')
        else:
            print(f'{title}: {job.checkpoint}', flush=True)
            try:
                test(job, args)
            except (RowError, ValueError) as error:
                failed.append(f'{job.config} ({job.keys}): {error}')
    return failed


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Run the tool; return its exit status."""
    args = parse_args(argv)
    jobs = make_jobs(args)
    if args.list:
        for job in jobs:
            state = 'tested' if job.result.exists() else job.checkpoint
            print(f'{job.config}: {job.keys}: {state or "no checkpoint"}')
        return 0
    failed = execute(jobs, args)
    build = [sys.executable, '-m', 'tools.docs.build_docs', '--root', str(args.root)]
    done = subprocess.run([*build, '--tables', str(args.tables.resolve())], cwd=ROOT)
    if done.returncode:
        raise RowError(f'{args.root}: the pages were not built; the reason is above')
    print(f'Tables: {args.root / "docs/reproducing-the-paper.md"}')
    if failed:
        print(f'{len(failed)} of {len(jobs)} failed:', *failed, sep='\n- ', file=sys.stderr)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
