#!/usr/bin/env python
"""Time training and inference beside other frameworks' on the same weights.

    python -m benchmarks.speed.compare --json docs/results/performance/speed-cpu.json \\
        --baseline-python PYTHON --detectron2 CHECKOUT

Every baseline lives in a process of its own, which is idle while another is
timed, and each round times each of them once: the ratio of two is the median
of the rounds' ratios. All get the same drawn images (4:3, not resized), the
same people and, where they are to give the same results, the same weights.
``benchmarks/speed/parts.py`` says who is compared with whom. A baseline that is
not installed is named in the file and left out.

The results file is written after each part; with ``--only`` the other parts
stay in it. Its layout, with BASELINE a name in ``parts.py``, SIDE the images'
short side, and TASK ``predict-1`` or ``predict-8`` (inference of 1 or 8
images, 20 detections each) or ``step-2`` (a training step of 2 images with 4
people each); the 8 images are measured at the first side alone::

    parts: by name
      about, reference, score_threshold: as in parts.py
      device: cpu or cuda; rounds: how many
      weights: whose layout they were drawn in, and the seed
      not_installed: {BASELINE: the module that is missing}
      entrants: {BASELINE: {baseline, options, prediction, device, threads,
        versions}}
      outputs: {SIDE: {BASELINE: how far the persons of the first image are
        from the reference's; see agreement.py}}
      tasks: {TASK: {SIDE: {BASELINE: {
        seconds: of each round, median,
        ratio: to the reference's seconds (below 1 is faster),
        peak_bytes: of memory, of the process on the CPU, of tensors on CUDA,
        peak_of_task: whether of this task alone (else since the start),
        detections: of each image (predict),
        foreground: RoIs with a person of each image (step), loss}}}}
      stages: {BASELINE: {TASK: {SIDE: {
        rates: {operations_per_second, bytes_per_second} of the machine,
        stages: {STAGE: {seconds, operations, bytes, floor_seconds,
          ratio: seconds to the floor's, null where nothing is counted}}}}}}
      run: command, commit, date, machine and versions
    run: of the last command

``seconds`` of a stage do not include those of stages within it; ``rest`` is
what is in none. The floor of ``backward`` is of its operations alone.
"""

import argparse
import contextlib
import importlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.speed.agreement import differences
from benchmarks.speed.client import ROOT, Process
from benchmarks.speed.inputs import image_names
from benchmarks.speed.parts import PARTS, BaselineSpec, Part
from benchmarks.speed.rounds import compare_pairs, run_rounds
from multitask_refine.engine import describe_command, write_record

DETECTIONS = 20
SEED = 7
STAGE_ROUNDS = 3  # at most; these take long and are no ratios
TASKS = {'predict-1': ('predict', 1), 'predict-8': ('predict', 8), 'step-2': ('step', 2)}


class Running(NamedTuple):
    """Running processes of the baselines of a part.

    Attributes:
        processes: By the baseline's name; without those not installed.
        about: Description of each, as its process reports it.
        not_installed: The missing module of each that is left out.
        weights: Whose layout they were drawn in.
        score_threshold: Detections below are dropped.
    """

    processes: dict[str, Process]
    about: dict[str, dict]
    not_installed: dict[str, str]
    weights: str
    score_threshold: float


def log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def start_baselines(part: Part, args: argparse.Namespace, stack: contextlib.ExitStack) -> Running:
    """Start and build the baselines, the reference first: where there is a
    converter, the others get its weights."""
    running = Running(
        {}, {}, {}, part.reference if part.converter else 'own', part.score_threshold
    )
    names = sorted(part.baselines, key=lambda name: name != part.reference)
    weights = None
    for name in names:
        _start_baseline(name, part.baselines[name], weights, running, args, stack)
        if part.converter and name == part.reference:
            if name in running.processes:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                weights = convert(part, running.processes[name], Path(folder))
            else:
                running = running._replace(weights='own', score_threshold=0.0)
    return running


def _start_baseline(
    name: str,
    spec: BaselineSpec,
    weights: str | None,
    running: Running,
    args: argparse.Namespace,
    stack: contextlib.ExitStack,
) -> None:
    process = Process(name, *_environment(spec, args))
    stack.enter_context(process)
    options = dict(
        spec.options,
        device=args.device,
        detections=DETECTIONS,
        score_threshold=running.score_threshold,
        weights=weights,
    )
    answer = process.ask('build', baseline=spec.baseline, options=options)
    if 'not_installed' in answer:
        log(f'  {name} is left out: {answer["not_installed"]} is not installed')
        running.not_installed[name] = answer['not_installed']
        return
    running.processes[name] = process
    running.about[name] = dict(
        baseline=spec.baseline, options=spec.options, prediction=spec.prediction, **answer
    )


def _environment(spec: BaselineSpec, args: argparse.Namespace) -> tuple[str, str | None]:
    if spec.elsewhere:
        return args.baseline_python, args.detectron2
    return sys.executable, None


