"""``multitask track``: people keep their ids throughout a video."""

from typing import Any

import click

from .command import Command
from .inference import run_model
from .models import MODEL, split_checkpoint
from .options import inference_options


@click.command(
    cls=Command,
    examples=[
        'multitask track keypoint-rcnn_r50_fpn_3x video.mp4',
        'multitask track model.onnx video.mp4',
        'multitask track CONFIG.py CHECKPOINT.pth rtsp://user:password@camera/stream',
        "multitask track model.onnx 0 --show --out-dir ''",
    ],
)
@click.argument('model', metavar='MODEL [CHECKPOINT]', type=MODEL)
@click.argument('videos', nargs=-1, required=True)
@inference_options
def command(model: str, videos: tuple[str, ...], **options: Any) -> int:
    """Track people in videos: boxes, masks and keypoints with an id each.

    MODEL is as in `multitask predict`. VIDEOS are video files, indices of cameras, or URLs of
    streams (http, https, rtsp, rtsps). Cameras and live streams run until Ctrl-C, Esc or q.
    """
    checkpoint, sources = split_checkpoint(model, videos)
    return run_model(sources, model, checkpoint, track=True, **options)
