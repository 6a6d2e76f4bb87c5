"""The tables of docs/reliability.md: a run under load, and random inputs."""

from pathlib import Path

from multitask_refine.analysis.results_files import measured
from multitask_refine.evaluation import markdown_table


def sections(folder: Path) -> dict[str, str]:
    """Make the generated parts of the page.

    Args:
        folder (Path): docs/results.

    Returns:
        dict[str, str]: Markdown by the name in the page's marker.
    """
    return {
        'endurance': measured(folder / 'performance/endurance.json', endurance_tables),
        'fuzzing': measured(folder / 'fuzzing/fuzzing.json', fuzzing_table),
    }


def endurance_tables(found: dict) -> str:
    """Format what a run under load met and counted, and the memory of its processes."""
    damage = found['damage']
    counts = {
        'training processes (ranks)': found['ranks'],
        'loader workers per rank': found['workers'],
        'iterations': found['iterations'],
        'drawn images in the data set': damage['images'],
        'missing images': damage['missing'],
        'damaged images': damage['files_before'],
        'damaged annotations': sum(damage['annotations'].values()),
        'iterations before SIGTERM': found['stopped_after'],
        'exit status after SIGTERM': found['status'][0],
        'images damaged before the run was resumed': damage['files_between'],
        'exit status of the resumed run': found['status'][1],
        'images that the loaders drew': found['images_drawn'],
        '**replaced and counted**': found['replaced'],
        '**expected to be replaced**': found['replaced_expected'],
    }
    rows = [
        [f'{leg}', row['process'], *map(str, row['quarters']), f'{row["growth_percent"]:+.1f}']
        for leg, members in enumerate(found['memory'], 1)
        for row in members
    ]
    memory = markdown_table(['start', 'process', '1st', '2nd', '3rd', '4th', 'growth in %'], rows)
    counted = markdown_table(
        ['what', 'number'], [[name, str(value)] for name, value in counts.items()]
    )
    return f'{counted}\n\n{memory}'


def fuzzing_table(found: dict) -> str:
    """Format the properties and the random inputs of each module."""
    run = found['run']
    rows = [
        [
            f'`tests/fuzz/{module}.py`',
            str(len(properties)),
            str(sum(properties.values())),
            'yes' if module in run['failed'] else 'no',
        ]
        for module, properties in run['inputs'].items()
    ]
    return markdown_table(['module', 'properties', 'inputs', 'failed'], rows)
