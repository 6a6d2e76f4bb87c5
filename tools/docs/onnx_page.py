"""The tables of docs/onnx-deployment.md and docs/quantization.md."""

from pathlib import Path

from multitask_refine.analysis.results_files import measured
from multitask_refine.evaluation import markdown_table

from .processors import with_processor

TASKS = dict(bbox_AP='box AP', segm_AP='mask AP', keypoints_AP='keypoint AP')
BUSY = 0.5  # processes
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
        'evaluation': measured(folder / 'evaluation.json', with_processor(forms_table)),
        'quantization': measured(folder / 'quantization.json', with_processor(forms_table)),
        'runtimes': measured(folder / 'runtimes.json', runtimes_tables),
        'parity': measured(folder / 'parity.json', parity_tables),
        'deform-conv': measured(folder / 'deform-conv.json', layers_table),
    }


def forms_table(found: dict) -> str:
    """Format AP, size and time of each form of each network."""
    rows = []
    for network in found['networks']:
        for form, numbers in network['forms'].items():
            size = f'{numbers["bytes"] / 1e6:.1f}' if 'bytes' in numbers else '-'
            time = f'{1000 * numbers["seconds"]:.0f}' if 'seconds' in numbers else '-'
            name = 'PyTorch' if form == 'pytorch' else form
            metrics = [f'{numbers[metric]:.2f}' for metric in TASKS]
            rows.append([f'`{network["config"]}`', name, *metrics, size, time])
    return markdown_table(['config', 'form', *TASKS.values(), 'MB', 'ms per image'], rows)


def runtimes_tables(found: dict) -> str:
    """Format AP, latency, size and memory of each form of each network."""
    tables = []
    # The benchmark itself uses all cores; before it nothing else should.
    is_busy = found['load_average'] > BUSY
    for network in found['networks']:
        forms, reference = network['forms'], network['reference']
        sides = list(forms[reference]['sides'])
        rows = []
        for name, numbers in forms.items():
            metrics = [f'{numbers[each]:.2f}' if each in numbers else '-' for each in TASKS]
            times = [numbers['sides'][side] for side in sides]
            rows.append(
                [
                    name,
                    *metrics,
                    *('-' if is_busy else f'{1000 * each["median"]:.0f}' for each in times),
                    *('-' if is_busy else f'{1 / each["ratio"]:.2f}' for each in times),
                    f'{numbers["bytes"] / 1e6:.1f}' if 'bytes' in numbers else '-',
                    f'{max(each["peak_bytes"] for each in times) / 2**30:.2f}',
                ]
            )
        titles = ['run by', *TASKS.values(), *(f'ms, {side} pixels' for side in sides)]
        titles += [f'times as fast, {side} pixels' for side in sides] + ['MB', 'peak GiB']
        weights = 'trained' if network['checkpoint_sha256'] else 'synthetic weights'
        tables.append(f'`{network["config"]}`, {weights}; reference: {reference}')
        tables.append(markdown_table(titles, rows))
        tables += [f'Left out: {name} ({why})' for name, why in network['left_out'].items()]
    if is_busy:
        tables.append(
            'No times: the machine was busy with other programs '
            f'({found["load_average"]:.1f} processes ran or waited before the measurement).'
        )
    machine = found['run']['machine']
    instructions = ', '.join(machine['instructions']) or 'unknown'
    tables.append(
        f'Instruction sets of the processor: {instructions}; threads: {found["threads"]}.'
    )
    return '\n\n'.join(tables)


def parity_tables(found: dict) -> str:
    """Format the largest differences between PyTorch and ONNX, and the images compared."""
    limits = [f'{found["limits"][name]:g}' if name in found['limits'] else '-' for name in OUTPUTS]
    rows = [['limit', '', '', '', *limits]]
    networks = [(f'trained, `{row["config"]}`', row) for row in found['trained']]
    networks += [(f'{kind}, random weights', row) for kind, row in found['random_weights'].items()]
    for title, row in networks:
        pytorch, onnx = row['num_instances']['pytorch'], row['num_instances']['onnx']
        others = sum(a != b for a, b in zip(pytorch, onnx, strict=True))
        counts = [str(sum(pytorch)), str(sum(onnx)), f'{others} of {len(pytorch)}']
        cells = []
        for name in OUTPUTS:
            difference, exact = row['onnx'].get(name), row['float64'].get(name)
            cell = f'{difference["largest"]:.0e}' if difference else '-'
            if difference and (difference['beyond'] or exact['beyond']):
                share = f'{difference["beyond"]} of {difference["total"]}'
                cell += f'; beyond: {share} ({exact["beyond"]})'
            cells.append(cell)
        rows.append([title, *counts, *cells])
    differences = markdown_table(
        ['network', 'people, PyTorch', 'ONNX', 'images with another number', *OUTPUTS.values()],
        rows,
    )
    sizes, drawn = found['image_sizes'], found['drawn_image_sizes']
    photos = [str(len(sizes)), str(len(set(map(tuple, sizes)))), str(max(map(max, sizes)))]
    images = markdown_table(
        ['networks', 'photos', 'photo sizes', 'longest side in pixels', 'drawn images'],
        [['trained', *photos, str(len(drawn))], ['random weights', *photos, '0']],
    )
    return f'{differences}\n\n{images}'


def layers_table(found: dict) -> str:
    """Format the time of each layer in each form."""
    forms = list(next(iter(found['layers'].values()))['milliseconds'])
    rows = []
    for name, layer in found['layers'].items():
        shape = ' x '.join(map(str, layer['shape']))
        rows.append([name, shape, *(f'{layer["milliseconds"][form]:.0f}' for form in forms)])
    return markdown_table(['layer', 'shape', *(f'{form}, ms' for form in forms)], rows)
