"""The table of docs/web-page.md: a server under load."""

from pathlib import Path

from multitask_refine.analysis.results_files import measured
from multitask_refine.evaluation import markdown_table

from .processors import with_processor


def sections(folder: Path) -> dict[str, str]:
    """Make the generated parts of the page.

    Args:
        folder (Path): docs/results.

    Returns:
        dict[str, str]: Markdown by the name in the page's marker.
    """
    return {'load': measured(folder / 'performance/serving.json', with_processor(load_table))}


def load_table(found: dict) -> str:
    """Format the groups of requests, their statuses and times, and the memory of the server."""
    rows = []
    for group in found['groups']:
        statuses = [f'{number} x {status}' for status, number in group['statuses'].items()]
        times = []
        for name in ('median_s', 'longest_s'):
            seconds = group[name].get('200')
            times.append('-' if seconds is None else f'{seconds:.2f}')
        refused = [each for status, each in group['longest_s'].items() if status != '200']
        times.append(f'{max(refused):.2f}' if refused else '-')
        title = group['requests'] if group['passed'] else f'{group["requests"]} (NOT passed)'
        count = sum(group['statuses'].values())
        rows.append(
            [title, str(count), str(group['at_once']), ', '.join(statuses), *times]
            + [f'{group["peak_mib"]:.0f}']
        )
    columns = ['requests', 'number', 'at once', 'statuses', 'median s', 'longest s']
    table = markdown_table([*columns, 'longest refusal s', 'peak MiB'], rows)
    before, after = found['load_average']
    return (
        f'{table}\n\nAn image of {found["image"]} pixels; load average of the machine before the '
        f'server was started {before}, at the end {after}.'
    )
