#!/usr/bin/env python
"""Ablation of the learned offsets: further training of a pretrained base under many conditions.

`sweep` trains with several learning rates and chooses among them on a validation split of its
own; `final` trains every condition with the chosen rates and tests it on images that nothing
was chosen on. projects/multitask_refine/analysis/ablation/protocol.py defines conditions, data,
seeds and the selection rule; docs/offsets-experiment.md has the results.

When restarted, it skips finished runs and resumes the others. SIGTERM and Ctrl-C let the runs
write a checkpoint first; exit status 75 then means that it is to be restarted.
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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from statistics import mean

import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config

from multitask_refine.analysis.ablation import protocol, tables
from multitask_refine.analysis.ablation.protocol import Run
from multitask_refine.analysis.results_files import read_results
from multitask_refine.engine.hooks.preemption_hook import EX_TEMPFAIL
from multitask_refine.evaluation import TASKS
from multitask_refine.utils.config import SettingsAction, read_config
from multitask_refine.utils.errors import ConfigError, explained_errors
from multitask_refine.utils.results_file import describe_command, write_record, write_results
from multitask_refine.utils.safe_checkpoint import load_checkpoint_file
from multitask_runtime.utils.files import file_sha256

ROOT = Path(__file__).resolve().parents[1]
# The config that names the base.
BASE_FILE = 'configs/_base_/base_checkpoint.py'
REGULAR = protocol.CONFIG.format('fpn-ms_regular')
CURVE_POINTS = 6
PREDICTIONS = 'predictions.json'  # in the folder of a test
# What a state dict has beside the parameters: the buffers of batch norm.
STATISTICS = ('running_mean', 'running_var', 'num_batches_tracked')


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'phase',
        nargs='?',
        choices=['sweep', 'final', 'all'],
        default='all',
        help='all runs both phases (default)',
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=1 if torch.cuda.is_available() else os.cpu_count(),
        help='number of concurrent runs (default: 1 on CUDA, else one per core)',
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
        '--base', type=Path, help=f'checkpoint of the pretrained base (default: as in {BASE_FILE})'
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs/ablation',
        help='folder of checkpoints and logs (default: work_dirs/ablation)',
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
        'they are part of the protocol',
    )
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error(f'--jobs: expected at least 1, got {args.jobs}')
    args.work_dir = args.work_dir.resolve()
    args.results = args.results.resolve()
    args.data = args.data.resolve()
    return args


_running: set[subprocess.Popen] = set()


def run_tool(log: Path, env: dict[str, str], tool: str, *args: str) -> None:
    """Run one of the project's tools.

    Args:
        log: File to append its output to.
        env: Its environment variables.
        tool: Path of the tool in tools/.
        args: Its arguments.

    Raises:
        SystemExit: If it fails, with the end of the log.
    """
    # Results files record the command: without the folder of this checkout.
    args = tuple(arg.replace(f'{ROOT}/', '') for arg in args)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('a') as out:
        # The children inherit the lock of the work dir, as they may outlive this process.
        process = subprocess.Popen(
            [sys.executable, f'tools/{tool}', *args],
            cwd=ROOT,
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
            close_fds=False,
        )
        _running.add(process)
        code = process.wait()
        _running.discard(process)
    if code:
        tail = ''.join(log.read_text(errors='replace').splitlines(True)[-15:])
        raise SystemExit(f'tools/{tool} failed with status {code}; the end of {log}:\n{tail}')


class SignalForwarder:
    """Context manager that forwards SIGTERM and Ctrl-C to the trainings, which then save.

    Attributes:
        received: Whether a signal was received.
    """

    def __enter__(self) -> 'SignalForwarder':
        self.received = False
        self._former = {
            number: signal.signal(number, self._forward)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _forward(self, number: int, frame: object) -> None:
        self.received = True
        for process in list(_running):
            process.send_signal(signal.SIGTERM)


def check_base(path: Path, cfg: Config) -> str:
    """Check that the weights of the base fit the regular model.

    Args:
        path: The checkpoint.
        cfg: Config of the regular model.

    Returns:
        SHA-256 of the file.

    Raises:
        ConfigError: If the file does not exist, or its weights have other names or shapes.
        DamagedCheckpointError, UnsafeCheckpointError: If it is not a checkpoint.
    """
    if not path.is_file():
        raise ConfigError(
            f'{path}: expected the checkpoint of the pretrained base, found '
            f'no such file. Correct {BASE_FILE}, or name the file by --base.'
        )
    content = load_checkpoint_file(path, 'cpu')
    register_all_modules(init_default_scope=True)
    found, expected = (
        {name: tuple(value.shape) for name, value in state.items() if hasattr(value, 'shape')}
        for state in (content.get('state_dict', content), MODELS.build(cfg.model).state_dict())
    )
    names = sorted(expected.keys() | found.keys())
    differing = [name for name in names if expected.get(name) != found.get(name)]
    if differing:
        name = differing[0]
        raise ConfigError(
            f'{path}: expected the weights of the model of {REGULAR}, found '
            f'{len(differing)} with another name or shape, such as {name} '
            f'({found.get(name, "missing")} instead of '
            f'{expected.get(name, "none")}). Name the checkpoint of that '
            'model by --base.'
        )
    return file_sha256(path)


def draw_samples(args: argparse.Namespace, env: dict[str, str]) -> dict[str, Path]:
    """Draw the images of all phases, unless they exist.

    Returns:
        Folder of the test images by phase; that of the sweep also has the training images.
    """
    folders = {phase: args.data / phase for phase in protocol.TEST}
    for phase, test in protocol.TEST.items():
        train = protocol.TRAIN['images'] if phase == 'sweep' else 0
        print(f'Drawing {train + test["images"]} images into {folders[phase]}', flush=True)
        options = [f'--seed={test["seed"]}', f'--size={protocol.IMAGE_SIZE}']
        options += [f'--train={train}', f'--val={test["images"]}']
        log = args.work_dir / 'samples.txt'
        run_tool(log, env, 'dataset/make_sample.py', str(folders[phase]), *options)
    return folders


def describe_protocol(
    phase: str, base: str, cfg: Config, folders: dict[str, Path], options: dict
) -> dict:
    """Describe what all results files of a phase have in common.

    Args:
        phase: ``sweep`` or ``final``.
        base: SHA-256 of the base.
        cfg: Config of the regular model.
        folders: From :func:`draw_samples`.
        options: Settings that override the configs.

    Returns:
        A JSON object.
    """

    def describe(name: str, sample: dict) -> dict:
        record = json.loads((folders[name] / 'sample.json').read_text())
        return dict(sample, size=protocol.IMAGE_SIZE, sha256=record['sha256'])

    description = dict(
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
    return json.loads(json.dumps(description))  # tuples as lists, as in results files


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a folder for as long as this process or one that it started lives.

    Raises:
        ConfigError: If another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / 'lock', os.O_CREAT | os.O_RDWR)
    os.set_inheritable(file, True)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f'{folder}: another tools/ablation.py, or a training that it '
            'started, is still running there. Wait for it, end it, or use '
            'another --work-dir.'
        ) from None
    else:
        yield
    finally:
        os.close(file)


def keep_protocol(folder: Path, expected: dict) -> None:
    """Write the protocol next to the trainings, or compare it with the one written before.

    Args:
        folder: Folder of the trainings of a phase.
        expected: From :func:`describe_protocol`.

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
        name, old, new = tables.first_difference(found, expected)
        raise ConfigError(
            f'{folder}: holds trainings of another protocol: {name} is {old} '
            f'there and {new} now. Use another --work-dir (and --results), '
            'or move the folder away.'
        )


