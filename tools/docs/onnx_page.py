"""The tables of docs/onnx-deployment.md and docs/quantization.md."""

from pathlib import Path

from multitask_refine.analysis.results_files import measured
from multitask_refine.evaluation import markdown_table

TASKS = dict(bbox_AP='box AP', segm_AP='mask AP', keypoints_AP='keypoint AP')
OUTPUTS = dict(
    boxes='boxes',
    scores='scores',
    masks='masks',
    keypoints='keypoints',
    keypoint_scores='keypoint scores',
)


def sections(folder: Path) -> dict[str, str]:
    """Make the generated parts of the page.

    Args:
        folder (Path): docs/results.

    Returns:
        dict[str, str]: Markdown by the name in the page's marker.
    """
    folder = folder / 'onnx'
    return {
        'evaluation': measured(folder / 'evaluation.json', _forms),
        'quantization': measured(folder / 'quantisation.json', _forms),
        'parity': measured(folder / 'parity.json', _parity),
    }


def _forms(found: dict) -> str:
    rows = [_form_row(network, form) for network in found['networks'] for form in network['forms']]
    return markdown_table(['config', 'form', *TASKS.values(), 'MB', 'ms per image'], rows)


def _form_row(network: dict, form: str) -> list[str]:
    numbers = network['forms'][form]
    return [
        f'`{network["config"]}`',
        'PyTorch' if form == 'pytorch' else form,
        *(f'{numbers[name]:.2f}' for name in TASKS),
        f'{numbers["bytes"] / 1e6:.1f}' if 'bytes' in numbers else '-',
        f'{1000 * numbers["seconds"]:.0f}' if 'seconds' in numbers else '-',
    ]


def _parity(found: dict) -> str:
    limits = [f'{found["limits"][name]:g}' if name in found['limits'] else '-' for name in OUTPUTS]
    rows = [['limit', '', '', '', *limits]]
    rows += [_parity_row(f'trained, `{row["config"]}`', row) for row in found['trained']]
    rows += [_parity_row(f'{kind}, random weights', row) for kind, row in found['drawn'].items()]
    differences = markdown_table(
        ['network', 'people, PyTorch', 'ONNX', 'images with another number', *OUTPUTS.values()],
        rows,
    )
    sizes, drawn = found['pictures'], found['more']
    photos = [str(len(sizes)), str(len(set(map(tuple, sizes)))), str(max(map(max, sizes)))]
    images = markdown_table(
        ['networks', 'photos', 'photo sizes', 'longest side in pixels', 'drawn images'],
        [['trained', *photos, str(len(drawn))], ['random weights', *photos, '0']],
    )
    return f'{differences}\n\n{images}'


def _parity_row(title: str, row: dict) -> list[str]:
    one, other = row['people']['pytorch'], row['people']['onnx']
    others = sum(a != b for a, b in zip(one, other, strict=True))
    return [
        title,
        str(sum(one)),
        str(sum(other)),
        f'{others} of {len(one)}',
        *(_cell(row, name) for name in OUTPUTS),
    ]


def _cell(row: dict, name: str) -> str:
    if name not in row['onnx']:
        return '-'
    onnx, exact = row['onnx'][name], row['float64'][name]
    text = f'{onnx["largest"]:.0e}'
    if onnx['beyond'] or exact['beyond']:
        text += f'; beyond: {onnx["beyond"]} of {onnx["total"]} ({exact["beyond"]})'
    return text
