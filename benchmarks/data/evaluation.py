#!/usr/bin/env python
"""Time the three-task evaluation at the size of COCO's val2017.

    python -m benchmarks.data.evaluation --json docs/results/performance/evaluation.json

Against three runs of pycocotools, each of which reads the annotation file,
loads the results and evaluates one task. Both get the same drawn people, and
the largest difference of their figures is in the results file.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.data.drawn_people import DrawnPeople, draw_people
from multitask_refine.datasets import find_meta_file
from multitask_refine.engine import write_record
from multitask_refine.evaluation import evaluate, figures, load_ground_truth

Figures = dict[str, dict[str, float]]


def sigmas_of_coco() -> np.ndarray:
    """OKS sigma of each of COCO's 17 keypoints."""
    meta = parse_pose_metainfo(dict(from_file=find_meta_file('coco.py')))
    return np.array(meta['sigmas'])


def by_pycocotools(path: str, people: DrawnPeople) -> Figures:
    """Plain pycocotools, one run a task."""
    found = {}
    for task, entries in people.entries.items():
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(path)
            result = COCOeval(truth, truth.loadRes([dict(entry) for entry in entries]), task)
            result.params.kpt_oks_sigmas = sigmas_of_coco()
            result.evaluate()
            result.accumulate()
        found[task] = figures(result)
    return found


def by_project(path: str, people: DrawnPeople) -> Figures:
    """What the metric runs: all tasks on one reading of the file."""
    truth = load_ground_truth(path, len(sigmas_of_coco()))
    return evaluate(truth, people.entries, sigmas_of_coco(), truth.getCatIds(), truth.getImgIds())


def largest_difference(one: Figures, other: Figures) -> float:
    """In percent points, over all tasks' figures."""
    return max(abs(one[task][name] - other[task][name]) for task in one for name in one[task])


def _timed(call: Callable, *args) -> tuple[float, Figures]:
    start = time.perf_counter()
    found = call(*args)
    return time.perf_counter() - start, found


def compare(people: DrawnPeople, rounds: int) -> dict:
    """Run both in turn.

    Returns:
        dict: Seconds of each round, the median of the rounds' ratios, and
        the largest difference of the figures in percent points.
    """
    seconds: dict[str, list[float]] = dict(pycocotools=[], project=[])
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / 'annotations.json')
        Path(path).write_text(json.dumps(people.truth))
        for number in range(rounds):
            slow, expected = _timed(by_pycocotools, path, people)
            fast, found = _timed(by_project, path, people)
            seconds['pycocotools'].append(round(slow, 3))
            seconds['project'].append(round(fast, 3))
            print(
                f'round {number + 1} of {rounds}: pycocotools {slow:.1f} s, project {fast:.1f} s',
                file=sys.stderr,
            )
    return dict(
        seconds=seconds,
        ratio=round(median(np.divide(*seconds.values())), 3),
        largest_difference=largest_difference(expected, found),
        figures=expected,
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=5000)
    parser.add_argument('--persons', type=int, default=11004)
    parser.add_argument('--detections', type=int, default=20, help='of each image')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    people = draw_people(args.images, args.persons, args.detections)
    result = compare(people, args.rounds)
    size = dict(images=args.images, persons=args.persons, detections=len(people.entries['bbox']))
    write_record(args.json, dict(size=size, **result))
    print(
        f'{args.json}: {result["ratio"]} times as fast, figures differ by '
        f'{result["largest_difference"]:.1e}'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
