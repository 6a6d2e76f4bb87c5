"""The table of docs/large-datasets.md: a dataset on a cluster that loses workers."""

from pathlib import Path

from multitask_refine.analysis.results_files import measured
from multitask_refine.evaluation import markdown_table

from .processors import with_processor

_TITLES = dict(
    one_process='one process, without Ray',
    cluster='all nodes',
    worker_and_node_killed='a worker, then a node killed',
    driver_killed_and_repeated='the command killed and repeated, on the other nodes',
)


def sections(folder: Path) -> dict[str, str]:
    """Make the generated parts of the page.

    Args:
        folder (Path): docs/results.

    Returns:
        dict[str, str]: Markdown by the name in the page's marker.
    """
    return {'dataset': measured(folder / 'performance/dataset.json', with_processor(runs_table))}


def runs_table(found: dict) -> str:
    """Format what each run wrote, and its throughput."""
    rows = []
    for name, run in found['runs'].items():
        rows.append(
            [
                _TITLES[name],
                f'{run["images"]} of {found["images_made"]}',
                str(run['repeated']),
                f'{run["bad_images"]} of {found["damaged_images"]}',
                {True: 'yes', False: 'NO'}.get(run.get('same_bytes'), '-'),
                f'{run["seconds"]:.0f}',
                f'{run["images_per_second"]:.1f}',
                f'{run["images_per_second_after_first_shard"]:.1f}',
                f'{run["load_average"]:.0f}',
            ]
        )
    columns = ['run', 'images written', 'twice', 'damaged images found']
    columns += ['same files', 's', 'images/s', 'after the first shard', 'load before']
    return (
        f'{markdown_table(columns, rows)}\n\n{found["nodes"]} nodes of one CPU core each, all on '
        f'one machine with {found["cpu_cores"]} cores (*load before*: its load average, to which '
        'the run before contributes). The seconds have the start of Python, of Ray and of the '
        'models; each model has one thread. The cores are the limit: the workers and the '
        'processes of Ray share them, so this says what Ray costs and not how it scales. '
        'Machines and GPUs of their own were not measured.'
    )
