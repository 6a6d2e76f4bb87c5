#!/usr/bin/env python
"""Mixed precision beside float32: losses and gradients of one step.

    python -m benchmarks.cuda.precision --json docs/results/performance/cuda-precision.json

The same weights, images and random numbers in float32, float16 and bfloat16.
"""

import argparse
import sys

import torch
from torch import Tensor

from benchmarks.speed.baselines.multitask_net import MultitaskNet
from benchmarks.speed.inputs import image_names, load_images, load_people
from multitask_refine.engine import write_record
from multitask_refine.engine.runner.reproducible_loop import seed_everything

VARIANTS = ('regular', 'rb', 'rb-h')
TYPES = dict(float32=None, float16=torch.float16, bfloat16=torch.bfloat16)


def step(network: MultitaskNet, batch: dict, dtype: torch.dtype | None) -> dict[str, object]:
    """The loss and all gradients as one vector."""
    network.model.train()
    network.model.zero_grad()
    seed_everything(0)
    with torch.autocast(network.device.type, dtype or torch.float16, enabled=dtype is not None):
        loss = network.losses(batch)
    # Small gradients would be lost in float16; scaled, all of them.
    scale = 1024.0 if dtype is torch.float16 else 1.0
    (loss * scale).backward()
    gradients = [
        parameter.grad.flatten().float() / scale
        for parameter in network.model.parameters()
        if parameter.grad is not None
    ]
    return dict(loss=float(loss), gradient=torch.cat(gradients))


def compare(exact: Tensor, other: Tensor) -> dict[str, float]:
    """How far a gradient's direction and length are from the exact ones."""
    return dict(
        gradient_cosine=float(torch.cosine_similarity(exact.double(), other.double(), 0)),
        gradient_length=float(other.double().norm() / exact.double().norm()),
    )


def measure(variant: str, device: str, side: int) -> list[dict]:
    """A row for each type."""
    names = image_names(side, 2)
    people = [load_people(*name) for name in names]
    network = MultitaskNet(f'multitask-rcnn_r50_fpn-ms_{variant}_4xb3-90k_coco.py', device=device)
    network.set_copies(people)
    batch = network.to_batch(load_images(names), people)
    exact, rows = None, []
    for name, dtype in TYPES.items():
        row = dict(variant=variant, type=name)
        try:
            found = step(network, batch, dtype)
            exact = exact or found
            row.update(loss=found['loss'], **compare(exact['gradient'], found['gradient']))
        except RuntimeError as error:
            row['failure'] = str(error).splitlines()[0]
        print(row, file=sys.stderr, flush=True)
        rows.append(row)
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--side', type=int, default=480)
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    rows = [row for variant in VARIANTS for row in measure(variant, args.device, args.side)]
    write_record(args.json, dict(side=args.side, rows=rows))
    print(f'{args.json} written')
    return 0


if __name__ == '__main__':
    sys.exit(main())
