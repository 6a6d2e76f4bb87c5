"""``multitask predict``: images, folders and videos."""

from typing import Any

import click

from .command import Command
from .inference import run_model
from .options import inference_options


@click.command(
    cls=Command,
    examples=[
        'multitask predict model.onnx photo.jpg',
        'multitask predict CONFIG.py CHECKPOINT.pth folder --out-dir outputs',
        "multitask predict model.onnx 'photos/*.jpg' --score-thr 0.5",
    ],
)
@click.argument('model', metavar='MODEL [CHECKPOINT]')
@click.argument('inputs', nargs=-1, required=True)
@inference_options
def command(model: str, inputs: tuple[str, ...], **options: Any) -> int:
    """Predict boxes, masks and keypoints.

    MODEL is an exported MODEL.onnx, which does not need PyTorch, or a config followed by its
    CHECKPOINT. INPUTS are images, folders (with their subfolders), glob patterns in quotes,
    videos, URLs of streams, or indices of cameras.
    """
    checkpoint, inputs = split_checkpoint(model, inputs)
    return run_model(inputs, model, checkpoint, **options)


def split_checkpoint(model: str, rest: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Take the checkpoint of a config from the arguments that follow it.

    Args:
        model (str): The first argument.
        rest (tuple[str]): The others.

    Returns:
        tuple[str | None, tuple[str]]: The checkpoint, None where the model needs none, and the
        inputs.

    Raises:
        click.UsageError: If the checkpoint or the inputs are missing.
    """
    if not model.endswith('.py'):
        return None, rest
    checkpoint, *inputs = rest
    if not inputs:
        raise click.UsageError(
            f'expected CONFIG CHECKPOINT INPUTS, found only {model} {checkpoint}. '
            'A config is followed by its checkpoint, and then by the inputs.'
        )
    return checkpoint, tuple(inputs)
