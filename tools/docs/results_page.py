"""The tables of docs/model-zoo.md: single runs with how each was made."""

import json
from pathlib import Path
from statistics import mean, stdev

from multitask_refine.analysis.results_files import (
    NOT_MEASURED,
    ResultsError,
    measured,
    read_results,
    require_fields,
)
from multitask_refine.evaluation import format_table, markdown_table

_FIELDS = ('command', 'checkpoint_sha256', 'annotations', 'num_images', 'commit')
_FIELDS += ('date', 'seconds', 'seed', 'machine')
# Results of several runs, which have tables of their own.
_FEW_PHOTOS = 'few-photos.json'
_PARTIAL_LABELS = 'partial-labels.json'
_TEST_TIME = 'test-time.json'
_TRAINING_PARITY = 'training-parity.json'


def sections(folder: Path) -> dict[str, str]:
    """Make the generated parts of the page.

    Args:
        folder (Path): docs/results.

    Returns:
        dict[str, str]: Markdown by the name in the page's marker.

    Raises:
        ResultsError: If a results file lacks a field.
    """
    runs = [
        f'## {path.stem}\n\n{render_result(path)}'
        for path in sorted(folder.glob('*.json'))
        if path.name not in (_FEW_PHOTOS, _PARTIAL_LABELS, _TEST_TIME, _TRAINING_PARITY)
    ]
    return {
        'few-photos': few_photos(folder / _FEW_PHOTOS),
        'runs': '\n'.join(runs) or NOT_MEASURED,
    }


def render_result(path: Path, digits: int = 16) -> str:
    """The table of one results file and how it was made.

    Args:
        path (Path): The file.
        digits (int): Of the checkpoint's SHA-256. Defaults to 16 of 64.

    Returns:
        str: 'Not measured.' if there is no such file.

    Raises:
        ResultsError: If a field is missing.
    """
    if not path.exists():
        return NOT_MEASURED
    content = read_results(path)
    run = content.pop('run')
    require_fields(path, run, _FIELDS, ('device', 'torch', 'mmcv', 'mmdet'))
    machine, stages = run['machine'], run.get('stages')
    text = f"""{format_table(content)}

- command: `{run['command']}`
- config: `{run['config']}`, seed {run['seed']}
- checkpoint: SHA-256 `{run['checkpoint_sha256'][:digits]}`
- data: `{run['annotations']}`, {run['num_images']} images
- commit {run['commit']}, {run['date']}, {run['seconds']} s on {machine['device']}
- torch {machine['torch']}, mmcv {machine['mmcv']}, mmdet {machine['mmdet']}
"""
    if stages is not None:  # of tools/quickstart.py
        parts = ', '.join(f'{title.lower()} {seconds:.0f} s' for title, seconds in stages.items())
        text += f'- with set-up done: {sum(stages.values()):.0f} s ({parts})\n'
    return text


def few_photos(path: Path) -> str:
    """Format the results of training on few photos, a row for each setting.

    Args:
        path (Path): What benchmarks/data/few_photos.py wrote.

    Returns:
        str: The table and how it came about, or 'Not measured.'

    Raises:
        ResultsError: If it is not what the benchmark writes.
    """
    if not path.exists():
        return NOT_MEASURED
    try:
        content = json.loads(path.read_text())
        run, machine = content['run'], content['run']['machine']
        rows = []
        for setting, row in content['summary'].items():
            cells = []
            for figure in (row['bbox'], row['segm'], row['keypoints']):
                cell = '-' if figure['mean'] is None else f'{figure["mean"]:.1f}'
                cells.append(cell if figure['std'] is None else f'{cell} ± {figure["std"]:.1f}')
            seconds = '-' if row['seconds'] is None else f'{row["seconds"]:.0f}'
            rows.append([setting, str(row['runs']), *cells, seconds])
        head = ['start, network, training photos', 'runs', 'boxes', 'masks', 'keypoints']
        return f"""{markdown_table([*head, 'seconds, at most'], rows)}

- command: `{run['command']}`
- base: `{content['base']}`, SHA-256 `{content['base_sha256'][:16]}`
- data: SHA-256 `{content['data_sha256'][:16]}`
- commit {run['commit']}, {run['date']}, on {machine['device']}
- torch {machine['torch']}, mmcv {machine['mmcv']}, mmdet {machine['mmdet']}
"""
    except (KeyError, TypeError, ValueError) as error:
        raise ResultsError(
            f'{path}: expected what benchmarks/data/few_photos.py writes, found '
            f'{type(error).__name__}: {error}. Write it anew.'
        ) from None


