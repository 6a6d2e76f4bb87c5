#!/usr/bin/env python
"""Draw a dataset, train a refined model on it, test it and draw its predictions.

The model (RB+H) starts from the pretrained base of checkpoints/README.md and is tested on images
that neither it nor the base has seen, in minutes on a CPU. The work dir gets the checkpoint, the
results file metrics.json, images/ with ground truth on the left and predictions on the right,
and log.txt. The same command continues a run that was stopped.
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
from typing import IO, NamedTuple

from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from multitask_refine.evaluation import format_table
from multitask_refine.utils.config import read_config
from multitask_refine.utils.errors import ConfigError, explained_errors
from multitask_runtime.utils.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
_DRAW_SECONDS, _TEST_SECONDS = 0.05, 0.15  # per image on two cores
_PRINT_INTERVAL = 15.0  # seconds between two lines without a terminal
_TAIL = 12  # lines of the log that a failure shows
_IMAGES_NAMED = 3
# 'train: 40/800 images', 'Iter(train) [ 40/400]' and 'Iter(test) [ 40/200]'
_STEP = re.compile(r'\b(train|val|test)\W+(\d+)/(\d+)')


class Preset(NamedTuple):
    """Default settings, and the training time on two cores."""

    config: str
    sample: str
    work_dir: str
    size: int  # longer side of an image, in pixels
    train: int  # images
    val: int  # images
    seconds: int  # of training


FROM_BASE = Preset(
    config='multitask-rcnn_r26-w24_fpn-ms_rb-h_1xb8-350_sample.py',
    sample='data/quickstart',
    work_dir='work_dirs/quickstart',
    size=256,
    train=800,
    val=200,
    seconds=270,
)
FROM_SCRATCH = Preset(
    config='multitask-rcnn_r26-w16_fpn-ms_rb-h_1xb8-1500_sample.py',
    sample='data/sample',
    work_dir='work_dirs/quickstart-from-scratch',
    size=192,
    train=1000,
    val=100,
    seconds=600,
)


class StageError(Exception):
    """A tool failed."""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--from-scratch',
        action='store_true',
        help='train a smaller model from random weights instead, on images '
        'of 192 pixels; takes about ten minutes and is less accurate',
    )
    parser.add_argument('--config', help='another sample config')
    parser.add_argument(
        '--work-dir',
        help=f'folder of the results (default: {FROM_BASE.work_dir}, or {FROM_SCRATCH.work_dir})',
    )
    parser.add_argument(
        '--train',
        type=int,
        help=f'number of training images (default: {FROM_BASE.train}, or '
        f'{FROM_SCRATCH.train} from scratch)',
    )
    parser.add_argument(
        '--val',
        type=int,
        help=f'number of test images (default: {FROM_BASE.val}, or '
        f'{FROM_SCRATCH.val} from scratch)',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], help='settings that override the config'
    )
    args = parser.parse_args(argv)
    args.preset = FROM_SCRATCH if args.from_scratch else FROM_BASE
    args.config = args.config or f'configs/sample/{args.preset.config}'
    args.work_dir = (ROOT / (args.work_dir or args.preset.work_dir)).resolve()
    for name in ('train', 'val'):
        if getattr(args, name) is None:
            setattr(args, name, getattr(args.preset, name))
        if getattr(args, name) < 1:
            parser.error(f'--{name}: expected at least 1 image, got {getattr(args, name)}')
    return args


def check_work_dir(args: argparse.Namespace) -> None:
    """Check the base and the work dir, and record the settings.

    Raises:
        ConfigError: If the base is missing, or the work dir has checkpoints of other settings.
    """
    load_from = read_config(ROOT / args.config).get('load_from')
    if load_from and '://' not in load_from and not (ROOT / load_from).is_file():
        raise ConfigError(
            f'{load_from}: expected the pretrained base, found no such file. '
            f'Restore it by: git checkout -- {load_from}, or train without '
            'it: make quickstart QUICKSTART_ARGS=--from-scratch'
        )
    settings = dict(
        config=args.config,
        load_from=load_from,
        train=args.train,
        val=args.val,
        cfg_options=args.cfg_options,
    )
    record = args.work_dir / 'quickstart.json'
    try:
        former = json.loads(record.read_text())
    except (FileNotFoundError, ValueError):
        former = {}
    if settings != former and any(args.work_dir.glob('*.pth')):
        changes = [
            f'{name}: {former.get(name)!r} there, {value!r} now'
            for name, value in settings.items()
            if former.get(name) != value
        ]
        raise ConfigError(
            f'{args.work_dir}: expected checkpoints of these settings or '
            f'none, found those of others ({"; ".join(changes)}). Use '
            'another --work-dir, or remove this one.'
        )
    with atomic_write(record) as part:
        part.write_text(json.dumps(settings, indent=2) + '\n')


class ProgressBar:
    """Progress bar of all stages with the time left; without a terminal, a line now and then.

    Args:
        seconds: Duration of all stages on two cores. The time left is estimated from
            the pace of these seconds here.
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
        self._printed = 0.0

    def __enter__(self) -> 'ProgressBar':
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def show(self, text: str, done: float) -> None:
        """Update the bar.

        Args:
            text: The current stage.
            done: Seconds done, as on two cores.
        """
        self._progress.update(self._task, description=text, completed=done)
        now = time.monotonic()
        if self._progress.disable and (now - self._printed > _PRINT_INTERVAL or '/' not in text):
            left = self._progress.tasks[0].time_remaining
            print(text + (f', about {left / 60:.1f} min left' if left else ''), flush=True)
            self._printed = now


