"""``multitask serve``: a web page and an HTTP API for models."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .command import Command, with_pytorch
from .models import MODEL, resolve
from .options import pop_runtime_options, refuse_runtime_options, runtime_options

if TYPE_CHECKING:
    from multitask_runtime.serve import ServedModel


def _limit(name: str, default: float, text: str) -> Callable[..., Any]:
    """Make the option of a limit; a test compares it with the field of ``Limits``."""
    kind = click.FloatRange if isinstance(default, float) else click.IntRange
    return click.option(name, type=kind(min=1), default=default, show_default=True, help=text)


@click.command(
    cls=Command,
    examples=[
        'multitask serve model.onnx',
        'multitask serve model.onnx --backend openvino --precision bfloat16',
        'multitask serve CONFIG.py CHECKPOINT.pth --device cuda --batch-size 8',
        'multitask serve keypoint+mask-rcnn_r50_fpn_3x',
        'multitask serve small.onnx large.onnx --host 0.0.0.0 --port 80',
    ],
)
@click.argument('models', metavar='MODEL [CHECKPOINT]...', nargs=-1, required=True, type=MODEL)
@click.option(
    '--host',
    default='127.0.0.1',
    show_default=True,
    help='Address to listen on; 0.0.0.0 for other machines.',
)
@click.option(
    '--port',
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help='0 takes a free one.',
)
@click.option(
    '--device',
    default='auto',
    show_default=True,
    help='cpu, cuda or cuda:1; auto is cuda where available.',
)
@click.option(
    '--batch-size',
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help='Images of a request that go through the model at once: of a checkpoint those of one '
    'size, of an exported model all.',
)
@runtime_options
@_limit('--max-upload-mb', 32, 'Size of a request in MiB.')
@_limit('--max-images', 16, 'Images of a request.')
@_limit('--max-pixels', 16_000_000, 'Pixels of an image or video frame.')
@_limit('--max-frames', 300, 'Frames of a video that are processed.')
@_limit('--max-requests', 16, 'Requests that are processed or wait.')
@_limit('--max-requests-per-client', 4, 'The same, of one address.')
@_limit('--timeout', 120.0, 'Seconds for a request: upload, waiting and processing.')
def command(
    models: Sequence[str], host: str, port: int, device: str, batch_size: int, **options: Any
) -> None:
    """Serve models on a web page and by HTTP.

    MODEL is an exported MODEL.onnx (or .xml of OpenVINO), which does not need PyTorch, a config
    followed by its CHECKPOINT, or the name of a public model (`multitask models`); several can
    be given. A checkpoint with learned offsets also shows these. Needs the extra `serve`:
    fastapi, python-multipart, uvicorn and pillow.
    """
    # A second limit, for decoders that find another size than the header says. OpenCV reads it
    # when it is imported.
    os.environ.setdefault('OPENCV_IO_MAX_IMAGE_PIXELS', str(options['max_pixels']))
    runtime = pop_runtime_options(options)
    from multitask_runtime.utils.errors import ExplainedError

    try:
        from multitask_runtime.serve import Limits, serve

        served = [_load(*each, device, runtime) for each in _group(models)]
        serve(served, host, port, Limits(**options), batch_size)
    except (OSError, ExplainedError, ValueError) as error:
        raise SystemExit(str(error)) from None


def _group(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield each model with its checkpoint, which follows a config."""
    remaining = list(arguments)
    while remaining:
        model = remaining.pop(0)
        if model.endswith('.py'):
            if not remaining:
                raise click.UsageError(
                    f'expected CONFIG CHECKPOINT, found only {model}. A config is followed by its '
                    'checkpoint.'
                )
            yield model, remaining.pop(0)
        else:
            yield model, None


def _load(
    model: str, checkpoint: str | None, device: str, runtime: dict[str, Any]
) -> 'ServedModel':
    from multitask_runtime.onnx.session import is_exported

    if is_exported(model):
        from multitask_runtime.onnx.inferencer import OnnxInferencer
        from multitask_runtime.serve import ServedModel

        inferencer = OnnxInferencer(model, device, show_progress=False, **runtime)
        return ServedModel(Path(model).stem, inferencer)
    refuse_runtime_options(model, runtime)
    served: ServedModel = _load_checkpoint(model, checkpoint, device)
    return served


@with_pytorch
def _load_checkpoint(model: str, checkpoint: str | None, device: str) -> 'ServedModel':
    config, weights = resolve(model, checkpoint)
    from multitask_refine.apis.serve import load_served_model

    name = Path(checkpoint).stem if checkpoint else model
    return load_served_model(config, weights, device, name)
