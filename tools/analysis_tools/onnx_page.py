"""docs/onnx-results.md: exported networks beside PyTorch, and smaller ones."""
import json
from pathlib import Path
from typing import List, Optional

from projects.multitask_refine.evaluation import markdown_table

HEAD = """# Exported networks: results

How near ONNX files ([onnx.md](onnx.md)) are to PyTorch, and what float16 and
int8 cost and gain, on the CPU. This page is made by
`python tools/analysis_tools/pages.py` from the files in `docs/results/onnx`,
which the commands below the tables wrote. Times are medians over pictures, on
which the files take turns, with onnxruntime's own number of threads; they are
for comparison within a table.
"""
TASKS = dict(bbox_AP='box AP', segm_AP='mask AP', keypoints_AP='keypoint AP')
OUTPUTS = dict(boxes='boxes', scores='scores', masks='masks',
               keypoints='joints', keypoint_scores='joint scores')
PARITY = """\
Each cell is the largest difference that is within the limit: {limits} (boxes
and joints in pixels; joint scores greater than 1 by their share). What is
beyond it is counted, a person or joint each, and in parentheses how many of
them PyTorch's float32 has beyond it beside its own float64, which is the work
of rounding alone: it decides between two boxes that are equally good, or two
cells that are equally high. Networks whose weights were drawn from a seed have
many of both.

Pictures: {photos} photos of {sizes} sizes, up to {side} pixels long; for the
trained networks also {drawn} drawn ones. The last of each is grey all over.
"""


def render(folder: Path) -> str:
    """The whole page.

    Args:
        folder (Path): Where the results files are.
    """
    found = folder / 'onnx'
    return ''.join([
        HEAD, _forms('AP of checkpoint and file', found / 'evaluation.json'),
        _forms('Smaller numbers', found / 'quantisation.json'),
        _parity(found / 'parity.json')
    ])


def _read(path: Path) -> Optional[dict]:
    return json.loads(path.read_text()) if path.exists() else None


def _origin(run: dict) -> str:
    machine = run['machine']
    return (f'\n`{run["command"]}`, commit {run["commit"]}, {run["date"]}, '
            f'{machine["device"]}, torch {machine["torch"]}\n')


def _forms(heading: str, path: Path) -> str:
    content = _read(path)
    if content is None:
        return f'\n## {heading}\n\nNot measured.\n'
    rows = [
        _form_row(network, form) for network in content['networks']
        for form in network['forms']
    ]
    table = markdown_table(
        ['config', 'form', *TASKS.values(), 'MB', 'ms a picture'], rows)
    return f'\n## {heading}\n\n{table}\n{_origin(content["run"])}'


def _form_row(network: dict, form: str) -> List[str]:
    numbers = network['forms'][form]
    return [
        f'`{network["config"]}`', 'PyTorch' if form == 'pytorch' else form,
        *(f'{numbers[name]:.2f}' for name in TASKS),
        f'{numbers["bytes"] / 1e6:.1f}' if 'bytes' in numbers else '-',
        f'{1000 * numbers["seconds"]:.0f}' if 'seconds' in numbers else '-'
    ]


def _parity(path: Path) -> str:
    title = '\n## Output by output\n\n'
    content = _read(path)
    if content is None:
        return f'{title}Not measured.\n'
    sizes = content['pictures']
    text = PARITY.format(
        limits=', '.join(f'{OUTPUTS[name]} {limit:g}'
                         for name, limit in content['limits'].items()),
        photos=len(sizes), drawn=len(content['more']),
        sizes=len(set(map(tuple, sizes))), side=max(map(max, sizes)))
    rows = [_parity_row(f'trained, `{row["config"]}`', row)
            for row in content['trained']]
    rows += [_parity_row(f'{kind}, drawn weights', row)
             for kind, row in content['drawn'].items()]
    table = markdown_table(
        ['network', 'people, PyTorch', 'ONNX', 'pictures with another number',
         *OUTPUTS.values()], rows)
    return f'{title}{text}\n{table}\n{_origin(content["run"])}'


def _parity_row(title: str, row: dict) -> List[str]:
    one, other = row['people']['pytorch'], row['people']['onnx']
    others = sum(a != b for a, b in zip(one, other))
    return [title, str(sum(one)), str(sum(other)),
            f'{others} of {len(one)}',
            *(_cell(row, name) for name in OUTPUTS)]


def _cell(row: dict, name: str) -> str:
    if name not in row['onnx']:
        return '-'
    onnx, exact = row['onnx'][name], row['float64'][name]
    text = f'{onnx["largest"]:.0e}'
    if onnx['beyond'] or exact['beyond']:
        text += (f'; beyond: {onnx["beyond"]} of {onnx["total"]} '
                 f'({exact["beyond"]})')
    return text
