"""``multitask test``, and ``tools/test.py``."""

from collections.abc import Sequence
from typing import Any

import click

from .command import Command, run, with_pytorch
from .models import MODEL, resolve
from .options import (
    SCORE,
    parse_cfg_options,
    pop_runtime_options,
    refuse_runtime_options,
    run_options,
    runtime_options,
)


def _expect_suffix(*suffixes: str) -> Any:
    def check(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
        if value and not value.endswith(suffixes):
            raise click.UsageError(f'{param.opts[0]}: expected a {suffixes[0]} file, got {value}')
        return value

    return check


@click.command(
    cls=Command,
    examples=[
        'multitask test CONFIG.py CHECKPOINT.pth --show-dir images',
        'multitask test CONFIG.py CHECKPOINT.pth --tta --json metrics.json',
        'multitask test CONFIG.py model.onnx',
        'multitask test CONFIG.py model.onnx --backend openvino',
        'multitask test keypoint-rcnn_r50_fpn_3x',
        'bash tools/dist_test.sh CONFIG.py CHECKPOINT.pth 4',
    ],
)
@click.argument('config', metavar='MODEL', type=MODEL)
@click.argument('checkpoint', required=False)
@click.option(
    '--json', 'results_file', help='Results file.  [default: metrics.json in the work dir]'
)
@click.option(
    '--format-only',
    is_flag=True,
    help='Do not evaluate: write the zip files of masks and keypoints that '
    "COCO's evaluation server takes, in the work dir.",
)
@click.option(
    '--out',
    metavar='FILE.pkl',
    callback=_expect_suffix('.pkl', '.pickle'),
    help='Also dump the predictions.',
)
@click.option(
    '--predictions',
    metavar='FILE.json',
    callback=_expect_suffix('.json'),
    help="Also write the predictions in COCO's format with all that "
    'tools/analysis_tools/report.py needs.',
)
@click.option(
    '--tta',
    is_flag=True,
    help='Test-time augmentation: average over each image and its mirror image; takes twice as '
    'long.',
)
@click.option('--show-dir', help='Write drawn images here, ground truth on the left.')
@click.option('--show', is_flag=True, help='Show the drawn images in a window.')
@click.option(
    '--score-thr',
    type=SCORE,
    default=0.3,
    show_default=True,
    help='Instances with a lower score are not drawn.',
)
@click.option(
    '--wait-time',
    type=float,
    default=2,
    show_default=True,
    help='Seconds for which an image is shown.',
)
@runtime_options
@run_options
@with_pytorch
def command(
    config: str, checkpoint: str | None, cfg_options: Sequence[str], **options: Any
) -> None:
    """Evaluate a model on the test data of its config.

    MODEL is a config followed by its CHECKPOINT or by an exported MODEL.onnx (or .xml of
    OpenVINO), or the name of a public model (`multitask models`).

    Prints a table of the three tasks and writes a results file.
    """
    from multitask_refine.apis.test import evaluate_model
    from multitask_runtime.onnx.session import is_exported

    config, checkpoint = resolve(config, checkpoint)
    runtime = pop_runtime_options(options)
    if is_exported(checkpoint):
        options['runtime'] = runtime
        if options['tta']:
            raise click.UsageError(
                '--tta: an exported file sees each image once; expected a checkpoint, got '
                f'{checkpoint}'
            )
        if options['launcher'] != 'none':
            raise click.UsageError(
                '--launcher: an exported file is evaluated by one process, got '
                f'{options["launcher"]}'
            )
    else:
        refuse_runtime_options(checkpoint, runtime)
    evaluate_model(config, checkpoint, cfg_options=parse_cfg_options(cfg_options), **options)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/test.py`` and return its exit status."""
    return run(command, argv)
