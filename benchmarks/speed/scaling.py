#!/usr/bin/env python
"""Measure how latency and memory of inference scale with images, people and pixels.

    python -m benchmarks.speed.scaling --json docs/results/performance/scaling-cpu.json

The paper's network without refinement and with all of it (RB+H), both with PyTorch's 3x3
convolutions, are timed in turns, in worker processes of their own. ``series`` in the results file
has, for the number of ``images`` in a batch, of ``people`` per image and of pixels of the shorter
``side``, what compare.measure_task returns, by that number and by network; ``part`` is the part
of parts.py that the networks are of.
"""

import argparse
import sys
from contextlib import ExitStack
from typing import NamedTuple

from benchmarks.speed.client import WorkerProcess
from benchmarks.speed.compare import measure_task
from benchmarks.speed.inputs import image_names
from benchmarks.speed.parts import PARTS
from multitask_refine.engine import write_record

PART = 'refinement-usual'  # by Winograd's method regular alone would be faster
NETWORKS = ('regular', 'rb_h')


class Point(NamedTuple):
    """Size of a measurement: images in a batch, people per image, pixels of the shorter side."""

    images: int = 1
    people: int = 20
    side: int = 480


SERIES = dict(
    images=[Point(images=count) for count in (1, 2, 4, 8)],
    people=[Point(people=count) for count in (1, 5, 20, 50, 100)],
    side=[Point(side=side) for side in (320, 480, 640, 800, 1280)],
)


def measure_point(point: Point, device: str, rounds: int) -> dict[str, dict]:
    """Measure both networks at one size, with the size's limit of detections."""
    with ExitStack() as stack:
        workers = {}
        for name in NETWORKS:
            spec = PARTS[PART].baselines[name]
            workers[name] = stack.enter_context(WorkerProcess(name))
            options = dict(spec.options, device=device, detections=point.people)
            workers[name].ask('build', baseline=spec.baseline, options=options)
        images = image_names(point.side, point.images)
        return measure_task(workers, NETWORKS[0], 'predict', images, rounds, point.people)


def main(argv: list[str] | None = None) -> int:
    """Measure all series; the results file is written after each point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument(
        '--rounds', type=int, default=3, help='number of rounds (default: %(default)s)'
    )
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    series: dict[str, dict] = {}
    for name, points in SERIES.items():
        for point in points:
            found = measure_point(point, args.device, args.rounds)
            series.setdefault(name, {})[str(getattr(point, name))] = found
            times = {network: numbers['median'] for network, numbers in found.items()}
            print(point, times, file=sys.stderr, flush=True)
            # After each point, as all of them take long on a CPU.
            content = dict(device=args.device, rounds=args.rounds, part=PART, series=series)
            write_record(args.json, content)
    print(f'Results file: {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
