"""docs/performance.md: how fast, beside whom, and what the floor is."""
import json
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from projects.multitask_refine.evaluation import markdown_table

HEAD = """# Performance

Speed of training, inference, evaluation and data, beside other frameworks on
the same weights and images. This page is made by
`python tools/analysis_tools/pages.py` from the files in
`docs/results/performance`, which the commands beside the tables wrote.

Machines are noisy: contestants take turns within one run, each in a process
of its own, and a ratio is the median over the rounds of the paired ratios.
Times are seconds; *times as fast* above 1 means that this project is faster.
Images are drawn, 4:3, and not resized; inference finds 20 people an image, a
training step takes 2 images with 4 people each.
"""

NAMES = dict(
    detectron2='Detectron2', torchvision='torchvision', mmdet='MMDetection',
    mmcv="mmcv's operator", regular='regular', rb='RB', rb_h='RB+H',
    plain='plain', **{
        'torchvision-keypoints': "torchvision's Keypoint R-CNN",
        'torchvision-masks': "torchvision's Mask R-CNN",
        'regular, ONNX': 'regular, onnxruntime',
        'rb, ONNX': 'RB, onnxruntime',
        'rb_h, ONNX': 'RB+H, onnxruntime'
    })
TASKS = {
    'predict-1': 'inference, 1 image',
    'predict-8': 'inference, 8 images',
    'step-2': 'training step, 2 images'
}


def render(folder: Path) -> str:
    """The whole page.

    Args:
        folder (Path): Where the results files are.
    """
    found = folder / 'performance'
    speed = _parts(found, 'cpu')
    cuda = _parts(found, 'cuda')
    return ''.join([
        HEAD, _targets(speed, cuda, _read(found / 'evaluation.json')),
        _speed('CPU', speed), _pieces(_read(found / 'pieces-cpu.json')),
        _stages(speed),
        _scaling(_read(found / 'scaling-cpu.json')),
        _evaluation(_read(found / 'evaluation.json')),
        _data(_read(found / 'data_pipeline.json')), _cuda(found, cuda)
    ])


def _read(path: Path) -> Optional[dict]:
    return json.loads(path.read_text()) if path.exists() else None


def _parts(folder: Path, device: str) -> Dict[str, dict]:
    """Parts of the speed benchmark by name, from all files of a device; a
    part whose sizes are in several files becomes one."""
    parts: Dict[str, dict] = {}
    files = folder.glob(f'speed-{device}*.json')
    for path in sorted(files, key=lambda path: path.stem):
        for name, found in json.loads(path.read_text())['parts'].items():
            part = parts.setdefault(name, dict(found, runs=[]))
            part['runs'].append(found['run'])
            for content in ('tasks', 'outputs', 'stages'):
                _merge(part[content], found[content])
    return parts


def _merge(target: dict, source: dict) -> None:
    """Put in what is not there, on every level."""
    for key, value in source.items():
        if isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        else:
            target.setdefault(key, value)


def _origin(run: dict) -> str:
    machine = run['machine']
    return (f'\n`{run["command"]}`, commit {run["commit"]}, {run["date"]}, '
            f'{machine["device"]}, torch {machine["torch"]}\n')


def _origins(part: dict) -> str:
    return ''.join(map(_origin, part['runs']))


def _times_as_fast(numbers: dict) -> float:
    return 1 / numbers['ratio']


# ---- targets


