#!/usr/bin/env python
"""Measure frames per second and memory of a video that is predicted, drawn and encoded.

    git worktree add /tmp/before COMMIT
    python -m benchmarks.speed.video model.onnx --baseline /tmp/before --json video.json

A video of moving drawn people is made. In each round a process of this checkout and one of the
other predict it, after each other in changing order: with the model on the CPU, and with a
stand-in that waits as long as an accelerator might take. Memory is the resident set of the
process, sampled while the video is predicted.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import psutil

from multitask_refine.utils.results_file import write_record
from multitask_runtime import OnnxInferencer, VideoWriter
from multitask_runtime.utils.files import file_sha256

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / 'docs/images/000000000009.jpg'
RATE = 25


def make_video(path: Path, frames: int, width: int, height: int) -> None:
    """Write a video of an image that moves to the right."""
    image = cv2.resize(cv2.imread(str(IMAGE)), (width, height))
    writer = VideoWriter(path, RATE)
    for index in range(frames):
        writer.write(np.roll(image, 2 * index, 1))
    writer.close()


def predict(model: str, video: str, out_dir: str, wait: float) -> dict:
    """Predict a video in this process.

    Args:
        model: The ONNX file.
        video: The video.
        out_dir: Folder of the results.
        wait: Seconds of a stand-in for the network, which always finds what it does in the
            first frame; 0 runs the network.

    Returns:
        Number of frames, seconds, median time of the network in ms, and resident memory in MiB at
        the quarters of the video.
    """
    inferencer = OnnxInferencer(model, show_progress=False)
    next(inferencer.stream(str(IMAGE)))  # onnxruntime is slower the first time
    if wait:
        network, found = inferencer._model, []

        def stand_in(*args: object) -> object:
            if not found:
                found.append(network(*args))
            time.sleep(wait)
            return copy.copy(found[0])

        inferencer._model = stand_in
    process, memory, inference = psutil.Process(), [], []
    start = time.perf_counter()
    for result in inferencer.stream(video, out_dir=out_dir, track=True):
        memory.append(process.memory_info().rss / 2**20)
        inference.append(result.speed['inference'])
    seconds = time.perf_counter() - start
    quarters = [round(max(each), 1) for each in np.array_split(memory, 4)]
    return dict(
        frames=len(memory),
        seconds=round(seconds, 3),
        inference_ms=round(median(inference), 2),
        peak_mib_of_quarters=quarters,
    )


def run_round(checkout: Path, model: Path, video: Path, wait: float) -> dict:
    """Predict the video by a process that imports the packages of a checkout."""
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([f'{checkout}/projects', str(ROOT)]))
    with tempfile.TemporaryDirectory() as out_dir:
        options = ['--predict', str(video), out_dir, str(wait)]
        command = [sys.executable, __file__, str(model), *options]
        done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(
    checkouts: dict[str, Path], model: Path, video: Path, wait: float, number: int
) -> dict:
    """Predict the video with each checkout in turn, and compare their times round by round."""
    rounds: dict[str, list[dict]] = {name: [] for name in checkouts}
    for index in range(number):
        for name in sorted(checkouts, reverse=index % 2 == 0):
            rounds[name].append(run_round(checkouts[name], model, video, wait))
            print(name, rounds[name][-1], flush=True)
    pairs = zip(rounds['before'], rounds['after'], strict=True)
    speedup = median(before['seconds'] / after['seconds'] for before, after in pairs)
    return dict(
        {name: summarize(each) for name, each in rounds.items()}, speedup=round(speedup, 2)
    )


def summarize(rounds: list[dict]) -> dict:
    """Return medians over the rounds of one checkout."""
    memory = np.array([each['peak_mib_of_quarters'] for each in rounds])  # (rounds, 4)
    rates = [each['frames'] / each['seconds'] for each in rounds]
    return dict(
        frames_per_second=round(median(rates), 2),
        frames_per_second_of_rounds=[round(each, 2) for each in rates],
        inference_ms=median(each['inference_ms'] for each in rounds),
        peak_mib_of_quarters=np.median(memory, 0).round(1).tolist(),
    )


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', type=Path, help='exported model')
    parser.add_argument('--baseline', type=Path, help='checkout to compare with')
    parser.add_argument('--frames', type=int, default=400)
    parser.add_argument('--size', type=int, nargs=2, default=[1280, 720], help='width and height')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--json', help='results file')
    parser.add_argument('--wait', type=float, default=0.02, help='seconds of the stand-in')
    parser.add_argument('--predict', nargs=3, help=argparse.SUPPRESS)  # of the processes
    args = parser.parse_args(argv)
    if args.predict:
        video, out_dir, wait = args.predict
        print(json.dumps(predict(str(args.model), video, out_dir, float(wait))))
        return 0
    if not args.baseline or not args.json:
        parser.error('expected --baseline CHECKOUT and --json FILE')
    checkouts = dict(before=args.baseline.resolve(), after=ROOT)
    load = [os.getloadavg()[0]]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / 'video.mp4'
        make_video(video, args.frames, *args.size)
        for name, wait in (('network', 0.0), ('stand_in', args.wait)):
            found[name] = compare(checkouts, args.model.resolve(), video, wait, args.rounds)
    load.append(os.getloadavg()[0])
    commit = ['git', '-C', str(args.baseline), 'rev-parse', '--short', 'HEAD']
    result = dict(
        model_sha256=file_sha256(args.model),
        video=f'{args.size[0]} x {args.size[1]}, {args.frames} frames',
        before_commit=subprocess.check_output(commit, text=True).strip(),
        load_average=[round(each, 1) for each in load],
        stand_in_ms=1000 * args.wait,
        **found,
    )
    write_record(args.json, result)
    return 0


if __name__ == '__main__':
    sys.exit(main())