def read_scalars(work_dir: Path) -> dict[int, dict]:
    """Read the log of a training, by iteration.

    Iterations that were repeated after a stop count once, with the later values.
    """
    steps: dict[int, dict] = {}
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # truncated when the process was killed
                continue
            steps.setdefault(record['step'], {}).update(record)
    return dict(sorted(steps.items()))


def summarize_training(scalars: dict[int, dict]) -> dict:
    """Summarize time, offsets and learning curve of a training.

    Args:
        scalars: From :func:`read_scalars`.

    Returns:
        ``training_minutes``; ``offsets``, the final mean and maximum length of every
        layer, in cells; ``records``, the number of log entries, and ``records_outside``, the
        number of those with offsets that left their map; ``curve``.
    """
    records = [(iteration, record) for iteration, record in scalars.items() if 'time' in record]
    interval = records[0][0]  # iterations that a record averages over
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
    run: Run, args: argparse.Namespace, env: dict[str, str], folders: dict[str, Path], shared: dict
) -> str:
    """Train, test and write the results file of a run.

    Args:
        run: The run.
        args: From :func:`parse_args`.
        env: Environment variables of the tools.
        folders: From :func:`draw_samples`.
        shared: From :func:`describe_protocol`.

    Returns:
        Times and AP, to be printed.
    """
    work_dir = args.work_dir / run.phase / run.name
    log, last = work_dir / 'output.txt', work_dir / 'last_checkpoint'
    settings = {**run.settings, **args.cfg_options}
    settings = [f'{key}={value}'.replace(' ', '') for key, value in settings.items()]
    # Frequent checkpoints, and no validation: only the final test counts.
    training = [
        f'load_from={args.base}',
        'default_hooks.checkpoint.interval=250',
        'default_hooks.checkpoint.max_keep_ckpts=1',
        'train_cfg.val_begin=1000000000',
    ]
    options = [f'--work-dir={work_dir}', f'--seed={run.seed}', '--resume', '--cfg-options']
    train_env = dict(env, BASE_SAMPLE_ROOT=str(folders['sweep']))
    run_tool(log, train_env, 'train.py', run.config, *options, *training, *settings)
    tested = work_dir / 'test/metrics.json'
    options = [f'--json={tested}', f'--work-dir={tested.parent}']
    # For docs/branches.md, and for the error analysis of any run.
    options += [f'--predictions={tested.parent / PREDICTIONS}', '--cfg-options', *settings]
    test_env = dict(env, BASE_SAMPLE_ROOT=str(folders[run.phase]))
    run_tool(log, test_env, 'test.py', run.config, last.read_text(), *options)
    metrics = json.loads(tested.read_text())
    test_run = metrics.pop('run')
    metrics = {name: math.nan if value is None else value for name, value in metrics.items()}
    summary = summarize_training(read_scalars(work_dir))
    test_minutes = round(test_run['seconds'] / 60, 2)
    weights = load_checkpoint_file(ROOT / last.read_text(), 'cpu')['state_dict']
    description = dict(
        test_run,
        command=describe_command()['command'],
        condition=run.condition.name,
        rate=run.rate,
        settings=run.settings,
        protocol=shared,
        parameters=sum(
            value.numel() for name, value in weights.items() if not name.endswith(STATISTICS)
        ),
        test_minutes=test_minutes,
        **summary,
    )
    write_results(str(args.results / run.phase / f'{run.name}.json'), metrics, description)
    scores = {task: metrics.get(f'{task}_AP') for task in TASKS}
    scores = ', '.join(f'{task} {ap:.2f}' for task, ap in scores.items() if ap is not None)
    return (
        f'{summary["training_minutes"]:.1f} min of training, {test_minutes:.1f} of testing; '
        f'AP {scores}'
    )


