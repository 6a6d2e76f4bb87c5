#!/usr/bin/env python
"""Detect people in a video: ``multitask track`` with the arguments of OpenMMLab's demos."""

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
        'python demo/video_demo.py video.mp4 CONFIG CHECKPOINT --track',
        "python demo/video_demo.py 0 CONFIG CHECKPOINT --show --out-dir ''",
        'python demo/video_demo.py rtsp://user:password@camera/stream MODEL.onnx',
        'python demo/video_demo.py video.mp4 MODEL.onnx --track',
    ],
)
@click.argument('video')
@click.argument('config')
@click.argument('checkpoint', required=False)
@click.option(
    '--track', is_flag=True, help='Track the instances: each keeps its id throughout the video.'
)
@inference_options
def command(video: str, config: str, checkpoint: str | None, **options: Any) -> int:
    """Detect people in a video: boxes, masks and keypoints, with --track also track ids.

    VIDEO is a video file, the index of a camera, or the URL of a stream (http, https, rtsp,
    rtsps); cameras and live streams run until Ctrl-C, Esc or q. MODEL.onnx in the place of CONFIG
    CHECKPOINT is an exported model; it does not need PyTorch.
    """
    return run_model([video], config, checkpoint, **options)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit status."""
    return run(command, argv)


if __name__ == '__main__':
    sys.exit(main())
