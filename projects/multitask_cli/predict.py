"""``multitask predict``: images, folders and videos."""

from typing import Any

import click

from .command import Command
from .inference import run_model
from .models import MODEL, split_checkpoint
from .options import inference_options


@click.command(
    cls=Command,
    examples=[
        'multitask predict keypoint+mask-rcnn_r50_fpn_3x photo.jpg',
        'multitask predict model.onnx photo.jpg',
        'multitask predict model.onnx folder --backend openvino --batch-size 4',
        'multitask predict CONFIG.py CHECKPOINT.pth folder --out-dir outputs',
        "multitask predict model.onnx 'photos/*.jpg' --score-thr 0.5",
    ],
)
@click.argument('model', metavar='MODEL [CHECKPOINT]', type=MODEL)
@click.argument('inputs', nargs=-1, required=True)
@inference_options
def command(model: str, inputs: tuple[str, ...], **options: Any) -> int:
    """Predict boxes, masks and keypoints.

    MODEL is the name of a public model (`multitask models`), an exported MODEL.onnx (or .xml of
    OpenVINO), which does not need PyTorch, or a config followed by its CHECKPOINT. INPUTS are
    images, folders (with their subfolders), glob patterns in quotes, videos, URLs of streams, or
    indices of cameras.
    """
    checkpoint, sources = split_checkpoint(model, inputs)
    return run_model(sources, model, checkpoint, **options)
