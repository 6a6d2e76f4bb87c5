"""``multitask convert-data``, and ``tools/dataset/convert_data.py``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .command import Command, run, with_pytorch

_FORMATS = ('coco', 'yolo', 'labelme', 'cvat', 'label-studio')
_PATH = click.Path(path_type=Path)


@click.command(
    cls=Command,
    examples=[
        'multitask convert-data dataset/data.yaml train.json --from yolo --split train',
        'multitask convert-data annotations.xml train.json --from cvat --images photos',
        'multitask convert-data train.json dataset --to yolo --task pose --images photos',
        'multitask convert-data train.json labelme --to labelme --images photos',
    ],
)
@click.argument('source', type=_PATH)
@click.argument('out', type=_PATH)
@click.option(
    '--from',
    'source_format',
    type=click.Choice(_FORMATS),
    default='coco',
    show_default=True,
    help='Format of SOURCE: a COCO file, a data.yaml, a folder of LabelMe files, a file of "CVAT '
    'for images 1.1", or a JSON export of Label Studio.',
)
@click.option(
    '--to',
    'out_format',
    type=click.Choice(_FORMATS),
    default='coco',
    show_default=True,
    help='Format of OUT: a new file for coco and cvat, a new folder for the others.',
)
@click.option(
    '--images',
    type=_PATH,
    metavar='FOLDER',
    help='Folder of the images: to measure or check them, and to copy them beside labels of YOLO '
    'and LabelMe.',
)
@click.option(
    '--task',
    type=click.Choice(['detect', 'segment', 'pose']),
    default='pose',
    show_default=True,
    help='Task of YOLO labels to write.',
)
@click.option('--split', default='train', show_default=True, help='Split of a YOLO dataset.')
@click.option(
    '--meta',
    metavar='FILE.py',
    help='Meta file that names the keypoints in their order, a path or one of mmpose, where the '
    'data do not.',
)
@click.option(
    '--image-url',
    default='',
    metavar='PREFIX',
    help='What stands before the file names of images for Label Studio, such as '
    '/data/local-files/?d=photos/',
)
@with_pytorch
def command(source: Path, out: Path, source_format: str, out_format: str, **options: Any) -> None:
    """Convert SOURCE to or from COCO's format, check it, and print what was lost.

    No file is replaced. The exit status is 0 if OUT was written; the check lists the issues of
    a COCO file.
    """
    if (source_format == 'coco') == (out_format == 'coco'):
        raise click.UsageError(
            'expected COCO on one side: --from FORMAT to read another format, --to FORMAT to '
            f'write one; found --from {source_format} --to {out_format}'
        )
    if not source.exists():
        raise click.UsageError(f'{source}: there is no such file or folder')
    from multitask_refine.datasets.conversion import Options, convert_data, export_data

    if out_format == 'coco':
        convert_data(source, out, source_format, Options(**options))
    else:
        export_data(source, out, out_format, Options(**options))


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/dataset/convert_data.py`` and return its exit status."""
    return run(command, argv)
