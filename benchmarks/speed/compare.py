#!/usr/bin/env python
r"""Compare latency and memory of training and inference with other frameworks.

    python -m benchmarks.speed.compare --json docs/results/performance/speed-cpu.json \
        --baseline-python PYTHON --detectron2 CHECKOUT

Every baseline has a worker process of its own, which idles while another one is timed. Each
round times every baseline once, and the ratio of two is the median of the rounds' ratios. All
get the same synthetic images (4:3, not resized) and people and, where they should give the same
results, the same weights. benchmarks/speed/parts.py lists who is compared with whom. Baselines
that are not installed are left out and named in the results file.

The results file is written after each part; with --only it keeps the other parts. SIDE is the
shorter side of the images, TASK is ``predict-1`` or ``predict-8`` (inference of 1 or 8 images
with 20 detections each) or ``step-2`` (a training step of 2 images with 4 people each); 8
images are measured at the first side only::

    parts: by name
      about, reference, score_threshold: as in parts.py
      device: cpu or cuda; rounds: number of rounds
      weights: the layout that they were drawn in, and the seed
      not_installed: {BASELINE: the missing module}
      models: {BASELINE: {baseline, options, prediction, device, threads, versions}}
      outputs: {SIDE: {BASELINE: differences from the reference, see agreement.py}}
      tasks: {TASK: {SIDE: {BASELINE: {
        seconds: of each round, median,
        ratio: to the reference (below 1 is faster),
        peak_bytes, peak_of_task: see Baseline.measure_memory,
        detections: per image (predict), loss (step)}}}}
      stages: {BASELINE: {TASK: {SIDE: see stages.measure_stages}}}
      run: command, commit, date, machine and versions
    run: of the last command
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
from contextlib import ExitStack, redirect_stdout
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.speed.agreement import differences
from benchmarks.speed.baselines.base import SEED
from benchmarks.speed.client import ROOT, WorkerProcess
from benchmarks.speed.inputs import image_names
from benchmarks.speed.parts import PARTS, Part
from benchmarks.speed.rounds import compare_pairs, run_rounds
from multitask_refine.engine import describe_command, write_record

DETECTIONS = 20
STAGE_ROUNDS = 3  # at most: profiling is slow, and no ratio needs it
TASKS = {'predict-1': ('predict', 1), 'predict-8': ('predict', 8), 'step-2': ('step', 2)}

log = partial(print, file=sys.stderr, flush=True)


def start_workers(
    part: Part, args: argparse.Namespace, stack: ExitStack
) -> tuple[dict[str, WorkerProcess], dict]:
    """Start the worker processes of a part and build their baselines, the reference first.

    Returns:
        The workers by the name of the baseline, without those not installed; and the fields
        ``score_threshold``, ``weights``, ``not_installed`` and ``models`` of the results.

    Raises:
        RuntimeError: If the reference's weights cannot be converted.
    """
    workers: dict[str, WorkerProcess] = {}
    models, not_installed, weights = {}, {}, None
    layout, threshold = part.reference if part.converter else 'own', part.score_threshold
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    # The reference first: with a converter, the others get its weights.
    for name in sorted(part.baselines, key=lambda name: name != part.reference):
        spec = part.baselines[name]
        search_path = os.pathsep.join(filter(None, [str(ROOT / 'projects'), args.detectron2]))
        # PYTHONPATH is replaced: this environment's packages would hide those of the other one.
        environment = (args.baseline_python, search_path) if spec.is_external else ()
        worker = stack.enter_context(WorkerProcess(name, *environment))
        options = dict(
            spec.options,
            device=args.device,
            detections=DETECTIONS,
            score_threshold=threshold,
            weights=weights,
        )
        answer = worker.ask('build', baseline=spec.baseline, options=options)
        if 'not_installed' in answer:
            not_installed[name] = answer['not_installed']
            log(f'  {name} is left out: {not_installed[name]} is not installed')
            if part.converter and name == part.reference:
                # The others draw weights, with which some detections have low scores.
                layout, threshold = 'own', 0.0
            continue
        workers[name] = worker
        models[name] = dict(
            baseline=spec.baseline, options=spec.options, prediction=spec.prediction, **answer
        )
        if part.converter and name == part.reference:
            source, weights = str(folder / 'source.pth'), str(folder / 'converted.pth')
            worker.ask('save_weights', path=source)
            config = ROOT / 'configs' / part.baselines['multitask_refine'].options['config']
            with redirect_stdout(sys.stderr):  # converters print what they rename
                convert = importlib.import_module(part.converter).main
                status = convert([str(config), source, weights])
            if status:
                raise RuntimeError(
                    f'{part.converter} cannot convert the weights of {name}; the reason is above'
                )
    return workers, dict(
        score_threshold=threshold,
        weights=dict(layout=layout, seed=SEED),
        not_installed=not_installed,
        models=models,
    )


def measure_task(
    workers: dict[str, WorkerProcess],
    reference: str,
    task: str,
    images: list,
    rounds: int,
    detections: int | None = DETECTIONS,
) -> dict[str, dict]:
    """Warm up, and measure memory, latency and ratios of the baselines.

    ``detections`` is how many each image must have; with None they only are in the result.

    Raises:
        ValueError: If an image has another number of detections than expected, as baselines
            would do different work.
    """
    found = {}
    for name, worker in workers.items():
        found[name] = worker.ask('measure', task=task, images=images)  # the warm-up
        del found[name]['seconds']
        counts = found[name].get('detections', [detections])
        if detections is not None and set(counts) != {detections}:
            raise ValueError(
                f'{name}: expected {detections} detections of each image, got {counts}'
            )
        # In a run of its own: resetting and reading the peak takes time.
        found[name] |= worker.ask('measure_memory', task=task, images=images)
    calls = {
        name: lambda worker=worker: worker.ask('measure', task=task, images=images)['seconds']
        for name, worker in workers.items()
    }
    compared = compare_pairs(run_rounds(calls, rounds), reference)
    return {name: compared[name] | found[name] for name in workers}


def compare_outputs(
    workers: dict[str, WorkerProcess], reference: str, side: int
) -> dict[str, dict]:
    """Compare the persons that the baselines detect with the reference's."""
    (image,) = image_names(side, 1)
    arrays = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, worker) in enumerate(workers.items()):
            path = f'{folder}/{number}.npz'
            worker.ask('save_detections', image=image, path=path)
            with np.load(path) as file:
                arrays[name] = dict(file)  # NpzFile reads lazily, and the folder is temporary
    expected = arrays.pop(reference)
    return {name: differences(expected, found) for name, found in arrays.items()}