class ToolRunner:
    """Run the project's tools one after the other.

    Args:
        bar: Shows the progress.
        log: File for the output of the tools.

    Attributes:
        durations: Seconds by stage.
    """

    def __init__(self, bar: ProgressBar, log: IO) -> None:
        self.bar, self.log = bar, log
        self.durations: dict[str, float] = {}
        self._done = 0.0

    def run(self, title: str, seconds: float, total: int, *command: str) -> None:
        """Run a tool and follow its progress.

        Args:
            title: Name of the stage.
            seconds: Duration on two cores.
            total: Number of steps; 0 if the tool prints it.
            command: File and arguments of the tool.

        Raises:
            StageError: If the tool fails.
            KeyboardInterrupt: At Ctrl-C and SIGTERM, after the tool has stopped; a training
                saves a checkpoint before.
        """
        self.bar.show(title, self._done)
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
            # so that Ctrl-C reaches this process alone
            start_new_session=True,
        )
        split, before, last = '', 0, 0
        try:
            for line in process.stdout:
                self.log.write(line)
                self.log.flush()
                step = _STEP.search(line)
                if step:
                    if step[1] != split:  # the images of val follow those of train
                        before += last
                    split, last = step[1], int(step[3])
                    done, out_of = before + int(step[2]), max(total or last, 1)
                    progress = self._done + seconds * min(done / out_of, 1)
                    self.bar.show(f'{title} {done}/{out_of}', progress)
            process.wait()
        except KeyboardInterrupt:
            # At SIGTERM a training saves a checkpoint; at SIGINT the other tools remove their
            # temporary files.
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
        self._done += seconds
        self.durations[title] = round(time.monotonic() - start, 1)


def run_stages(args: argparse.Namespace, runner: ToolRunner) -> None:
    """Draw, train and test; training resumes from the newest checkpoint of the work dir."""
    preset, images = args.preset, args.train + args.val
    work_dir = ['--work-dir', str(args.work_dir)]
    options = [f'--size={preset.size}', f'--train={args.train}', f'--val={args.val}']
    options += [f'--workers={min(len(os.sched_getaffinity(0)), 8)}']
    tool = 'tools/dataset/make_sample.py'
    runner.run('Drawing people', _DRAW_SECONDS * images, images, tool, preset.sample, *options)
    # No validation: the test follows.
    settings = ['default_hooks.logger.interval=10', 'train_cfg.val_begin=1000000000']
    options = [*work_dir, '--resume', '--cfg-options', *settings, *args.cfg_options]
    runner.run('Training', preset.seconds, 0, 'tools/train.py', args.config, *options)
    checkpoint = (args.work_dir / 'last_checkpoint').read_text()
    options = [*work_dir, f'--json={args.work_dir / "metrics.json"}']
    options += [f'--show-dir={args.work_dir / "images"}']
    options += ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    seconds = _TEST_SECONDS * args.val
    runner.run('Testing', seconds, 0, 'tools/test.py', args.config, checkpoint, *options)


def summarize(work_dir: Path) -> str:
    """Format the metrics of the test, and list the files in the work dir."""
    metrics = json.loads((work_dir / 'metrics.json').read_text())
    images = sorted((work_dir / 'images').glob('*.jpg'))
    return '\n'.join(
        [
            '',
            'AP in percent on the test images:',
            '',
            format_table(metrics),
            '',
            f'Results file: {work_dir / "metrics.json"}',
            f'{len(images)} images, ground truth on the left and predictions '
            'on the right, such as',
            *(f'  {path}' for path in images[:_IMAGES_NAMED]),
        ]
    )


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Run all stages and print their results; return 130 if interrupted."""
    args = parse_args(argv)
    check_work_dir(args)
    log_file = args.work_dir / 'log.txt'
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    seconds = (
        _DRAW_SECONDS * (args.train + args.val) + args.preset.seconds + _TEST_SECONDS * args.val
    )
    is_fresh = not (ROOT / args.preset.sample).exists() and not any(args.work_dir.glob('*.pth'))
    try:
        with log_file.open('a') as log, ProgressBar(seconds) as bar:
            runner = ToolRunner(bar, log)
            run_stages(args, runner)
            bar.show('Done', seconds)
    except StageError as error:
        tail = log_file.read_text(errors='replace').splitlines()[-_TAIL:]
        raise SystemExit('\n'.join([f'{error}. The end of {log_file}:', *tail])) from None
    except KeyboardInterrupt:
        print(
            f'Stopped. {args.work_dir} keeps the finished parts; continue with the same command.',
            file=sys.stderr,
        )
        return 128 + signal.SIGINT
    if is_fresh:  # otherwise the durations are not those of all stages
        results = args.work_dir / 'metrics.json'
        content = json.loads(results.read_text())
        content['run']['stages'] = runner.durations
        with atomic_write(results) as part:
            part.write_text(json.dumps(content, indent=2) + '\n')
    print(summarize(args.work_dir))
    return 0


if __name__ == '__main__':
    sys.exit(main())
