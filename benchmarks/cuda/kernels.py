#!/usr/bin/env python
"""The largest kernels of a step, and how often the host waits for the device.

python -m benchmarks.cuda.kernels --json docs/results/performance/cuda-kernels.json
"""

import argparse
import sys
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed.baselines.multitask_net import MultitaskNet
from benchmarks.speed.inputs import image_names, load_images, load_people
from multitask_refine.engine import write_record

VARIANTS = ('regular', 'rb-h')
WAITS = ('cudaStreamSynchronize', 'cudaDeviceSynchronize', 'cudaEventSynchronize')
LARGEST = 15


def profile_task(run: Callable[[], object]) -> dict:
    """Run a task once under PyTorch's profiler, after two warm-ups."""
    for _ in range(2):
        run()
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
        torch.cuda.synchronize()
    with profile(activities=activities) as found:
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    events = found.key_averages()
    largest = sorted(events, key=_own_time, reverse=True)[:LARGEST]
    return dict(
        largest=[
            dict(name=event.key, calls=event.count, milliseconds=round(_own_time(event) / 1000, 3))
            for event in largest
        ],
        waits={event.key: event.count for event in events if event.key in WAITS},
    )


def _own_time(event: object) -> float:
    """Microseconds on the device; on the CPU, where there is none."""
    if torch.cuda.is_available():
        return event.self_device_time_total
    return event.self_cpu_time_total


def measure(variant: str, device: str, side: int) -> dict:
    """The profiles of a training step and of inference."""
    names = image_names(side, 2)
    people = [load_people(*name) for name in names]
    network = MultitaskNet(f'multitask-rcnn_r50_fpn-ms_{variant}_4xb3-90k_coco.py', device=device)
    network.set_copies(people)
    images = load_images(names)
    train, test = network.to_batch(images, people), network.to_batch(images)
    return dict(
        step=profile_task(lambda: network.step(train)),
        predict=profile_task(lambda: network.predict(test)),
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--side', type=int, default=800)
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    found = {variant: measure(variant, args.device, args.side) for variant in VARIANTS}
    write_record(args.json, dict(side=args.side, variants=found))
    print(f'{args.json} written')
    return 0


if __name__ == '__main__':
    sys.exit(main())
