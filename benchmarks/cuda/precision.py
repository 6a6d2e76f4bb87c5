#!/usr/bin/env python
"""Compare loss and gradients of a training step in mixed precision with float32.

    python -m benchmarks.cuda.precision --json docs/results/performance/cuda-precision.json

Weights, images and random numbers are the same in float32, float16 and bfloat16.
"""

import argparse
import sys

import torch
from torch import Tensor

from benchmarks.speed.baselines.multitask_net import MultitaskNet
from benchmarks.speed.inputs import image_names, load_images, load_people
from benchmarks.speed.parts import PARTS
from multitask_refine.engine import write_record
from multitask_refine.engine.runner.reproducible_loop import seed_everything


def compute_gradient(
    network: MultitaskNet, batch: dict, dtype: torch.dtype
) -> tuple[float, Tensor]:
    """Compute the loss and the gradients of all weights, as one vector."""
    network.model.train()
    network.model.zero_grad()
    seed_everything(0)  # the sampling of proposals and RoIs is random
    is_mixed = dtype is not torch.float32
    autocast_dtype = dtype if is_mixed else torch.bfloat16  # autocast refuses float32
    with torch.autocast(network.device.type, autocast_dtype, enabled=is_mixed):
        loss = network.losses(batch)
    scale = 1024.0 if dtype is torch.float16 else 1.0  # small gradients underflow in float16
    (loss * scale).backward()
    gradients = [
        parameter.grad.flatten().double() / scale
        for parameter in network.model.parameters()
        if parameter.grad is not None
    ]
    return loss.item(), torch.cat(gradients)


def main(argv: list[str] | None = None) -> int:
    """Compare the data types in all variants of the network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cuda', help='default: %(default)s')
    parser.add_argument(
        '--side', type=int, default=480, help='shorter side in pixels (default: %(default)s)'
    )
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    names = image_names(args.side, 2)
    images, people = load_images(names), [load_people(*name) for name in names]
    rows = []
    for variant, spec in PARTS['refinement'].baselines.items():
        network = MultitaskNet(spec.options['config'], device=args.device)
        network.set_extra_proposals(people)
        batch = network.to_batch(images, people)
        # Once more in the loop: how much a repetition differs is a row of its own.
        _, exact = compute_gradient(network, batch, torch.float32)
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            row = dict(variant=variant.replace('_', '-'), type=str(dtype).split('.')[1])
            try:
                loss, gradient = compute_gradient(network, batch, dtype)
                row.update(
                    loss=loss,
                    gradient_cosine=float(torch.cosine_similarity(exact, gradient, 0)),
                    gradient_length=float(gradient.norm() / exact.norm()),
                )
            except RuntimeError as error:  # such as a data type that the device does not support
                row['failure'] = str(error).splitlines()[0]
            print(row, file=sys.stderr, flush=True)
            rows.append(row)
    write_record(args.json, dict(side=args.side, rows=rows))
    print(f'Results file: {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