def _targets(speed: Dict[str, dict], cuda: Dict[str, dict],
             evaluation: Optional[dict]) -> str:
    rows = [
        ['inference on the CPU, times as fast as the best contestant', '1.5',
         _worst(speed, 'predict-1')],
        ['the same, 8 images at a time', '1.5', _worst(speed, 'predict-8')],
        ['training step on the CPU', '1.25', _worst(speed, 'step-2')],
        ['RB+H on the CPU, times the time of regular, inference', '1.5',
         _refined(speed, 'predict-1')],
        ['RB+H on the CPU, times the time of regular, training', '1.5',
         _refined(speed, 'step-2')],
        ["the same, with PyTorch's 3x3 convolutions in both, inference", '-',
         _refined(speed, 'predict-1', 'refinement-usual')],
        ["the same, with PyTorch's 3x3 convolutions in both, training", '-',
         _refined(speed, 'step-2', 'refinement-usual')],
        ['finding boxes and joints in outputs, % of inference on the CPU',
         '3', _share(speed, 'predict-1', ('box decoding',
                                          'keypoint decoding'))],
        ['making targets, % of a training step on the CPU', '3',
         _share(speed, 'step-2', ('targets', ))],
        ["inference on CUDA, times as fast as Detectron2", '2',
         _worst(cuda, 'predict-1', ('detectron2', ))],
        ['training step on CUDA', '2',
         _worst(cuda, 'step-2', ('detectron2', ))],
        ['RB+H on CUDA, times the time of regular, training', '1.35',
         _refined(cuda, 'step-2')],
        ["evaluation, times as fast as three runs of pycocotools", '3',
         'not measured' if evaluation is None else str(evaluation['ratio'])],
    ]
    table = markdown_table(['what', 'target', 'measured'], rows)
    return (f'\n## Targets\n\n{table}\n\nOn the CPU, 3x3 convolutions are '
            "computed by Winograd's method, with a quarter of the products "
            'each. A convolution that samples at learned positions needs all '
            "of them: with PyTorch's 3x3 convolutions in both networks the "
            'ratio is that of refinement alone.\n')


def _worst(parts: Dict[str, dict], task: str,
           names: Sequence[str] = ('detectron2', 'torchvision-keypoints',
                                   'torchvision-masks', 'mmdet')) -> str:
    """Against the contestant and at the size where it is least."""
    found = {
        f'{NAMES[name]}, {side} pixels': _times_as_fast(entrants['ours'])
        for name in names if name in parts
        for side, entrants in parts[name]['tasks'].get(task, {}).items()
        if len(entrants) > 1
    }
    if not found:
        return 'not measured'
    where = min(found, key=found.get)
    return f'{found[where]:.2f} ({where})'


def _refined(parts: Dict[str, dict], task: str,
             name: str = 'refinement') -> str:
    sides = parts.get(name, {}).get('tasks', {}).get(task, {})
    if not sides:
        return 'not measured'
    return ', '.join(f'{entrants["rb_h"]["ratio"]:.2f} ({side} pixels)'
                     for side, entrants in sides.items())


def _share(parts: Dict[str, dict], task: str,
           names: Sequence[str]) -> str:
    """Of the network with all heads, beside Detectron2's."""
    measured = parts.get('detectron2', {}).get('stages', {}).get('ours', {})
    shares = []
    for side, found in measured.get(task, {}).items():
        seconds = {name: stage['seconds']
                   for name, stage in found['stages'].items()}
        share = sum(seconds.get(name, 0) for name in names)
        shares.append(f'{100 * share / sum(seconds.values()):.1f} '
                      f'({side} pixels)')
    return ', '.join(shares) or 'not measured'


# ---- speed


def _speed(device: str, parts: Dict[str, dict]) -> str:
    if not parts:
        return f'\n## Training and inference on {device}\n\nNot measured.\n'
    return f'\n## Training and inference on {device}\n' + ''.join(
        _means(part) if name.startswith('means') else _part(part)
        for name, part in parts.items())


def _part(part: dict) -> str:
    rows = []
    for task, sides in part['tasks'].items():
        for side, entrants in sides.items():
            rows += [_row(task, side, name, numbers)
                     for name, numbers in entrants.items()]
    table = markdown_table(
        ['task', 'pixels', 'who', 'seconds', 'times as fast', 'GiB'], rows)
    lacks = ''.join(f'\nNot installed: {NAMES.get(name, name)} ({reason}).\n'
                    for name, reason in part['not_installed'].items())
    return (f'\n### {part["about"]}\n\n{table}\n{lacks}{_outputs(part)}'
            f'{_versions(part)}{_origins(part)}')


def _row(task: str, side: str, name: str, numbers: dict) -> List[str]:
    who = 'this project' if name == 'ours' else NAMES.get(name, name)
    return [TASKS[task], side, who, f'{numbers["median"]:.2f}',
            f'{_times_as_fast(numbers):.2f}',
            f'{numbers["peak_bytes"] / 2**30:.1f}']


