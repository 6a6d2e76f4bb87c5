#!/usr/bin/env python
"""Time the evaluation of three tasks at the size of COCO's val2017 beside pycocotools.

    python -m benchmarks.data.evaluation --json docs/results/performance/evaluation.json

pycocotools runs three times: each run reads the annotation file, loads the results and
evaluates one task. Both get the same synthetic people, and the largest difference between their
metrics is in the results file.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.data.drawn_people import IMAGES, PERSONS, DrawnPeople, draw_people
from multitask_refine.datasets import find_meta_file
from multitask_refine.engine import write_record
from multitask_refine.evaluation import evaluate, figures, load_ground_truth

Metrics = dict[str, dict[str, float]]


def evaluate_by_pycocotools(path: str, people: DrawnPeople, sigmas: np.ndarray) -> Metrics:
    """Run pycocotools once per task."""
    metrics = {}
    for task, entries in people.entries.items():
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(path)
            # loadRes changes the entries.
            result = COCOeval(truth, truth.loadRes([dict(entry) for entry in entries]), task)
            result.params.kpt_oks_sigmas = sigmas
            result.evaluate()
            result.accumulate()
        metrics[task] = figures(result)
    return metrics


def evaluate_by_project(path: str, people: DrawnPeople, sigmas: np.ndarray) -> Metrics:
    """Run this project's evaluation, which reads the file once for all tasks."""
    truth = load_ground_truth(path, len(sigmas))
    return evaluate(truth, people.entries, sigmas, truth.getCatIds(), truth.getImgIds())


def compare(people: DrawnPeople, rounds: int) -> dict:
    """Run both evaluations in turns.

    Returns:
        ``seconds`` of each round, ``ratio``, the median of the rounds' ratios,
        ``largest_difference`` between the metrics in percentage points, and ``figures``, the
        metrics of pycocotools.
    """
    sigmas = np.array(parse_pose_metainfo(dict(from_file=find_meta_file('coco.py')))['sigmas'])
    evaluators = dict(pycocotools=evaluate_by_pycocotools, project=evaluate_by_project)
    seconds: dict[str, list[float]] = {name: [] for name in evaluators}
    metrics: dict[str, Metrics] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'annotations.json'
        path.write_text(json.dumps(people.truth))
        for number in range(rounds):
            for name, run in evaluators.items():
                start = time.perf_counter()
                metrics[name] = run(str(path), people, sigmas)
                seconds[name].append(round(time.perf_counter() - start, 3))
                print(
                    f'round {number + 1} of {rounds}: {name} {seconds[name][-1]} s',
                    file=sys.stderr,
                )
    expected, found = metrics.values()
    return dict(
        seconds=seconds,
        ratio=round(median(np.divide(*seconds.values())), 3),
        largest_difference=max(
            abs(value - found[task][name])
            for task, values in expected.items()
            for name, value in values.items()
        ),
        figures=expected,
    )


def main(argv: list[str] | None = None) -> int:
    """Draw the people and compare the evaluations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=IMAGES, help='default: %(default)s')
    parser.add_argument('--persons', type=int, default=PERSONS, help='default: %(default)s')
    parser.add_argument(
        '--detections', type=int, default=20, help='per image (default: %(default)s)'
    )
    parser.add_argument(
        '--rounds', type=int, default=3, help='number of rounds (default: %(default)s)'
    )
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    people = draw_people(args.images, args.persons, args.detections)
    result = compare(people, args.rounds)
    size = dict(images=args.images, persons=args.persons, detections=len(people.entries['bbox']))
    write_record(args.json, dict(size=size, **result))
    print(
        f'Results file: {args.json}; {result["ratio"]} times as fast, metrics differ by at most '
        f'{result["largest_difference"]:.1e} percentage points'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
