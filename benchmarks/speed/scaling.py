#!/usr/bin/env python
"""Inference as images, people and pixels grow.

    python -m benchmarks.speed.scaling --json docs/results/performance/scaling-cpu.json

The report's network without refinement and with all of it (RB+H), in
processes of their own, in turn in every round, as in benchmarks/speed/compare.py. The
results file has ``series``: of ``images`` (a batch), ``people`` (detections
of an image) and ``side`` (pixels of the short side of 4:3 images), by the
number that grows and by network: the rounds' ``seconds``, their ``median``,
``ratio`` to the network without refinement, ``peak_bytes`` of memory,
``peak_of_task``, whether of this alone, and the ``detections`` of each image.
"""

import argparse
import contextlib
import sys
from typing import NamedTuple

from benchmarks.speed.client import Process
from benchmarks.speed.inputs import image_names
from benchmarks.speed.parts import PARTS
from benchmarks.speed.rounds import compare_pairs, run_rounds
from multitask_refine.engine import write_record

NETWORKS = ('regular', 'rb_h')  # of the part "refinement"


class Point(NamedTuple):
    """One measurement's size."""

    images: int = 1
    people: int = 20
    side: int = 480


SERIES = dict(
    images=[Point(images=count) for count in (1, 2, 4, 8)],
    people=[Point(people=count) for count in (1, 5, 20, 50, 100)],
    side=[Point(side=side) for side in (320, 480, 640, 800, 1280)],
)


def start(point: Point, device: str, stack: contextlib.ExitStack) -> dict[str, Process]:
    """The networks with the point's limit of detections."""
    processes = {}
    for name in NETWORKS:
        spec = PARTS['refinement'].baselines[name]
        processes[name] = stack.enter_context(Process(name))
        processes[name].ask(
            'build',
            baseline=spec.baseline,
            options=dict(spec.options, device=device, detections=point.people),
        )
    return processes


def measure_point(point: Point, device: str, rounds: int) -> dict[str, dict]:
    """Seconds and memory of each network."""
    images = image_names(point.side, point.images)
    with contextlib.ExitStack() as stack:
        processes = start(point, device, stack)
        result = {}
        for name, process in processes.items():
            found = process.ask('predict', images=images)
            memory = process.ask('memory', task='predict', images=images)
            result[name] = dict(
                peak_bytes=memory['bytes'],
                peak_of_task=memory['of_task'],
                detections=found['detections'],
            )
        seconds = run_rounds(
            {
                name: lambda process=process: process.ask('predict', images=images)['seconds']
                for name, process in processes.items()
            },
            rounds,
        )
    for name, numbers in compare_pairs(seconds, NETWORKS[0]).items():
        result[name].update(numbers)
    return result


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    series: dict[str, dict] = {}
    for name, points in SERIES.items():
        series[name] = {}
        for point in points:
            found = measure_point(point, args.device, args.rounds)
            series[name][str(getattr(point, name))] = found
            print(point, {k: v['median'] for k, v in found.items()}, file=sys.stderr, flush=True)
            write_record(args.json, dict(device=args.device, rounds=args.rounds, series=series))
    print(f'{args.json} written')
    return 0


if __name__ == '__main__':
    sys.exit(main())
