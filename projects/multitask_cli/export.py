"""``multitask export``, and ``tools/deployment/export_onnx.py``."""

import os
from collections.abc import Sequence

import click

from .command import Command, run, with_pytorch
from .models import MODEL, resolve, split_checkpoint
from .options import cfg_options, parse_cfg_options


@click.command(
    cls=Command,
    examples=[
        'multitask export CONFIG.py CHECKPOINT.pth model.onnx',
        'multitask export keypoint+mask-rcnn_r50_fpn_3x model.onnx',
    ],
)
@click.argument('model', metavar='MODEL [CHECKPOINT]', type=MODEL)
@click.argument('rest', metavar='OUT.onnx', nargs=-1, required=True)
@click.option('--opset', type=int, default=19, show_default=True, help='Opset version, 19 or 20.')
@cfg_options
@with_pytorch
def command(model: str, rest: Sequence[str], opset: int, cfg_options: Sequence[str]) -> None:
    """Export a trained model as one ONNX file: from an image to boxes, masks and keypoints.

    MODEL is a config followed by its CHECKPOINT, or the name of a public model (`multitask
    models`). The file OUT.onnx is written only after onnxruntime has given what PyTorch gives.
    """
    from multitask_refine.deployment import export
    from multitask_refine.utils.config import read_config, require_settings

    checkpoint, (out, *more) = split_checkpoint(model, rest)
    if more:
        raise click.UsageError(f'expected one file to write, found {" ".join([out, *more])}')
    if os.path.lexists(out):
        raise click.UsageError(
            f'{out}: expected the name of a new file, found one that exists. Name another one, '
            'or remove it.'
        )
    config, checkpoint = resolve(model, checkpoint)
    cfg = read_config(config, parse_cfg_options(cfg_options))
    require_settings(cfg, 'model', 'test_dataloader')
    differences = export(cfg, checkpoint, out, opset)
    print('Largest difference from PyTorch on a drawn image:')
    for name, (largest, mismatched, total) in differences.items():
        print(
            f'  {name}: {largest:.2g} ({total} compared; {mismatched} differ by more than '
            'rounding)'
        )
    print(f'Written: {out}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/deployment/export_onnx.py`` and return its exit status."""
    return run(command, argv)
