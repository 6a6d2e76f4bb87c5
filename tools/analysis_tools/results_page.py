"""docs/results.md: single runs with how each was made."""
from pathlib import Path

from projects.multitask_refine.evaluation import format_table

from . import few_photos_page
from .results_files import read_results, require_fields

_FIELDS = ('command', 'checkpoint_sha256', 'annotations', 'num_images',
           'commit', 'date', 'seconds', 'seed', 'machine')

HEAD = """# Results

Every number below was written by the command beside it; this page is made by
`python tools/analysis_tools/pages.py` from the files in `docs/results`. The
tables of the report are on [a page of their own](benchmarks.md).
"""


def render(folder: Path) -> str:
    """The whole page.

    Args:
        folder (Path): The results files, one a section.
    """
    return HEAD + ''.join(
        few_photos_page.render(path) if path.name == few_photos_page.FILE
        else _section(path)
        for path in sorted(folder.glob('*.json')))


def render_result(path: Path, digits: int = 16) -> str:
    """The table of one results file and how it was made.

    Args:
        path (Path): The file.
        digits (int): Of the checkpoint's SHA-256. Defaults to 16 of 64.

    Returns:
        str: 'not measured' if there is no such file.

    Raises:
        ResultsError: If a field is missing.
    """
    if not path.exists():
        return 'not measured\n'
    content = read_results(path)
    run = content.pop('run')
    require_fields(path, run, _FIELDS,
                   ('device', 'torch', 'mmcv', 'mmdet'))
    machine = run['machine']
    return f"""{format_table(content)}

- command: `{run['command']}`
- config: `{run['config']}`, seed {run['seed']}
- checkpoint: SHA-256 `{run['checkpoint_sha256'][:digits]}`
- data: `{run['annotations']}`, {run['num_images']} images
- commit {run['commit']}, {run['date']}, {run['seconds']} s on {machine['device']}
- torch {machine['torch']}, mmcv {machine['mmcv']}, mmdet {machine['mmdet']}
{_stages(path, run)}"""


def _stages(path: Path, run: dict) -> str:
    """What a run of tools/quickstart.py took, if it was one."""
    stages = run.get('stages')
    if stages is None:
        return ''
    require_fields(path, run, ('stages', ))
    parts = ', '.join(f'{title.lower()} {seconds:.0f} s'
                      for title, seconds in stages.items())
    return f'- with set-up done: {sum(stages.values()):.0f} s ({parts})\n'


def _section(path: Path) -> str:
    return f'\n## {path.stem}\n\n{render_result(path)}'