def _means(part: dict) -> str:
    """A row for each mean: what was expected, and what it brought."""
    rows = []
    for name, about in part['entrants'].items():
        found = {task: sides[min(sides, key=int)].get(name)
                 for task, sides in part['tasks'].items()}
        memory = found['step-2'] or found['predict-1']
        rows.append([
            name, about['prediction'],
            *(f'{_times_as_fast(numbers):.2f}' if numbers else '-'
              for numbers in found.values()),
            f'{memory["peak_bytes"] / 2**30:.1f}'
        ])
    table = markdown_table(
        ['what', 'expected', *(TASKS[task] for task in part['tasks']),
         'GiB'], rows)
    sides = min(part['tasks']['step-2'], key=int)
    return (f'\n### {part["about"]}\n\nTimes as fast as *plain*, at {sides} '
            'pixels; what was expected was written before this run, some of '
            'it after trials of single layers. '
            f'GiB are those of the training step, if there is one.\n\n{table}'
            f'\n{_versions(part)}{_origins(part)}')


def _outputs(part: dict) -> str:
    """How far the results are from the reference's."""
    lines = []
    for side, entrants in part['outputs'].items():
        for name, found in entrants.items():
            numbers = ', '.join(
                f'{key.replace("_", " ")} {value:.4g}'
                for key, value in found.items()
                if isinstance(value, (int, float)))
            lines.append(f'- {NAMES.get(name, name)}, {side} pixels, largest '
                         f'differences: {numbers}')
    return '\n' + '\n'.join(lines) + '\n' if lines else ''


def _versions(part: dict) -> str:
    lines = [
        f'{NAMES.get(name, name)}: '
        + ', '.join(f'{key} {value}' for key, value in
                    about['versions'].items()) + f', {about["threads"]} threads'
        for name, about in part['entrants'].items()
    ]
    return '\n' + '; '.join(dict.fromkeys(lines)) + '\n'


def _pieces(found: Optional[dict]) -> str:
    """Single functions, a row for each way."""
    title = '\n## Single functions\n\n'
    if found is None:
        return f'{title}Not measured.\n'
    rows = []
    for piece in found['pieces']:
        for name, way in piece['ways'].items():
            what = piece['about'] if name == piece['reference'] else ''
            numbers = (['-', f'{way["missing"]} is not installed', '-']
                       if 'missing' in way else
                       [f'{1000 * way["median"]:.2f}',
                        f'{_times_as_fast(way):.2f}',
                        f'{way["difference"]:.1e}'])
            rows.append([what, name, way['expected'] or '-', *numbers])
    table = markdown_table(['what', 'how', 'expected', 'ms', 'times as fast',
                            'largest difference'], rows)
    return (f'{title}Means that are too small to be seen in a whole network, '
            'beside the first way of each; what was expected was written '
            f'before the run.\n\n{table}\n{_origin(found["run"])}')


def _stages(parts: Dict[str, dict]) -> str:
    """Where the time goes, beside the floor, of regular and RB+H."""
    measured = parts.get('refinement', {}).get('stages', {})
    text = ''
    for name, tasks in measured.items():
        for task, sides in tasks.items():
            if task == 'predict-8' or name == 'rb':
                continue
            for side, found in sides.items():
                text += _stage_table(name, task, side, found)
    if not text:
        return '\n## Where the time goes\n\nNot measured.\n'
    return ('\n## Where the time goes\n\nThe floor is the longer of the '
            "stage's operations over the machine's rate of a large matrix "
            'product and its bytes over that of a large copy, both measured '
            f'in the same process.\n{text}')


def _stage_table(name: str, task: str, side: str, found: dict) -> str:
    total = sum(stage['seconds'] for stage in found['stages'].values())
    rows = [
        [stage, f'{1000 * numbers["seconds"]:.1f}',
         f'{100 * numbers["seconds"] / total:.1f}',
         f'{1000 * numbers["floor_seconds"]:.1f}',
         '-' if numbers['ratio'] is None else f'{numbers["ratio"]:.1f}']
        for stage, numbers in sorted(
            found['stages'].items(), key=lambda item: -item[1]['seconds'])
    ]
    table = markdown_table(
        ['stage', 'ms', '%', 'floor in ms', 'times the floor'], rows)
    return f'\n### {NAMES[name]}, {TASKS[task]}, {side} pixels\n\n{table}\n'


# ---- the rest


