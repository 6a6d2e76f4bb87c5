#!/usr/bin/env python
"""Reproduce the paper's tables: test the trained configs and fill in their rows.

    python tools/reproduce_tables.py            # all rows
    python tools/reproduce_tables.py 3 6.kps    # Table 3 and a row of Table 6

tools/test.py tests each config once, however many rows it has, and writes a results file into
docs/results/coco. Then the pages with the tables are built. A row that fails does not stop the
others.
"""

import argparse
import os
import re
import subprocess
import sys
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
    """A row cannot be tested."""


class Job(NamedTuple):
    """A config to test and the rows that it fills.

    Attributes:
        config: Name of the config.
        path: Its file, which may be missing.
        rows: The rows and their tables.
        keys: Names of the rows, for messages.
        checkpoint: Weights to test; None if there are none.
        result: The results file.
    """

    config: str
    path: Path
    rows: list[tuple[Table, Row]]
    keys: str
    checkpoint: Path | None
    result: Path


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'rows', nargs='*', metavar='ROW', help='a table (3) or a row of one (3.rb); default: all'
    )
    parser.add_argument('--list', action='store_true', help='list the rows and exit')
    parser.add_argument(
        '--again', action='store_true', help='also test configs that have a results file'
    )
    parser.add_argument(
        '--work-dirs',
        type=Path,
        default=ROOT / 'work_dirs',
        help='folder with a work dir for each config (default: work_dirs)',
    )
    parser.add_argument(
        '--checkpoint', type=Path, help='weights to test, if the rows are of one config'
    )
    parser.add_argument('--gpus', type=int, help='number of processes of a test')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        help='settings that override the configs, such as the folder of COCO',
    )
    parser.add_argument('--tables', type=Path, default=FILE, help='file of the tables')
    parser.add_argument(
        '--root',
        type=Path,
        default=ROOT,
        help='folder of the docs/results, pages and README to write',
    )
    args = parser.parse_args(argv)
    # The tools run in the project's folder.
    args.work_dirs, args.root = args.work_dirs.resolve(), args.root.resolve()
    if args.checkpoint:
        args.checkpoint = args.checkpoint.resolve()
    return args


def find_checkpoint(work_dir: Path) -> Path | None:
    """Find the best checkpoint by keypoint AP, or else the latest.

    Args:
        work_dir: Of tools/train.py; may be missing.

    Returns:
        None if there is no checkpoint.
    """
    record = work_dir / 'last_checkpoint'
    last = [work_dir / Path(record.read_text()).name] if record.exists() else []
    for found in (
        work_dir.glob('best_coco_keypoints_AP*.pth'),
        filter(Path.exists, last),
        work_dir.glob('iter_*.pth'),
    ):
        # By the iteration, the last number of the name.
        if found := sorted(
            found, key=lambda path: int((re.findall(r'\d+', path.stem) or [0])[-1])
        ):
            return found[-1]
    return None


def check_job(job: Job) -> None:
    """Check what would put a wrong number, or none, into a table.

    Raises:
        RowError: If the config is missing or lacks a task of the row, or the checkpoint is
            missing or was trained with another config.
    """
    if not job.path.is_file():
        raise RowError(f'{job.path}: there is no such config')
    if job.checkpoint is None or not job.checkpoint.is_file():
        where = f': {job.checkpoint}' if job.checkpoint else ' in the work dir'
        raise RowError(f'no checkpoint{where}. Train it, or name one by --checkpoint')
    roi_head = read_config(job.path).model.roi_head
    tasks = [task for task, head in HEADS.items() if roi_head.get(head)]
    for table, row in job.rows:
        missing = sorted(set(table.tasks_of(row)) - set(tasks))
        if missing:
            raise RowError(
                f'row {row.key} asks for {", ".join(missing)}, but the network of {job.config} '
                f'has heads for {", ".join(tasks)} only. Choose another row or config'
            )
    trained_with = describe_training(str(job.checkpoint))['trained_with']
    if trained_with not in (None, job.config):
        raise RowError(
            f'{job.checkpoint} was trained with {trained_with}, the row is of {job.config}'
        )


def run_test(job: Job, args: argparse.Namespace) -> None:
    """Run tools/test.py, in one process or several.

    Raises:
        RowError: If the test fails; with the last line of its output. That of several
            processes is torchrun's and gives no reason.
    """
    check_job(job)
    command = [sys.executable, 'tools/test.py', str(job.path), str(job.checkpoint)]
    if args.gpus:
        command[:2] = ['bash', 'tools/dist_test.sh']
        command.append(str(args.gpus))
    command += ['--json', str(job.result), '--work-dir', str(args.work_dirs / job.config)]
    if args.cfg_options:
        command += ['--cfg-options', *args.cfg_options]
    last = ''
    with subprocess.Popen(
        command,
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


def list_jobs(args: argparse.Namespace) -> list[Job]:
    """List a job for each config of the chosen rows.

    Raises:
        RowError: If --checkpoint is given for rows of several configs.
    """
    chosen = rows_by_config(load_tables(args.tables), args.rows)
    if args.checkpoint and len(chosen) != 1:
        raise RowError(
            f'--checkpoint: expected rows of one config, got '
            f'rows of {len(chosen)}: {", ".join(chosen)}'
        )
    jobs = []
    for config, rows in chosen.items():
        found = sorted(ROOT.glob(f'configs/*/{config}.py'))
        jobs.append(
            Job(
                config,
                found[0] if found else ROOT / f'configs/multitask_refine/{config}.py',
                rows,
                ', '.join(row.key for _, row in rows),
                args.checkpoint or find_checkpoint(args.work_dirs / config),
                args.root / f'docs/results/coco/{config}.json',
            )
        )
    return jobs


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Test the configs and build the pages; return 1 if a test failed."""
    args = parse_args(argv)
    jobs = list_jobs(args)
    if args.list:
        for job in jobs:
            state = 'tested' if job.result.exists() else job.checkpoint
            print(f'{job.config}: {job.keys}: {state or "no checkpoint"}')
        return 0
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
                run_test(job, args)
            except (RowError, ValueError) as error:
                failed.append(f'{job.config} ({job.keys}): {error}')
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
