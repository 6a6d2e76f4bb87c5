"""``multitask predict-dataset``: millions of images, on one machine or a cluster."""

import functools
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from multitask_runtime.utils.files import file_sha256

from .command import Command, with_pytorch
from .inference import find_loader, needs_pytorch, terminate_like_interrupt
from .models import MODEL, split_checkpoint
from .options import SCORE, pop_runtime_options, runtime_options


@click.command(
    cls=Command,
    examples=[
        'multitask predict-dataset model.onnx photos --out-dir predictions',
        'multitask predict-dataset model.onnx list.txt --out-dir predictions --format parquet',
        'multitask predict-dataset CONFIG.py CHECKPOINT.pth shards/*.tar --out-dir predictions '
        '--workers 2',
        'multitask predict-dataset CONFIG.py CHECKPOINT.pth /data/coco --out-dir /data/out '
        '--address auto --workers 64 --device cuda --batch-size 8',
    ],
)
@click.argument('model', metavar='MODEL [CHECKPOINT]', type=MODEL)
@click.argument('inputs', nargs=-1, required=True)
@click.option('--out-dir', required=True, help='Folder of the predictions, new or of this run.')
@click.option(
    '--format',
    type=click.Choice(['jsonl', 'parquet']),
    default='jsonl',
    show_default=True,
    help='Format of the files; parquet needs pyarrow.',
)
@click.option(
    '--score-thr',
    type=SCORE,
    default=0.0,
    show_default=True,
    help='Instances with a lower score are left out.',
)
@click.option(
    '--shard-size',
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help='Images that are predicted and written as a unit; tar files are not split.',
)
@click.option('--image-column', help='Column of image bytes in Parquet files.')
@click.option('--name-column', help="Column of the images' names in Parquet files.")
@click.option(
    '--device',
    default='auto',
    show_default=True,
    help='cpu or cuda; auto is cuda where available. With several workers each has a GPU.',
)
@click.option(
    '--batch-size',
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help='Images that go through the model at once: of a checkpoint those of one size, of an '
    'exported model all.',
)
@runtime_options
@click.option(
    '--workers',
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help='Processes with a model each; several, and any with --address, are started by Ray.',
)
@click.option(
    '--cpus-per-worker',
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help='CPU cores of each worker of Ray.',
)
@click.option('--address', help='Address of a Ray cluster; auto is that of this node.')
def command(model: str, inputs: tuple[str, ...], **options: Any) -> int:
    """Predict all images of a dataset, once each, and go on after a stop.

    MODEL is as in `multitask predict`. INPUTS are folders, images, .txt files with the path of an
    image in each line, tar files in the layout of WebDataset, or Parquet files with image bytes.

    The same command again goes on where the last one was stopped. Nothing is drawn; the exit
    status is 1 if some images could not be read. Several workers need the extra `batch`: Ray.
    """
    checkpoint, sources = split_checkpoint(model, inputs)
    run = with_pytorch(_predict) if needs_pytorch(model, checkpoint) else _predict
    status: int = run(model, checkpoint, sources, **options)
    return status


def _predict(
    model: str,
    checkpoint: str | None,
    inputs: Sequence[str],
    *,
    device: str,
    workers: int,
    cpus_per_worker: float,
    address: str | None,
    **options: Any,
) -> int:
    """Predict what is not done, print a summary and return the exit status."""
    from multitask_runtime.batch import predict_dataset, predict_here, predict_on_ray
    from multitask_runtime.utils.errors import ExplainedError

    runtime = pop_runtime_options(options)
    identity = _identify(model, checkpoint, runtime)
    engine: Any = predict_here
    if workers > 1 or address is not None:
        if device.startswith('cuda:'):
            raise click.UsageError(
                f'--device: expected cuda, of which Ray gives one to each worker, got {device}'
            )
        engine = functools.partial(
            predict_on_ray,
            workers=workers,
            cpus=cpus_per_worker,
            gpus=dict(cpu=0, cuda=1).get(device),
            address=address,
        )
        if not needs_pytorch(model, checkpoint):  # PyTorch follows Ray's OMP_NUM_THREADS
            runtime['threads'] = runtime['threads'] or max(1, int(cpus_per_worker))
    load = find_loader(model, checkpoint, device, runtime)
    with terminate_like_interrupt() as received:
        try:
            summary = predict_dataset(load, inputs, model=identity, engine=engine, **options)
        except ExplainedError as error:
            raise SystemExit(str(error)) from None
        except KeyboardInterrupt:
            print('Stopped. The same command goes on with what is not done.')
            return 128 + (received[0] if received else signal.SIGINT)
    print(
        f'Images: {summary.images}; instances: {summary.instances}; '
        f'bad images: {summary.bad_images}'
    )
    for reason in summary.reasons:
        print(f'  {reason}')
    if summary.bad_images > len(summary.reasons):
        print('  ... and others, which have an "error" in the files')
    print(f'Results: {options["out_dir"]}')
    return int(summary.bad_images > 0)


def _identify(model: str, checkpoint: str | None, runtime: Mapping[str, Any]) -> str:
    """Return the name of a public model, or the digests of the model's files, and its backend."""
    files = [path for path in (model, checkpoint) if path and Path(path).is_file()]
    digests = [file_sha256(path) for path in files]
    return ' '.join([*(digests or [model]), runtime['backend'], runtime['precision']])
