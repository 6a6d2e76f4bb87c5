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


def _section(path: Path) -> str:
    content = read_results(path)
    run = content.pop('run')
    require_fields(path, run, _FIELDS,
                   ('device', 'torch', 'mmcv', 'mmdet'))
    machine = run['machine']
    return f"""
## {path.stem}

{format_table(content)}

- command: `{run['command']}`
- config: `{run['config']}`, seed {run['seed']}
- checkpoint: SHA-256 `{run['checkpoint_sha256'][:16]}`
- data: `{run['annotations']}`, {run['num_images']} images
- commit {run['commit']}, {run['date']}, {run['seconds']} s on {machine['device']}
- torch {machine['torch']}, mmcv {machine['mmcv']}, mmdet {machine['mmdet']}
"""