def convert(part: Part, reference: Process, folder: Path) -> str:
    """The reference's weights in this project's layout."""
    source, target = str(folder / 'source.pth'), str(folder / 'converted.pth')
    reference.ask('save_weights', path=source)
    configs = ROOT / 'configs'
    config = str(configs / part.baselines['ours'].options['config'])
    main = importlib.import_module(part.converter).main
    with contextlib.redirect_stdout(sys.stderr):
        status = main([config, source, target])
    if status:
        raise RuntimeError(
            f'{part.converter} cannot convert the weights of {part.reference}; the reason is above'
        )
    return target


def warm_up(name: str, process: Process, task: str, images: list) -> dict:
    """Run a task twice, the second time for its memory.

    Raises:
        ValueError: If an image has not as many detections as all should.
    """
    found = process.ask(task, images=images)
    counts = found.get('detections', [DETECTIONS])
    if set(counts) != {DETECTIONS}:
        raise ValueError(f'{name}: expected {DETECTIONS} detections of each image, got {counts}')
    memory = process.ask('memory', task=task, images=images)
    del found['seconds']
    return dict(found, peak_bytes=memory['bytes'], peak_of_task=memory['of_task'])


def time_task(
    running: Running, part: Part, task: str, images: list, rounds: int
) -> dict[str, dict]:
    """Seconds, ratios, memory and checks of the baselines that do a task."""
    chosen = {
        name: process
        for name, process in running.processes.items()
        if task in part.baselines[name].tasks
    }
    checks = {name: warm_up(name, process, task, images) for name, process in chosen.items()}

    def call(process: Process) -> Callable[[], float]:
        return lambda: process.ask(task, images=images)['seconds']

    seconds = run_rounds({name: call(process) for name, process in chosen.items()}, rounds)
    compared = compare_pairs(seconds, part.reference)
    return {name: dict(compared[name], **checks[name]) for name in chosen}


def compare_outputs(running: Running, part: Part, side: int) -> dict[str, dict]:
    """How far the baselines' persons are from the reference's."""
    if not part.same_outputs or part.reference not in running.processes:
        return {}
    (image,) = image_names(side, 1)
    arrays = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, process in running.processes.items():
            path = f'{folder}/{len(arrays)}.npz'
            process.ask('outputs', image=image, path=path)
            with np.load(path) as file:
                arrays[name] = dict(file)
    expected = arrays.pop(part.reference)
    return {name: differences(expected, found) for name, found in arrays.items()}


def time_stages(running: Running, part: Part, args: argparse.Namespace) -> dict:
    """By baseline, task and side, for those whose stages are known."""
    result: dict[str, dict] = {}
    for name, process in running.processes.items():
        if not part.baselines[name].stages:
            continue
        result[name] = {
            title: {
                str(side): process.ask(
                    'stages',
                    task=task,
                    images=image_names(side, count),
                    rounds=min(args.rounds, STAGE_ROUNDS),
                )
                for side in args.sides
            }
            for title, (task, count) in TASKS.items()
            if title in part.tasks and count < 8
        }
        log(f'  stages of {name} done')
    return result


def measure(part: Part, args: argparse.Namespace) -> dict:
    """All numbers of a part."""
    with contextlib.ExitStack() as stack:
        running = start_baselines(part, args, stack)
        outputs = {str(side): compare_outputs(running, part, side) for side in args.sides}
        tasks: dict[str, dict] = {}
        for title in part.tasks:
            task, count = TASKS[title]
            for side in args.sides[:1] if count == 8 else args.sides:
                times = time_task(running, part, task, image_names(side, count), args.rounds)
                tasks.setdefault(title, {})[str(side)] = times
                log(
                    f'  {title}, {side} pixels: '
                    + ', '.join(
                        f'{name} {numbers["median"]:.3f} s' for name, numbers in times.items()
                    )
                )
        return dict(
            about=part.about,
            reference=part.reference,
            score_threshold=running.score_threshold,
            device=args.device,
            rounds=args.rounds,
            weights=dict(layout=running.weights, seed=SEED),
            not_installed=running.not_installed,
            entrants=running.about,
            outputs=outputs,
            tasks=tasks,
            stages=time_stages(running, part, args),
            run=describe_command(),
        )


def save_part(path: str, name: str, content: dict) -> None:
    """Put a part into the results file, beside those that it has."""
    parts = {}
    if Path(path).exists():
        parts = json.loads(Path(path).read_text())['parts']
    parts[name] = content
    write_record(path, dict(parts=parts))


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--only',
        nargs='+',
        choices=list(PARTS),
        default=list(PARTS),
        metavar='NAME',
        help=f'parts: {", ".join(PARTS)}',
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument(
        '--sides',
        type=int,
        nargs='+',
        default=[480, 800],
        help='short sides of the images in pixels',
    )
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument(
        '--baseline-python',
        default=sys.executable,
        help='has torchvision, and what Detectron2 needs',
    )
    parser.add_argument(
        '--detectron2',
        type=lambda path: str(Path(path).resolve()),
        help='a checkout of it, where it is not installed',
    )
    parser.add_argument('--json', required=True, help='results file')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    for number, name in enumerate(args.only, 1):
        log(f'[{number}/{len(args.only)}] {name}')
        save_part(args.json, name, measure(PARTS[name], args))
    print(f'{args.json} written')
    return 0


if __name__ == '__main__':
    sys.exit(main())
