"""docs/results.md: single runs with how each was made."""
import json
from pathlib import Path

from projects.multitask_refine.evaluation import format_table
from projects.multitask_refine.evaluation.table import markdown_table

from .results_files import ResultsError, read_results, require_fields

FEW_PHOTOS = 'few-photos.json'

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
        _few_photos(path) if path.name == FEW_PHOTOS else _section(path)
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


def _few_photos(path: Path) -> str:
    """Format what benchmarks/few_photos.py wrote.

    Raises:
        ResultsError: If a field is missing.
    """
    try:
        content = json.loads(path.read_text())
        run, machine = content['run'], content['run']['machine']
        rows = [[
            setting, str(row['runs']),
            *(_spread(row[task]) for task in ('bbox', 'segm', 'keypoints')),
            '-' if row['seconds'] is None else f'{row["seconds"]:.0f}'
        ] for setting, row in content['summary'].items()]
        return f"""
## {path.stem}

AP on the held-out photos, mean and standard deviation over the seeds; each
run trains and tests one network.

{markdown_table(['start, network, training photos', 'runs', 'boxes', 'masks',
                 'keypoints', 'seconds, at most'], rows)}

- command: `{run['command']}`
- base: `{content['base']}`, SHA-256 `{content['base_sha256'][:16]}`
- data: SHA-256 `{content['data_sha256'][:16]}`
- commit {run['commit']}, {run['date']}, on {machine['device']}
- torch {machine['torch']}, mmcv {machine['mmcv']}, mmdet {machine['mmdet']}
"""
    except (KeyError, TypeError, ValueError) as error:
        raise ResultsError(
            f'{path}: expected what benchmarks/few_photos.py writes, found '
            f'{type(error).__name__}: {error}. Write it anew.') from None


def _spread(figure: dict) -> str:
    if figure['mean'] is None:
        return '-'
    spread = '' if figure['std'] is None else f' ± {figure["std"]:.1f}'
    return f'{figure["mean"]:.1f}{spread}'
