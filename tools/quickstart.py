#!/usr/bin/env python
"""Draw people, train a refined network on them, test it, draw what it finds.

The network (RB+H) starts from the pretrained base of checkpoints/README.md and
is tested on images that neither it nor the base has seen, in minutes on a CPU.
The work dir gets the checkpoint, the results file metrics.json, pictures/ with
ground truth on the left and predictions on the right, and log.txt. A run that
was stopped goes on by the same command.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Dict, List, NamedTuple, Optional

from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

ROOT = Path(__file__).resolve().parents[1]

from multitask_refine.engine import ConfigError, explained_errors, read_config
from multitask_refine.evaluation import format_table

RECORD = 'quickstart.json'
_PICTURES_NAMED = 3
# Seconds an image on two cores.
_DRAWING, _TESTING = 0.05, 0.15
_TAIL = 12  # lines of the log that a failure shows
_REPEAT = 15.0  # seconds between two lines where there is no terminal
# 'train: 40/800 pictures', 'Iter(train) [ 40/400]' and 'Iter(test) [ 40/200]'
_STEP = re.compile(r'\b(train|val|test)\W+(\d+)/(\d+)')


class Way(NamedTuple):
    """What is trained on what, and how long that takes on two cores."""

    config: str
    sample: str
    work_dir: str
    size: int  # longer side of an image, in pixels
    train: int  # images
    val: int
    seconds: int  # of training


FROM_BASE = Way(
    'multitask-rcnn_r26-w24_fpn-ms_rb-h_1xb8-350_sample.py',
    'data/quickstart',
    'work_dirs/quickstart',
    256,
    800,
    200,
    270,
)
FROM_SCRATCH = Way(
    'multitask-rcnn_r26-w16_fpn-ms_rb-h_1xb8-1500_sample.py',
    'data/sample',
    'work_dirs/quickstart-from-scratch',
    192,
    1000,
    100,
    600,
)


class StageError(Exception):
    """A tool that ended with an error."""


def parse_args(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--from-scratch',
        action='store_true',
        help='train a smaller network from random weights instead, on images '
        'of 192 pixels; takes about ten minutes and finds less',
    )
    parser.add_argument('--config', help='another sample config')
    parser.add_argument(
        '--work-dir',
        help=f'folder of the results (default: {FROM_BASE.work_dir}, or {FROM_SCRATCH.work_dir})',
    )
    parser.add_argument(
        '--train',
        type=int,
        help=f'images to train on (default: {FROM_BASE.train}, or '
        f'{FROM_SCRATCH.train} from scratch)',
    )
    parser.add_argument(
        '--val',
        type=int,
        help=f'images to test on (default: {FROM_BASE.val}, or {FROM_SCRATCH.val} from scratch)',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], help='settings that override the config'
    )
    args = parser.parse_args(argv)
    args.way = FROM_SCRATCH if args.from_scratch else FROM_BASE
    args.config = args.config or f'configs/sample/{args.way.config}'
    args.work_dir = (ROOT / (args.work_dir or args.way.work_dir)).resolve()
    for name in ('train', 'val'):
        if getattr(args, name) is None:
            setattr(args, name, getattr(args.way, name))
        if getattr(args, name) < 1:
            parser.error(f'--{name}: expected at least 1 image, got {getattr(args, name)}')
    return args


def prepare(args: argparse.Namespace) -> None:
    """Look at the base and at what the work dir holds, and note the settings.

    Raises:
        ConfigError: If the base is missing, or the work dir has checkpoints
            of other settings.
    """
    load_from = read_config(ROOT / args.config).get('load_from')
    if load_from and '://' not in load_from and not (ROOT / load_from).is_file():
        raise ConfigError(
            f'{load_from}: expected the pretrained base, found no such file. '
            f'Restore it by: git checkout -- {load_from}, or train without '
            'it: make quickstart QUICKSTART_ARGS=--from-scratch'
        )
    now = dict(
        config=args.config,
        load_from=load_from,
        train=args.train,
        val=args.val,
        cfg_options=args.cfg_options,
    )
    record = args.work_dir / RECORD
    try:
        before = json.loads(record.read_text())
    except (FileNotFoundError, ValueError):
        before = {}
    if now != before and any(args.work_dir.glob('*.pth')):
        changes = [
            f'{name}: {before.get(name)!r} there, {value!r} now'
            for name, value in now.items()
            if before.get(name) != value
        ]
        raise ConfigError(
            f'{args.work_dir}: expected checkpoints of these settings or '
            f'none, found those of others ({"; ".join(changes)}). Name '
            'another folder by --work-dir, or remove this one.'
        )
    args.work_dir.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(now, indent=2) + '\n')


class Bar:
    """One progress bar over all stages with the time left; where there is no
    terminal, a line now and then.

    Args:
        seconds (float): What all stages take on two cores. The time left is
            estimated by how fast these pass here.
    """

    def __init__(self, seconds: float) -> None:
        self._progress = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn('left:'),
            TimeRemainingColumn(),
            speed_estimate_period=600,
        )
        self._progress.disable = not self._progress.console.is_terminal
        self._task = self._progress.add_task('', total=seconds)
        self._said = 0.0

    def __enter__(self) -> 'Bar':
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def show(self, text: str, done: float) -> None:
        """Show what is being done and how many of the seconds are."""
        self._progress.update(self._task, description=text, completed=done)
        now = time.monotonic()
        if self._progress.disable and (now - self._said > _REPEAT or '/' not in text):
            left = self._progress.tasks[0].time_remaining
            print(text + (f', about {left / 60:.1f} min left' if left else ''), flush=True)
            self._said = now


class Pipeline:
    """Runs the project's tools one after the other.

    Args:
        bar (Bar): Shows how far they are.
        log (IO): Gets all that they write.
    """

    def __init__(self, bar: Bar, log: IO) -> None:
        self.bar, self.log = bar, log
        self.taken = {}  # seconds by title
        self._passed = 0.0

    def run(self, title: str, seconds: float, total: int, *command: str) -> None:
        """Run a tool to its end.

        Args:
            title (str): What it does.
            seconds (float): What it takes on two cores.
            total (int): Number of steps; 0 if the tool says it.
            command (str): Its file and arguments.

        Raises:
            StageError: If it ends with an error.
            KeyboardInterrupt: At Ctrl-C and SIGTERM, after the tool was told
                to stop and has: a training saves a checkpoint before.
        """
        self.bar.show(title, self._passed)
        start = time.monotonic()
        print(f'== {" ".join(command)}', file=self.log, flush=True)
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            text=True,
            errors='replace',
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, PYTHONUNBUFFERED='1'),
            # Ctrl-C reaches this process alone.
            start_new_session=True,
        )
        try:
            self._follow(process, title, seconds, total)
            process.wait()
        except KeyboardInterrupt:
            # At SIGTERM a training saves a checkpoint, at SIGINT the others
            # remove their drafts.
            os.killpg(process.pid, signal.SIGTERM if 'train.py' in command[0] else signal.SIGINT)
            self.log.writelines(process.stdout)
            process.wait()
            raise
        finally:  # also at a second Ctrl-C
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        if process.returncode:
            raise StageError(
                f'{title} failed: {command[0]} ended with status {process.returncode}'
            )
        self._passed += seconds
        self.taken[title] = round(time.monotonic() - start, 1)

    def _follow(self, process: subprocess.Popen, title: str, seconds: float, total: int) -> None:
        split, before, last = '', 0, 0
        for line in process.stdout:
            self.log.write(line)
            self.log.flush()
            step = _STEP.search(line)
            if not step:
                continue
            if step[1] != split:  # images of val come after those of train
                before += last
            split, last = step[1], int(step[3])
            done = before + int(step[2])
            out_of = max(total or last, 1)
            self.bar.show(
                f'{title} {done}/{out_of}', self._passed + seconds * min(done / out_of, 1)
            )


def run_all(args: argparse.Namespace, pipeline: Pipeline) -> None:
    """Draw, train and test. Training goes on from the newest checkpoint of
    the work dir, if there is one."""
    size, images = str(args.way.size), args.train + args.val
    workers = str(min(len(os.sched_getaffinity(0)), 8))
    common = ['--work-dir', str(args.work_dir)]
    options = ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    pipeline.run(
        'Drawing people',
        _DRAWING * images,
        images,
        'tools/dataset/make_sample.py',
        args.way.sample,
        '--size',
        size,
        '--train',
        str(args.train),
        '--val',
        str(args.val),
        '--workers',
        workers,
    )
    # Tested afterwards, so there is no validation.
    pipeline.run(
        'Training',
        args.way.seconds,
        0,
        'tools/train.py',
        args.config,
        '--resume',
        *common,
        '--cfg-options',
        'default_hooks.logger.interval=10',
        'train_cfg.val_interval=1000000',
        *args.cfg_options,
    )
    checkpoint = (args.work_dir / 'last_checkpoint').read_text()
    pipeline.run(
        'Testing',
        _TESTING * args.val,
        0,
        'tools/test.py',
        args.config,
        checkpoint,
        '--json',
        str(args.work_dir / 'metrics.json'),
        '--show-dir',
        str(args.work_dir / 'pictures'),
        *common,
        *options,
    )


def note_stages(work_dir: Path, taken: Dict[str, float]) -> None:
    """Write into the results file what the stages took, in seconds."""
    file = work_dir / 'metrics.json'
    content = json.loads(file.read_text())
    content['run']['stages'] = taken
    file.write_text(json.dumps(content, indent=2) + '\n')


def report(work_dir: Path) -> str:
    """Say what was reached and where to see it."""
    metrics = json.loads((work_dir / 'metrics.json').read_text())
    pictures = sorted((work_dir / 'pictures').glob('*.jpg'))
    return '\n'.join(
        [
            '',
            'AP in percent on images that were not trained on:',
            '',
            format_table(metrics),
            '',
            f'Results file: {work_dir / "metrics.json"}',
            f'{len(pictures)} pictures, ground truth on the left and predictions '
            'on the right, such as',
            *(f'  {path}' for path in pictures[:_PICTURES_NAMED]),
        ]
    )


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@explained_errors()
def main(argv: Optional[List[str]] = None) -> int:
    args = parse_args(argv)
    prepare(args)
    file = args.work_dir / 'log.txt'
    signal.signal(signal.SIGTERM, _interrupt)
    seconds = _DRAWING * (args.train + args.val) + args.way.seconds + _TESTING * args.val
    # What was done before takes no time now.
    is_fresh = not (ROOT / args.way.sample).exists() and not any(args.work_dir.glob('*.pth'))
    try:
        with file.open('a') as log, Bar(seconds) as bar:
            pipeline = Pipeline(bar, log)
            run_all(args, pipeline)
            bar.show('Done', seconds)
    except StageError as error:
        tail = file.read_text(errors='replace').splitlines()[-_TAIL:]
        raise SystemExit('\n'.join([f'{error}. The end of {file}:', *tail])) from None
    except KeyboardInterrupt:
        print(
            'Stopped. What is done is kept in '
            f'{args.work_dir}; the same command goes on from there.',
            file=sys.stderr,
        )
        return 128 + signal.SIGINT
    if is_fresh:
        note_stages(args.work_dir, pipeline.taken)
    print(report(args.work_dir))
    return 0


if __name__ == '__main__':
    sys.exit(main())
