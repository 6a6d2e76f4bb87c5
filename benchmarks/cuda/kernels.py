#!/usr/bin/env python
"""Profile the kernels of inference and training, and the synchronizations with the device.

    python -m benchmarks.cuda.kernels --json docs/results/performance/cuda-kernels.json

PyTorch's profiler lists the kernels with the largest own time, and how often the host waits for
the device, in an inference of 2 images and in a training step.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed.baselines.multitask_net import MultitaskNet
from benchmarks.speed.inputs import image_names, load_images, load_people
from benchmarks.speed.parts import PARTS
from multitask_refine.engine import write_record

WAITS = ('cudaStreamSynchronize', 'cudaDeviceSynchronize', 'cudaEventSynchronize')
NUM_KERNELS = 15


def profile_task(run: Callable[[Any], object], batch: Any, device: torch.device) -> dict:
    """Profile a task on a batch, after two warm-up runs.

    Returns:
        ``largest``, the kernels with the largest own time on the device: ``name``, ``calls`` and
        ``milliseconds``; ``waits``, the number of synchronizations by name.
    """
    for _ in range(2):
        run(batch)
    is_cuda = device.type == 'cuda'
    with profile(
        activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] * is_cuda)]
    ) as record:
        run(batch)
        if is_cuda:  # kernels that still run would not be recorded
            torch.cuda.synchronize(device)
    events = record.key_averages()
    own_time = 'self_device_time_total' if is_cuda else 'self_cpu_time_total'  # microseconds
    events.sort(key=lambda event: getattr(event, own_time), reverse=True)
    return dict(
        largest=[
            dict(
                name=event.key,
                calls=event.count,
                milliseconds=round(getattr(event, own_time) / 1000, 3),
            )
            for event in events[:NUM_KERNELS]
        ],
        waits={event.key: event.count for event in events if event.key in WAITS},
    )


def main(argv: list[str] | None = None) -> int:
    """Profile the network without refinement and with all of it (RB+H)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cuda', help='default: %(default)s')
    parser.add_argument(
        '--side', type=int, default=800, help='shorter side in pixels (default: %(default)s)'
    )
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    names = image_names(args.side, 2)
    images, people = load_images(names), [load_people(*name) for name in names]
    variants = {}
    for variant in ('regular', 'rb_h'):
        config = PARTS['refinement'].baselines[variant].options['config']
        network = MultitaskNet(config, device=args.device)
        network.set_extra_proposals(people)
        variants[variant.replace('_', '-')] = {
            'step': profile_task(network.step, network.to_batch(images, people), network.device),
            'predict': profile_task(network.predict, network.to_batch(images), network.device),
        }
    write_record(args.json, dict(side=args.side, variants=variants))
    print(f'Results file: {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
