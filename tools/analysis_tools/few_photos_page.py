"""The section of docs/results.md on fine-tuning with few photos."""
import json
from pathlib import Path

from projects.multitask_refine.evaluation.table import markdown_table

from .results_files import ResultsError

FILE = 'few-photos.json'


def render(path: Path) -> str:
    """Format what benchmarks/few_photos.py wrote.

    Args:
        path (Path): The results file.

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