def test_base(
    phase: str, args: argparse.Namespace, env: dict[str, str], folders: dict[str, Path], base: str
) -> None:
    """Test the base itself on the images of a phase, unless it was tested before.

    Raises:
        ConfigError: If the results file is of another base than that with the SHA-256 ``base``.
    """
    file = args.results / protocol.BASE_RESULTS.format(phase)
    if file.exists():
        found = read_results(file)['run'].get('checkpoint_sha256')
        if found != base:
            raise ConfigError(
                f'{file}: run.checkpoint_sha256: expected that of the base, {base[:12]}, found '
                f'{str(found)[:12]}. Name the other base by --base, or use another --results.'
            )
        return
    work_dir = args.work_dir / 'base' / phase
    settings = [f'{key}={value}'.replace(' ', '') for key, value in args.cfg_options.items()]
    options = [f'--json={file}', f'--work-dir={work_dir}']
    options += ['--cfg-options', *settings] if settings else []
    test_env = dict(env, BASE_SAMPLE_ROOT=str(folders[phase]))
    run_tool(work_dir / 'output.txt', test_env, 'test.py', REGULAR, str(args.base), *options)


def execute_all(
    runs: list[Run],
    args: argparse.Namespace,
    env: dict[str, str],
    folders: dict[str, Path],
    shared: dict,
    signals: SignalForwarder,
) -> None:
    """Execute the runs of a phase that have no results file yet, several concurrently.

    Arguments are those of :func:`execute`; ``signals`` tells whether to stop.

    Raises:
        SystemExit: After the last run if some failed; with status 75 if a signal was received,
            after the runs have saved.
    """
    folder = args.results / runs[0].phase
    todo = [run for run in runs if not (folder / f'{run.name}.json').exists()]
    print(
        f'{runs[0].phase}: {len(runs)} runs, {len(runs) - len(todo)} of them finished before',
        flush=True,
    )
    start, failures = time.perf_counter(), []

    def start_run(run: Run) -> str:
        if signals.received:
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
                if not signals.received:
                    failures.append(f'{name}: {error}')
                text = 'stopped' if signals.received else f'failed: {error}'
            spent = (time.perf_counter() - start) / 60
            left = spent / done * (len(todo) - done)
            print(f'[{done}/{len(todo)}] {name}: {text}; about {left:.0f} min left', flush=True)
    if signals.received:
        print('Stopped; continue with the same command.')
        raise SystemExit(EX_TEMPFAIL)
    if failures:
        raise SystemExit(
            f'{len(failures)} runs failed; the same command retries them.\n' + '\n'.join(failures)
        )