def measure_part(part: Part, args: argparse.Namespace) -> dict:
    """Measure everything of a part: its entry in the results file."""
    outputs: dict[str, dict] = {}
    tasks: dict[str, dict] = {title: {} for title in part.tasks}
    stages: dict[str, dict] = {}
    with ExitStack() as stack:
        workers, description = start_workers(part, args, stack)
        for side in args.sides:
            is_compared = part.same_outputs and part.reference in workers
            outputs[str(side)] = (
                compare_outputs(workers, part.reference, side) if is_compared else {}
            )
            for title in part.tasks:
                task, count = TASKS[title]
                # Large batches take minutes per round on the CPU.
                if count == 8 and side != args.sides[0]:
                    continue
                images = image_names(side, count)
                chosen = {
                    name: worker
                    for name, worker in workers.items()
                    if task in part.baselines[name].tasks
                }
                found = measure_task(chosen, part.reference, task, images, args.rounds)
                tasks[title][str(side)] = found
                times = (f'{name} {each["median"]:.3f} s' for name, each in found.items())
                log(f'  {title}, {side} pixels: {", ".join(times)}')
                rounds = min(args.rounds, STAGE_ROUNDS)
                for name, worker in chosen.items():
                    if part.baselines[name].has_stages and count < 8:
                        profile = worker.ask(
                            'profile_stages', task=task, images=images, rounds=rounds
                        )
                        profiles = stages.setdefault(name, {}).setdefault(title, {})
                        profiles[str(side)] = profile
    return dict(
        about=part.about,
        reference=part.reference,
        device=args.device,
        rounds=args.rounds,
        **description,
        outputs=outputs,
        tasks=tasks,
        stages=stages,
        run=describe_command(),
    )


def main(argv: list[str] | None = None) -> int:
    """Measure the chosen parts and write them into the results file."""
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
        help='shorter sides of the images in pixels (default: 480 800)',
    )
    parser.add_argument(
        '--rounds', type=int, default=5, help='number of rounds (default: %(default)s)'
    )
    parser.add_argument(
        '--baseline-python',
        default=sys.executable,
        help='interpreter with torchvision and the dependencies of Detectron2 (default: this one)',
    )
    parser.add_argument(
        '--detectron2',
        type=lambda path: str(Path(path).resolve()),
        metavar='CHECKOUT',
        help='checkout of Detectron2, if --baseline-python does not have it',
    )
    parser.add_argument('--json', type=Path, required=True, help='results file')
    args = parser.parse_args(argv)
    for number, name in enumerate(args.only, 1):
        log(f'[{number}/{len(args.only)}] {name}')
        part = measure_part(PARTS[name], args)
        parts = json.loads(args.json.read_text())['parts'] if args.json.exists() else {}
        write_record(args.json, dict(parts={**parts, name: part}))
    print(f'Results file: {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
