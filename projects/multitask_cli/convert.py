"""``multitask convert``: checkpoints of other frameworks."""

import click

from .command import Command, with_pytorch


@click.command(
    cls=Command,
    examples=[
        'multitask convert CONFIG.py model_final_a6e10b.pkl converted.pth',
        'multitask convert CONFIG.py keypointrcnn_resnet50_fpn_coco-fc266e95.pth converted.pth',
        'multitask convert CONFIG.py work_dirs/run/iter_1500.pth converted.pth --from mmdet',
    ],
)
@click.argument('config')
@click.argument('source')
@click.argument('out')
@click.option(
    '--from',
    'framework',
    type=click.Choice(['detectron2', 'torchvision', 'mmdet']),
    help='Framework of the checkpoint; mmdet also for checkpoints of this project.  '
    '[default: by the names of the weights]',
)
@with_pytorch
def command(config: str, source: str, out: str, framework: str | None) -> None:
    """Convert the checkpoint SOURCE for the network of CONFIG, and write it to OUT.

    SOURCE is a .pkl or .pth of Detectron2, torchvision, MMDetection or this project. Nothing is
    written unless every weight has its place.
    """
    from multitask_refine.converters import CONVERTERS, detect_framework
    from multitask_refine.converters.conversion import convert

    convert(CONVERTERS[framework or detect_framework(source)], config, source, out)
