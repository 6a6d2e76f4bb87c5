#!/usr/bin/env python
"""Detect people in images: ``multitask predict`` with the arguments of OpenMMLab's demos."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from multitask_cli.command import Command, run
from multitask_cli.inference import run_model
from multitask_cli.options import inference_options


@click.command(
    cls=Command,
    examples=[
        'python demo/image_demo.py photo.jpg CONFIG CHECKPOINT',
        'python demo/image_demo.py folder CONFIG CHECKPOINT --out-dir outputs',
        "python demo/image_demo.py 'photos/*.jpg' CONFIG CHECKPOINT",
        'python demo/image_demo.py photo.jpg MODEL.onnx',
    ],
)
@click.argument('inputs')
@click.argument('config')
@click.argument('checkpoint', required=False)
@inference_options
def command(inputs: str, config: str, checkpoint: str | None, **options: Any) -> int:
    """Detect people in images: boxes, masks and keypoints.

    INPUTS is an image, a folder (with its subfolders), or a glob pattern in quotes. MODEL.onnx
    in the place of CONFIG CHECKPOINT is an exported model; it does not need PyTorch.
    """
    return run_model([inputs], config, checkpoint, **options)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit status."""
    return run(command, argv)


if __name__ == '__main__':
    sys.exit(main())