def training_parity(folder: Path) -> dict[str, str]:
    """Make the table of training steps beside those of other frameworks.

    Args:
        folder (Path): docs/results.

    Returns:
        dict[str, str]: Markdown by the name in the page's marker.
    """
    return {'training-parity': measured(folder / _TRAINING_PARITY, training_parity_table)}


def training_parity_table(content: dict) -> str:
    """Format the largest differences of each source."""
    fields = (
        'losses_first_step',
        'losses_all_steps',
        'gradients',
        'weights_first_step',
        'weights_all_steps',
    )
    rows = [
        [
            each['source'],
            str(each['num_losses']),
            str(each['num_parameters']),
            *(f'{each[field]:.0e}' for field in fields),
        ]
        for each in content['sources']
    ]
    titles = ['source', 'loss terms', 'parameters', 'losses, first step', 'losses, five steps']
    titles += ['gradients, first step', 'weights after one step', 'weights after five steps']
    return markdown_table(titles, rows)


def partial_labels(folder: Path) -> dict[str, str]:
    """Make the table of partly labeled training data.

    Args:
        folder (Path): docs/results.

    Returns:
        dict[str, str]: Markdown by the name in the page's marker.

    Raises:
        ResultsError: If the results file is not one of the benchmark.
    """
    return {'partial-labels': measured(folder / _PARTIAL_LABELS, partial_labels_table)}


def partial_labels_table(content: dict) -> str:
    """Format mean and deviation of each training set, and the gain of the partial labels."""
    titles = {
        'all': 'all labels',
        'partial': 'half of the masks, half of the keypoints removed',
        'half': 'half of the images, all labels',
    }
    tasks = ('bbox', 'segm', 'keypoints')
    values = {
        name: {
            task: [
                run['metrics'][f'{task}_AP']
                for run in sorted(content['runs'], key=lambda run: run['seed'])
                if run['variant'] == name
            ]
            for task in tasks
        }
        for name in titles
    }
    rows = [
        [title, *(f'{mean(values[name][t]):.1f} ± {stdev(values[name][t]):.1f}' for t in tasks)]
        for name, title in titles.items()
    ]
    gains = {
        task: [a - b for a, b in zip(values['partial'][task], values['half'][task], strict=True)]
        for task in tasks
    }
    rows.append(
        [
            'second minus third row, seed by seed',
            *(', '.join(f'{gain:+.1f}' for gain in gains[task]) for task in tasks),
        ]
    )
    table = markdown_table(['training data', 'box AP', 'mask AP', 'keypoint AP'], rows)
    seeds = ', '.join(map(str, content['seeds']))
    return (
        f'{table}\n\n{content["images"]} images, {content["iterations"]} iterations of 4 images, '
        f'AdamW with rate {content["rate"]:g}, seeds {seeds}; mean and standard deviation.'
    )


def test_time(folder: Path) -> dict[str, str]:
    """Make the table of settings at test time.

    Args:
        folder (Path): docs/results.

    Returns:
        dict[str, str]: Markdown by the name in the page's marker.

    Raises:
        ResultsError: If the results file is not one of the benchmark.
    """
    return {'test-time': measured(folder / _TEST_TIME, test_time_table)}


def test_time_table(content: dict) -> str:
    """Format the AP of each variant, and its difference from the first one."""
    tasks = dict(bbox='box', segm='mask', keypoints='keypoint')
    (first, reference), *others = content['variants'].items()
    datasets = list(reference['metrics'])
    cells = [(data, task) for data in datasets for task in tasks]
    before = {(data, task): reference['metrics'][data][task] for data, task in cells}
    rows = [[f'**{first}**', *(f'{before[cell]:.1f}' for cell in cells)]]
    for title, row in others:
        values = [row['metrics'][data][task] for data, task in cells]
        rows.append(
            [title]
            + [
                f'{value:.1f} ({value - before[cell]:+.1f})'
                for value, cell in zip(values, cells, strict=True)
            ]
        )
    titles = [f'{data}: {tasks[task]} AP' for data, task in cells]
    images = ', '.join(f'{count} images of {name}' for name, count in reference['images'].items())
    commits = ', '.join(sorted({row['commit'] for row in content['variants'].values()}))
    return (
        f'{markdown_table(["variant", *titles], rows)}\n\n- {images}\n'
        f'- checkpoint: SHA-256 `{content["checkpoint_sha256"][:16]}`\n'
        f'- evaluated at commit {commits}'
    )
