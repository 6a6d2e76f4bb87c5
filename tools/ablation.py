#!/usr/bin/env python
"""Do learned offsets help? The pretrained base, trained further in many ways.

`sweep` trains with several rates and chooses among them on a validation split
of its own; `final` trains every condition with the chosen rates and tests it
on images that nothing was chosen on. Conditions, data, seeds and the rule of
the choice are in projects/multitask_refine/analysis/ablation/protocol.py, what came out in docs/offsets.md.

Stopped and started again, it goes on where it was: finished runs are skipped,
half-trained ones are resumed. SIGTERM and Ctrl-C let the runs write a
checkpoint first; status 75 then says that it wants to be started again.
"""

import argparse
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Dict, Iterator, List, Optional, Set

import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[1]

from multitask_refine.analysis.ablation import protocol
from multitask_refine.analysis.ablation import tables as offsets_tables
from multitask_refine.analysis.ablation.protocol import Run
from multitask_refine.engine import (
    describe_command,
    load_checkpoint_file,
    read_config,
    write_record,
    write_results,
)
from multitask_refine.engine.hooks.preemption_hook import EX_TEMPFAIL
from multitask_refine.utils.config import SettingsAction
from multitask_refine.evaluation import TASKS
from multitask_refine.evaluation.predictions import file_sha256
from multitask_refine.utils.errors import ConfigError, explained_errors

# The place where the base is named.
BASE_FILE = 'configs/_base_/base_checkpoint.py'
REGULAR = protocol.CONFIG.format('fpn-ms_regular')
CURVE_POINTS = 6


def parse_args(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'phase',
        nargs='?',
        choices=['sweep', 'final', 'all'],
        default='all',
        help='all is one after the other (default)',
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=1 if torch.cuda.is_available() else os.cpu_count(),
        help='runs at a time (default: one on CUDA, else one a core)',
    )
    parser.add_argument(
        '--conditions',
        nargs='+',
        choices=protocol.BY_NAME,
        default=list(protocol.BY_NAME),
        metavar='NAME',
        help='run only these: ' + ', '.join(protocol.BY_NAME),
    )
    parser.add_argument(
        '--base',
        type=Path,
        help=f'checkpoint of the pretrained base (default: as {BASE_FILE} says)',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs/ablation',
        help='folder of checkpoints and logs',
    )
    parser.add_argument(
        '--results',
        type=Path,
        default=ROOT / 'docs/results/offsets',
        help='folder of the results files (default: docs/results/offsets)',
    )
    parser.add_argument(
        '--data',
        type=Path,
        default=ROOT / 'data/ablation',
        help='folder of the drawn images (default: data/ablation)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=SettingsAction,
        default={},
        help='settings of all runs that override the configs, for trials; '
        'they are a part of the protocol',
    )
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error(f'--jobs: expected at least 1, got {args.jobs}')
    for name in ('work_dir', 'results', 'data'):
        setattr(args, name, getattr(args, name).resolve())
    return args