def choose_rates(folder: Path, shared: dict) -> Path | None:
    """Choose the learning rates from the results of the sweep and write them.

    Args:
        folder: Folder of all results files.
        shared: The sweep's protocol.

    Returns:
        The file; None while runs are missing.
    """
    runs = tables.load_runs(folder / 'sweep', shared)
    expected = protocol.sweep_runs()
    if any(run.name not in runs for run in expected):
        return None
    scores: dict[str, dict[float, list]] = {}
    for run in expected:
        score = mean(runs[run.name][f'{task}_AP'] for task in TASKS)
        scores.setdefault(run.condition.name, {}).setdefault(run.rate, []).append(score)
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


def read_choice(folder: Path, base: str) -> dict[str, float]:
    """Read the learning rates that were chosen from the sweep.

    Args:
        folder: Folder of all results files.
        base: SHA-256 of the base.

    Returns:
        Learning rate by condition.

    Raises:
        ConfigError: If the file is missing, or of another base or of other conditions.
    """
    file = folder / 'choice.json'
    if not file.is_file():
        raise ConfigError(
            f'{file}: expected the rates that the sweep chose, found no such '
            'file. Run tools/ablation.py sweep first.'
        )
    content = tables.read_json(file)
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


def run_phases(args: argparse.Namespace, signals: SignalForwarder) -> None:
    """Check the base, draw the images, and execute the phases; ``signals`` tells when to stop."""
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
        tables.load_runs(args.results / phase, shared)
        keep_protocol(args.work_dir / phase, shared)
        test_base(phase, args, env, folders, base)
        execute_all(runs, args, env, folders, shared, signals)
        if phase == 'sweep':
            file = choose_rates(args.results, shared)
            print(
                f'Rates: {file}'
                if file
                else 'No rates are chosen before the whole sweep is finished.'
            )


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Run the experiment, and print its tables."""
    args = parse_args(argv)
    with lock_folder(args.work_dir), SignalForwarder() as signals:
        run_phases(args, signals)
    for name, text in tables.sections(args.results).items():
        print(f'\n{name}\n\n{text}')
    print(
        f'Results files: {args.results}; python '
        '-m tools.docs.build_docs writes docs/offsets-experiment.md from those in '
        'docs/results/offsets'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