def _scaling(found: Optional[dict]) -> str:
    title = '\n## As images, people and sizes grow\n'
    if found is None:
        return f'{title}\nNot measured.\n'
    text = ''
    for kind, series in found['series'].items():
        rows = []
        for value, entrants in series.items():
            for name, numbers in entrants.items():
                rows.append([NAMES.get(name, name), value,
                             f'{numbers["median"]:.2f}',
                             f'{numbers["peak_bytes"] / 2**30:.1f}'])
        table = markdown_table(['variant', kind, 'seconds', 'GiB'], rows)
        text += f'\n{table}\n'
    return title + text + _origin(found['run'])


def _evaluation(found: Optional[dict]) -> str:
    title = "\n## Evaluation at the size of val2017\n\n"
    if found is None:
        return f'{title}Not measured.\n'
    size = found['size']
    rows = [[name, ', '.join(f'{value:.1f}' for value in seconds)]
            for name, seconds in found['seconds'].items()]
    table = markdown_table(['', 'seconds of each round'], rows)
    return (f'{title}{size["images"]} images, {size["persons"]} persons, '
            f'{size["detections"]} detections, three tasks: '
            f'{found["ratio"]} times as fast as three runs of pycocotools; '
            'the figures differ by at most '
            f'{found["largest_difference"]:.1e} percent points.\n\n{table}\n'
            f'{_origin(found["run"])}')


def _data(found: Optional[dict]) -> str:
    title = '\n## Data pipeline\n\n'
    if found is None:
        return f'{title}Not measured.\n'
    rates = markdown_table(
        ['loader workers', 'images a second, each round'],
        [[workers, ', '.join(map(str, values))]
         for workers, values in found['images_per_second'].items()])
    steps = markdown_table(
        ['step', 'ms an image'],
        [[name, str(value)]
         for name, value in found['step_milliseconds'].items()])
    return (f'{title}`{found["config"]}` on JPEG files of 480 x 640 pixels '
            f'with {found["persons_per_image"]} people.\n\n{rates}\n\n{steps}'
            f'\n{_origin(found["run"])}')


def _cuda(folder: Path, parts: Dict[str, dict]) -> str:
    return ''.join([
        _speed('CUDA', parts), _operators(_read(folder / 'cuda-ops.json')),
        _precision(_read(folder / 'cuda-precision.json')),
        _kernels(_read(folder / 'cuda-kernels.json'))
    ])


def _operators(found: Optional[dict]) -> str:
    title = '\n## CUDA operators against float64\n\n'
    if found is None:
        return (f'{title}Not measured: no CUDA machine was at hand. '
                '`python benchmarks/cuda/suite.py` runs everything, in parts '
                'that resume.\n')
    rows = [
        [row['operator'], row['type'],
         f'{max(row["errors"].values()):.1e}' if 'errors' in row else
         row['failure'], 'yes' if row['passed'] else 'NO']
        for row in found['operators']
    ]
    table = markdown_table(['operator', 'type', 'largest error', 'passed'],
                           rows)
    return title + table + '\n' + _origin(found['run'])


def _precision(found: Optional[dict]) -> str:
    title = '\n## Mixed precision on CUDA\n\n'
    if found is None:
        return f'{title}Not measured.\n'
    rows = [
        [NAMES.get(row['variant'].replace('-', '_'), row['variant']),
         row['type'],
         *([row['failure'], '-', '-'] if 'failure' in row else
           [f'{row["loss"]:.4f}', f'{row["gradient_cosine"]:.5f}',
            f'{row["gradient_length"]:.5f}'])] for row in found['rows']
    ]
    table = markdown_table(
        ['variant', 'type', 'loss', 'cosine of the gradient and the exact '
         'one', 'its length to that of the exact one'], rows)
    return title + table + '\n' + _origin(found['run'])


def _kernels(found: Optional[dict]) -> str:
    title = '\n## The largest kernels on CUDA\n\n'
    if found is None:
        return f'{title}Not measured.\n'
    text = ''
    for variant, tasks in found['variants'].items():
        for task, profile in tasks.items():
            rows = [[row['name'], str(row['calls']),
                     str(row['milliseconds'])] for row in profile['largest']]
            waits = ', '.join(f'{name} {count} times' for name, count in
                              profile['waits'].items()) or 'never'
            name = NAMES.get(variant.replace('-', '_'), variant)
            text += (f'### {name}, {task}, {found["side"]} pixels\n\nThe host '
                     f'waits: {waits}.\n\n'
                     + markdown_table(['kernel', 'calls', 'ms'], rows)
                     + '\n\n')
    return title + text.rstrip('\n') + '\n' + _origin(found['run'])
