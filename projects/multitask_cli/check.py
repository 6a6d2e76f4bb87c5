"""``multitask check``, and ``tools/dataset/check_coco.py``."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import click

from .command import Command, run, with_pytorch

_FILE = click.Path(path_type=Path)


@click.command(
    cls=Command,
    examples=[
        'multitask check annotations.json --images photos',
        'multitask check annotations.json --images photos --fix repaired.json',
        'multitask check annotations.json --meta person=coco.py --meta dog=dog.py',
    ],
)
@click.argument('annotations', type=_FILE)
@click.option(
    '--images', type=_FILE, metavar='FOLDER', help='Also check all images in this folder.'
)
@click.option(
    '--fix',
    type=_FILE,
    metavar='OUT.json',
    help='Write the repaired annotations to this new file.',
)
@click.option(
    '--meta',
    metavar='FILE.py',
    multiple=True,
    help='Meta file that gives the number of keypoints, a path or one of mmpose, such as '
    'coco.py, or one of each category.  [default: keypoints of the categories]',
)
@click.option(
    '--json', 'results_file', type=_FILE, metavar='FILE', help='Also write the issues as JSON.'
)
@click.option('--all', 'show_all', is_flag=True, help='Show all issues, not three of each rule.')
@click.option(
    '--workers',
    type=click.IntRange(min=1),
    default=os.cpu_count() or 1,
    show_default='one per core',
    help='Number of images to decode in parallel.',
)
@with_pytorch
def command(
    annotations: Path,
    images: Path | None,
    fix: Path | None,
    meta: Sequence[str],
    results_file: Path | None,
    show_all: bool,
    workers: int,
) -> int:
    """Check a COCO annotation file, and repair it.

    The exit status is 0 for a file without issues, 1 for one with issues, 2 if the command
    cannot be carried out.
    """
    _check_paths(annotations, images, fix, results_file)
    from multitask_refine.datasets import AnnotationError
    from multitask_refine.datasets.validation.check import check_file, load_num_keypoints
    from multitask_refine.utils.errors import ConfigError
    from multitask_runtime.utils.errors import explain_os_error

    try:
        num_keypoints = load_num_keypoints(meta)
    except (FileNotFoundError, ConfigError) as error:
        click.echo(f'--meta: {error}', err=True)
        return 2
    max_shown = None if show_all else 3
    try:
        return int(
            check_file(annotations, images, num_keypoints, workers, fix, results_file, max_shown)
            > 0
        )
    except AnnotationError as error:
        click.echo(error, err=True)
        return 1
    except OSError as error:
        click.echo(explain_os_error(error), err=True)
        return 2


def _check_paths(
    annotations: Path, images: Path | None, fix: Path | None, results_file: Path | None
) -> None:
    if not annotations.is_file():
        raise click.UsageError(f'{annotations}: there is no such annotation file')
    if images and not images.is_dir():
        raise click.UsageError(f'--images: expected a folder, found none at {images}')
    if fix and (fix.exists() or fix.is_symlink()):
        raise click.UsageError(f'--fix: {fix} exists already; name a new file')
    for name, path in (('fix', fix), ('json', results_file)):
        if path and not path.parent.is_dir():
            raise click.UsageError(f'--{name}: there is no folder {path.parent}')
    if results_file and results_file.resolve() in (annotations.resolve(), fix and fix.resolve()):
        raise click.UsageError(
            f'--json: {results_file} is one of the annotation files; name another file'
        )
    if results_file and results_file.exists() and not _is_earlier_result(results_file):
        raise click.UsageError(
            f'--json: {results_file}: expected a new file or the issues of an earlier check, '
            'found another file; name a new one'
        )


def _is_earlier_result(path: Path) -> bool:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {*content} == {'file', 'issues', 'notes'}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/dataset/check_coco.py`` and return its exit status."""
    return run(command, argv)