def call(log: Path, env: dict, tool: str, *args: str) -> None:
    """Run one of the project's tools, its output in a log.

    Raises:
        SystemExit: If it fails, with the end of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('a') as out:
        # What the files that this process has locked are to the children,
        # too: they may outlive it.
        process = subprocess.Popen(
            [sys.executable, f'tools/{tool}', *args],
            cwd=ROOT,
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
            close_fds=False,
        )
        _RUNNING.add(process)
        code = process.wait()
        _RUNNING.discard(process)
    if code:
        tail = ''.join(log.read_text(errors='replace').splitlines(True)[-15:])
        raise SystemExit(f'tools/{tool} failed with status {code}; the end of {log}:\n{tail}')


_RUNNING: Set[subprocess.Popen] = set()


class Stop:
    """Pass SIGTERM and Ctrl-C on to the trainings, which then save."""

    def __enter__(self) -> 'Stop':
        self.asked = False
        self._former = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.asked = True
        for process in list(_RUNNING):
            process.send_signal(signal.SIGTERM)


def check_base(path: Path, cfg: Config) -> str:
    """Compare the base with the network that is to start from it.

    Args:
        path (Path): The checkpoint.
        cfg (Config): Of the regular network.

    Returns:
        str: The file's SHA-256.

    Raises:
        ConfigError: If there is no such file, or its weights have other names
            or shapes.
        DamagedCheckpointError, UnsafeCheckpointError: If it is no checkpoint.
    """
    if not path.is_file():
        raise ConfigError(
            f'{path}: expected the checkpoint of the pretrained base, found '
            f'no such file. Correct {BASE_FILE}, or name the file by --base.'
        )
    content = load_checkpoint_file(str(path), 'cpu')
    found = {
        name: tuple(value.shape)
        for name, value in content.get('state_dict', content).items()
        if hasattr(value, 'shape')
    }
    register_all_modules(init_default_scope=True)
    expected = {
        name: tuple(value.shape) for name, value in MODELS.build(cfg.model).state_dict().items()
    }
    differing = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    if differing:
        name = differing[0]
        raise ConfigError(
            f'{path}: expected the weights of the network of {REGULAR}, found '
            f'{len(differing)} of another name or shape, such as {name} '
            f'({found.get(name, "missing")} instead of '
            f'{expected.get(name, "none")}). Name the checkpoint of that '
            'network by --base.'
        )
    return file_sha256(str(path))


def draw_samples(args: argparse.Namespace, env: dict) -> Dict[str, Path]:
    """Draw the images of all phases, unless they are there.

    Returns:
        dict[str, Path]: The folder to test on by phase; that of the sweep
        also has the images to train on.
    """
    folders = {phase: args.data / phase for phase in protocol.TEST}
    for phase, test in protocol.TEST.items():
        train = protocol.TRAIN['images'] if phase == 'sweep' else 0
        print(f'Drawing {train + test["images"]} images into {folders[phase]}', flush=True)
        call(
            args.work_dir / 'samples.txt',
            env,
            'dataset/make_sample.py',
            str(folders[phase]),
            '--seed',
            str(test['seed']),
            '--size',
            str(protocol.IMAGE_SIZE),
            '--train',
            str(train),
            '--val',
            str(test['images']),
        )
    return folders


def describe_protocol(
    phase: str, base: str, cfg: Config, folders: Dict[str, Path], options: dict
) -> dict:
    """What all results files of a phase have in common.

    Args:
        phase (str): 'sweep' or 'final'.
        base (str): SHA-256 of the base.
        cfg (Config): Of the regular network.
        folders (dict[str, Path]): From :func:`draw_samples`.
        options (dict): Settings that override the configs.

    Returns:
        dict: As JSON has it.
    """

    def describe(name: str, sample: dict) -> dict:
        record = json.loads((folders[name] / 'sample.json').read_text())
        return dict(sample, size=protocol.IMAGE_SIZE, sha256=record['sha256'])

    return json.loads(
        json.dumps(
            dict(
                base_sha256=base,
                train=describe('sweep', protocol.TRAIN),
                test=describe(phase, protocol.TEST[phase]),
                schedule=dict(
                    max_iters=cfg.train_cfg.max_iters,
                    batch_size=cfg.train_dataloader.batch_size,
                    norm_eval=cfg.model.norm_eval,
                    optim_wrapper=cfg.optim_wrapper.to_dict(),
                    param_scheduler=[each.to_dict() for each in cfg.param_scheduler],
                ),
                cfg_options=options,
            )
        )
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep others out for as long as this process or one that it started
    lives.

    Raises:
        ConfigError: If another one is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / 'lock', os.O_CREAT | os.O_RDWR)
    os.set_inheritable(file, True)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f'{folder}: another tools/ablation.py, or a training that it '
            'started, is still at work there. Wait for it or end it, or name '
            'another --work-dir.'
        ) from None
    else:
        yield
    finally:
        os.close(file)


def keep_protocol(folder: Path, expected: dict) -> None:
    """Write the protocol beside the trainings; compare with what is there.

    Raises:
        ConfigError: If the folder holds trainings of another protocol.
    """
    file = folder / 'protocol.json'
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_record(str(file), dict(protocol=expected))
        return
    found = json.loads(file.read_text())['protocol']
    if found != expected:
        name, old, new = offsets_tables.first_difference(found, expected)
        raise ConfigError(
            f'{folder}: holds trainings of another protocol: {name} is {old} '
            f'there and {new} now. Name another --work-dir (and --results), '
            'or move it away.'
        )


def read_scalars(work_dir: Path) -> Dict[int, dict]:
    """What a training logged, by iteration; of what it did again after a
    stop, the later."""
    steps: Dict[int, dict] = {}
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # cut short by a kill
                continue
            steps.setdefault(record['step'], {}).update(record)
    return dict(sorted(steps.items()))


def summarize_training(scalars: Dict[int, dict]) -> dict:
    """Time, offsets and a short curve of a training.

    Args:
        scalars (dict[int, dict]): From :func:`read_scalars`.

    Returns:
        dict: ``training_minutes``; ``offsets``, mean and largest of every
        layer at the end, in cells; ``records_outside``, how many records had
        offsets that left their map, of how many ``records``; ``curve``.
    """
    records = [(iteration, record) for iteration, record in scalars.items() if 'time' in record]
    interval = records[0][0]  # each record has the mean over its iterations
    layers = {name.split('/')[1] for name in records[-1][1] if name.endswith('/mean')}
    step = max(1, len(records) // CURVE_POINTS)
    curve = []
    for iteration, record in records[step - 1 :: step]:
        point = dict(iteration=iteration, loss=round(record['loss'], 4))
        if layers:
            point['offset_mean'] = round(
                mean(record[f'offsets/{each}/mean'] for each in layers), 4
            )
            point['offset_max'] = round(max(record[f'offsets/{each}/max'] for each in layers), 4)
        curve.append(point)
    return dict(
        training_minutes=round(sum(record['time'] for _, record in records) * interval / 60, 2),
        offsets={
            each: {
                kind: round(records[-1][1][f'offsets/{each}/{kind}'], 4)
                for kind in ('mean', 'max')
            }
            for each in sorted(layers)
        },
        records=len(records),
        records_outside=sum(record.get('offsets/outside', 0) > 0 for _, record in records),
        curve=curve,
    )


def execute(
    run: Run, args: argparse.Namespace, env: dict, folders: Dict[str, Path], shared: dict
) -> str:
    """Train, test and write the results file; returns what to print."""
    work_dir = args.work_dir / run.phase / run.name
    log = work_dir / 'output.txt'
    settings = {**run.settings, **args.cfg_options}
    options = [f'{key}={value}'.replace(' ', '') for key, value in settings.items()]
    # Room for a resume, and no test before the one that counts.
    training = [
        f'load_from={args.base}',
        'default_hooks.checkpoint.interval=250',
        'default_hooks.checkpoint.max_keep_ckpts=1',
        'train_cfg.val_begin=1000000000',
        *options,
    ]
    call(
        log,
        dict(env, BASE_SAMPLE_ROOT=str(folders['sweep'])),
        'train.py',
        run.config,
        '--work-dir',
        str(work_dir),
        '--seed',
        str(run.seed),
        '--resume',
        '--cfg-options',
        *training,
    )
    checkpoint = (work_dir / 'last_checkpoint').read_text()
    tested = work_dir / 'test/metrics.json'
    call(
        log,
        dict(env, BASE_SAMPLE_ROOT=str(folders[run.phase])),
        'test.py',
        run.config,
        checkpoint,
        '--json',
        str(tested),
        '--work-dir',
        str(tested.parent),
        '--cfg-options',
        *options,
    )
    metrics = json.loads(tested.read_text())
    origin = metrics.pop('run')
    metrics = {name: math.nan if value is None else value for name, value in metrics.items()}
    summary = summarize_training(read_scalars(work_dir))
    write_results(
        str(args.results / run.phase / f'{run.name}.json'),
        metrics,
        dict(
            origin,
            command=describe_command()['command'],
            condition=run.condition.name,
            rate=run.rate,
            settings=run.settings,
            protocol=shared,
            test_minutes=round(origin['seconds'] / 60, 2),
            **summary,
        ),
    )
    found = ', '.join(
        f'{task} {metrics[f"{task}_AP"]:.2f}' for task in TASKS if f'{task}_AP' in metrics
    )
    return (
        f'{summary["training_minutes"]:.1f} min of training, '
        f'{origin["seconds"] / 60:.1f} of test; AP {found}'
    )


def execute_all(
    runs: List[Run],
    args: argparse.Namespace,
    env: dict,
    folders: Dict[str, Path],
    shared: dict,
    stop: Stop,
) -> None:
    """Go through the runs, several at a time, with progress.

    Raises:
        SystemExit: After the last run if some failed; or with status 75, when
            the runs have saved, if a signal asked to stop.
    """
    folder = args.results / runs[0].phase
    todo = [run for run in runs if not (folder / f'{run.name}.json').exists()]
    print(
        f'{runs[0].phase}: {len(runs)} runs, {len(runs) - len(todo)} of them finished before',
        flush=True,
    )
    start, failures = time.perf_counter(), []

    def start_run(run: Run) -> str:
        if stop.asked:
            raise SystemExit(EX_TEMPFAIL)
        begin = time.perf_counter()
        text = execute(run, args, env, folders, shared)
        return f'{text}; {(time.perf_counter() - begin) / 60:.1f} min in all'

    with ThreadPoolExecutor(args.jobs) as pool:
        futures = {pool.submit(start_run, run): run for run in todo}
        for done, future in enumerate(as_completed(futures), 1):
            name = futures[future].name
            try:
                text = future.result()
            except SystemExit as error:
                if not stop.asked:
                    failures.append(f'{name}: {error}')
                text = 'stopped' if stop.asked else f'failed: {error}'
            spent = (time.perf_counter() - start) / 60
            left = spent / done * (len(todo) - done)
            print(f'[{done}/{len(todo)}] {name}: {text}; about {left:.0f} min left', flush=True)
    if stop.asked:
        print('Stopped; go on by the same command.')
        raise SystemExit(EX_TEMPFAIL)
    if failures:
        raise SystemExit(
            f'{len(failures)} runs failed; the same command '
            'tries them again.\n' + '\n'.join(failures)
        )


def choose(folder: Path, shared: dict) -> Optional[Path]:
    """Write the rates that the sweep's results files choose.

    Args:
        folder (Path): Of all results files.
        shared (dict): The sweep's protocol.

    Returns:
        Path, optional: The file; None while runs are missing.
    """
    runs = offsets_tables.load_runs(folder / 'sweep', shared)
    expected = protocol.sweep_runs()
    if any(run.name not in runs for run in expected):
        return None
    scores: Dict[str, Dict[float, list]] = {}
    for run in expected:
        by_rate = scores.setdefault(run.condition.name, {})
        by_rate.setdefault(run.rate, []).append(
            mean(runs[run.name][f'{task}_AP'] for task in TASKS)
        )
    means = {
        name: {rate: mean(values) for rate, values in by_rate.items()}
        for name, by_rate in scores.items()
    }
    file = folder / 'choice.json'
    content = dict(
        rule=protocol.RULE,
        rates=protocol.choose_rates(means),
        mean_AP={
            name: {f'{rate:g}': round(value, 4) for rate, value in by_rate.items()}
            for name, by_rate in means.items()
        },
        protocol=shared,
    )
    if file.is_file():
        before = json.loads(file.read_text())
        before.pop('run', None)
        if before == content:
            return file
    write_record(str(file), content)
    return file


def read_choice(folder: Path, base: str) -> Dict[str, float]:
    """Read the rates that the sweep chose.

    Raises:
        ConfigError: If there is no choice, or it is of another base or of
            other conditions.
    """
    file = folder / 'choice.json'
    if not file.is_file():
        raise ConfigError(
            f'{file}: expected the rates that the sweep chose, found no such '
            'file. Run tools/ablation.py sweep first.'
        )
    content = offsets_tables.read_json(file)
    found = (content.get('protocol') or {}).get('base_sha256')
    if found != base:
        raise ConfigError(
            f'{file}: expected rates chosen with the base of SHA-256 '
            f'{base[:12]}, found {str(found)[:12]}. Repeat the sweep with this '
            'base and another --results, or name the other base by --base.'
        )
    rates = content.get('rates')
    expected = {condition.rate_from for condition in protocol.CONDITIONS}
    if (
        not isinstance(rates, dict)
        or rates.keys() != expected
        or not all(isinstance(rate, float) for rate in rates.values())
    ):
        raise ConfigError(
            f'{file}: rates: expected a rate for each of '
            f'{", ".join(sorted(expected))}, found {str(rates)[:200]}. Run '
            'tools/ablation.py sweep again.'
        )
    return rates


def run_phases(args: argparse.Namespace, stop: Stop) -> None:
    """Check the base, draw the images, and run what is left to do."""
    cfg = read_config(ROOT / REGULAR, args.cfg_options)
    args.base = (args.base or ROOT / Config.fromfile(ROOT / BASE_FILE).load_from).resolve()
    base = check_base(args.base, cfg)
    env = dict(os.environ)
    if not torch.cuda.is_available():
        env['OMP_NUM_THREADS'] = '1'
    folders = draw_samples(args, env)
    phases = ('sweep', 'final') if args.phase == 'all' else (args.phase,)
    for phase in phases:
        runs = (
            protocol.sweep_runs()
            if phase == 'sweep'
            else protocol.final_runs(read_choice(args.results, base))
        )
        runs = [run for run in runs if run.condition.name in args.conditions]
        if not runs:
            continue
        shared = describe_protocol(phase, base, cfg, folders, args.cfg_options)
        offsets_tables.load_runs(args.results / phase, shared)
        keep_protocol(args.work_dir / phase, shared)
        execute_all(runs, args, env, folders, shared, stop)
        if phase == 'sweep':
            file = choose(args.results, shared)
            print(
                f'Rates: {file}'
                if file
                else 'No rates are chosen before all of the sweep is done.'
            )


@explained_errors()
def main(argv: Optional[List[str]] = None) -> int:
    args = parse_args(argv)
    with locked(args.work_dir), Stop() as stop:
        run_phases(args, stop)
    for name, text in offsets_tables.sections(args.results).items():
        print(f'\n{name}\n\n{text}')
    print(
        f'Results files: {args.results}; python '
        'tools/docs/build_docs.py writes docs/offsets.md from those in '
        'docs/results/offsets'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
