"""The tables of docs/performance.md: speed beside others, and the floor."""

import json
from collections.abc import Sequence
from pathlib import Path

from multitask_refine.analysis.results_files import NOT_MEASURED, measured, origin
from multitask_refine.evaluation import markdown_table

NAMES = dict(
    detectron2='Detectron2',
    torchvision='torchvision',
    mmdet='MMDetection',
    mmcv="mmcv's operator",
    regular='regular',
    rb='RB',
    rb_h='RB+H',
    plain='plain',
    ours='this project',
    **{
        'torchvision-keypoints': "torchvision's Keypoint R-CNN",
        'torchvision-masks': "torchvision's Mask R-CNN",
        'regular, ONNX': 'regular, onnxruntime',
        'rb, ONNX': 'RB, onnxruntime',
        'rb_h, ONNX': 'RB+H, onnxruntime',
    },
)
TASKS = {
    'predict-1': 'inference, 1 image',
    'predict-8': 'inference, 8 images',
    'step-2': 'training step, 2 images',
}


def sections(folder: Path) -> dict[str, str]:
    """Make the generated parts of the page.

    Args:
        folder (Path): docs/results.

    Returns:
        dict[str, str]: Markdown by the name in the page's marker.
    """
    folder = folder / 'performance'
    speed, cuda = _parts(folder, 'cpu'), _parts(folder, 'cuda')
    return {
        'targets': _targets(speed, cuda, folder / 'evaluation.json'),
        'cpu': _speed(speed),
        'functions': measured(folder / 'pieces-cpu.json', _functions),
        'stages': _stages(speed),
        'scaling': measured(folder / 'scaling-cpu.json', _scaling),
        'evaluation': measured(folder / 'evaluation.json', _evaluation),
        'data': measured(folder / 'data_pipeline.json', _data),
        'cuda': _speed(cuda),
        'cuda-operators': measured(folder / 'cuda-ops.json', _operators),
        'cuda-precision': measured(folder / 'cuda-precision.json', _precision),
        'cuda-kernels': measured(folder / 'cuda-kernels.json', _kernels),
    }


def _parts(folder: Path, device: str) -> dict[str, dict]:
    """Collect the parts of the speed benchmark by name, from all files of a device.

    A part whose sizes are in several files becomes one.
    """
    parts: dict[str, dict] = {}
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


def _times_as_fast(numbers: dict) -> float:
    return 1 / numbers['ratio']


def _targets(speed: dict[str, dict], cuda: dict[str, dict], evaluation: Path) -> str:
    rows = [
        [
            'inference on the CPU, times as fast as the best baseline',
            '1.5',
            _worst(speed, 'predict-1'),
        ],
        ['the same, 8 images at a time', '1.5', _worst(speed, 'predict-8')],
        ['training step on the CPU', '1.25', _worst(speed, 'step-2')],
        [
            'RB+H on the CPU, times the time of regular, inference',
            '1.5',
            _refined(speed, 'predict-1'),
        ],
        ['RB+H on the CPU, times the time of regular, training', '1.5', _refined(speed, 'step-2')],
        [
            "the same, with PyTorch's 3x3 convolutions in both, inference",
            '-',
            _refined(speed, 'predict-1', 'refinement-usual'),
        ],
        [
            "the same, with PyTorch's 3x3 convolutions in both, training",
            '-',
            _refined(speed, 'step-2', 'refinement-usual'),
        ],
        [
            'decoding boxes and keypoints, % of inference on the CPU',
            '3',
            _share(speed, 'predict-1', ('box decoding', 'keypoint decoding')),
        ],
        [
            'making targets, % of a training step on the CPU',
            '3',
            _share(speed, 'step-2', ('targets',)),
        ],
        [
            'inference on CUDA, times as fast as Detectron2',
            '2',
            _worst(cuda, 'predict-1', ('detectron2',)),
        ],
        ['training step on CUDA', '2', _worst(cuda, 'step-2', ('detectron2',))],
        ['RB+H on CUDA, times the time of regular, training', '1.35', _refined(cuda, 'step-2')],
        [
            'evaluation, times as fast as three runs of pycocotools',
            '3',
            str(json.loads(evaluation.read_text())['ratio'])
            if evaluation.exists()
            else 'not measured',
        ],
    ]
    return markdown_table(['what', 'target', 'measured'], rows)


def _worst(
    parts: dict[str, dict],
    task: str,
    names: Sequence[str] = ('detectron2', 'torchvision-keypoints', 'torchvision-masks', 'mmdet'),
) -> str:
    """Against the baseline and at the size where it is least."""
    found = {
        f'{NAMES[name]}, {side} pixels': _times_as_fast(entrants['ours'])
        for name in names
        if name in parts
        for side, entrants in parts[name]['tasks'].get(task, {}).items()
        if len(entrants) > 1
    }
    if not found:
        return 'not measured'
    where = min(found, key=found.get)
    return f'{found[where]:.2f} ({where})'


def _refined(parts: dict[str, dict], task: str, name: str = 'refinement') -> str:
    sides = parts.get(name, {}).get('tasks', {}).get(task, {})
    if not sides:
        return 'not measured'
    return ', '.join(
        f'{entrants["rb_h"]["ratio"]:.2f} ({side} pixels)' for side, entrants in sides.items()
    )


def _share(parts: dict[str, dict], task: str, names: Sequence[str]) -> str:
    """Of the network with all heads, beside Detectron2's."""
    stages = parts.get('detectron2', {}).get('stages', {}).get('ours', {})
    shares = []
    for side, found in stages.get(task, {}).items():
        seconds = {name: stage['seconds'] for name, stage in found['stages'].items()}
        share = sum(seconds.get(name, 0) for name in names)
        shares.append(f'{100 * share / sum(seconds.values()):.1f} ({side} pixels)')
    return ', '.join(shares) or 'not measured'


def _speed(parts: dict[str, dict]) -> str:
    """A section for each part of the speed benchmark."""
    texts = []
    for name, part in parts.items():
        tables = _options(part) if name.startswith('means') else _part(part)
        texts.append(
            '\n\n'.join(
                [f'### {part["about"]}', *tables, _versions(part), *map(origin, part['runs'])]
            )
        )
    return '\n\n'.join(texts) or NOT_MEASURED


def _part(part: dict) -> list[str]:
    rows = [
        [
            TASKS[task],
            side,
            NAMES.get(name, name),
            f'{numbers["median"]:.2f}',
            f'{_times_as_fast(numbers):.2f}',
            f'{numbers["peak_bytes"] / 2**30:.1f}',
        ]
        for task, sides in part['tasks'].items()
        for side, entrants in sides.items()
        for name, numbers in entrants.items()
    ]
    table = markdown_table(['task', 'pixels', 'who', 'seconds', 'times as fast', 'GiB'], rows)
    lacks = [
        f'Not installed: {NAMES.get(name, name)} ({reason}).'
        for name, reason in part['not_installed'].items()
    ]
    return [table, *lacks, *_outputs(part)]


def _options(part: dict) -> list[str]:
    """A row for each option: what was expected, and what it brought."""
    # Each task at its smallest size.
    sides = {task: min(found, key=int) for task, found in part['tasks'].items()}
    rows = []
    for name, about in part['entrants'].items():
        found = {task: part['tasks'][task][side].get(name) for task, side in sides.items()}
        memory = found['step-2'] or found['predict-1']
        rows.append(
            [
                name,
                about['prediction'],
                *(
                    f'{_times_as_fast(numbers):.2f}' if numbers else '-'
                    for numbers in found.values()
                ),
                f'{memory["peak_bytes"] / 2**30:.1f}',
            ]
        )
    return [
        markdown_table(
            [
                'what',
                'expected',
                *(f'{TASKS[task]}, {side} pixels' for task, side in sides.items()),
                'GiB',
            ],
            rows,
        )
    ]


def _outputs(part: dict) -> list[str]:
    """How far the results are from the reference's."""
    found = {
        (name, side): {
            key: value for key, value in differences.items() if isinstance(value, (int, float))
        }
        for side, entrants in part['outputs'].items()
        for name, differences in entrants.items()
    }
    keys = list(dict.fromkeys(key for each in found.values() for key in each))
    rows = [
        [
            NAMES.get(name, name),
            side,
            *(f'{each[key]:.4g}' if key in each else '-' for key in keys),
        ]
        for (name, side), each in found.items()
    ]
    names = [key.replace('_', ' ').replace('joint', 'keypoint') for key in keys]
    table = markdown_table(['differences', 'pixels', *names], rows)
    return [table] if rows else []


def _versions(part: dict) -> str:
    lines = [
        f'{NAMES.get(name, name)}: '
        + ', '.join(f'{key} {value}' for key, value in about['versions'].items())
        + f', {about["threads"]} threads'
        for name, about in part['entrants'].items()
    ]
    return '; '.join(dict.fromkeys(lines))


def _functions(found: dict) -> str:
    """Single functions, a row for each way."""
    rows = []
    for piece in found['pieces']:
        for name, way in piece['ways'].items():
            what = piece['about'] if name == piece['reference'] else ''
            numbers = (
                ['-', f'{way["missing"]} is not installed', '-']
                if 'missing' in way
                else [
                    f'{1000 * way["median"]:.2f}',
                    f'{_times_as_fast(way):.2f}',
                    f'{way["difference"]:.1e}',
                ]
            )
            rows.append([what, name, way['expected'] or '-', *numbers])
    return markdown_table(
        ['what', 'how', 'expected', 'ms', 'times as fast', 'largest difference'], rows
    )


def _stages(parts: dict[str, dict]) -> str:
    """Where the time goes, beside the floor, of regular and RB+H."""
    stages = parts.get('refinement', {}).get('stages', {})
    tables = [
        _stage_table(name, task, side, found)
        for name, tasks in stages.items()
        if name != 'rb'
        for task, sides in tasks.items()
        if task != 'predict-8'
        for side, found in sides.items()
    ]
    return '\n\n'.join(tables) or NOT_MEASURED


def _stage_table(name: str, task: str, side: str, found: dict) -> str:
    total = sum(stage['seconds'] for stage in found['stages'].values())
    rows = [
        [
            stage,
            f'{1000 * numbers["seconds"]:.1f}',
            f'{100 * numbers["seconds"] / total:.1f}',
            f'{1000 * numbers["floor_seconds"]:.1f}',
            '-' if numbers['ratio'] is None else f'{numbers["ratio"]:.1f}',
        ]
        for stage, numbers in sorted(found['stages'].items(), key=lambda item: -item[1]['seconds'])
    ]
    table = markdown_table(['stage', 'ms', '%', 'floor in ms', 'times the floor'], rows)
    return f'### {NAMES[name]}, {TASKS[task]}, {side} pixels\n\n{table}'


def _scaling(found: dict) -> str:
    tables = []
    for kind, series in found['series'].items():
        rows = [
            [
                NAMES.get(name, name),
                value,
                f'{numbers["median"]:.2f}',
                f'{numbers["peak_bytes"] / 2**30:.1f}',
            ]
            for value, entrants in series.items()
            for name, numbers in entrants.items()
        ]
        tables.append(markdown_table(['variant', kind, 'seconds', 'GiB'], rows))
    return '\n\n'.join(tables)


def _evaluation(found: dict) -> str:
    size = found['size']
    summary = markdown_table(
        [
            'images',
            'persons',
            'detections',
            'times as fast',
            'largest difference in percentage points',
        ],
        [
            [
                str(size['images']),
                str(size['persons']),
                str(size['detections']),
                str(found['ratio']),
                f'{found["largest_difference"]:.1e}',
            ]
        ],
    )
    seconds = markdown_table(
        ['', 'seconds of each round'],
        [
            [name, ', '.join(f'{value:.1f}' for value in values)]
            for name, values in found['seconds'].items()
        ],
    )
    return f'{summary}\n\n{seconds}'


def _data(found: dict) -> str:
    rates = markdown_table(
        ['loader workers', 'images per second, each round'],
        [
            [workers, ', '.join(map(str, values))]
            for workers, values in found['images_per_second'].items()
        ],
    )
    steps = markdown_table(
        ['step', 'ms per image'],
        [[name, str(value)] for name, value in found['step_milliseconds'].items()],
    )
    return (
        f'Config: `{found["config"]}`; people per image: '
        f'{found["persons_per_image"]}.\n\n{rates}\n\n{steps}'
    )


def _operators(found: dict) -> str:
    rows = [
        [
            row['operator'],
            row['type'],
            f'{max(row["errors"].values()):.1e}' if 'errors' in row else row['failure'],
            'yes' if row['passed'] else 'NO',
        ]
        for row in found['operators']
    ]
    return markdown_table(['operator', 'type', 'largest error', 'passed'], rows)


def _precision(found: dict) -> str:
    rows = [
        [
            NAMES.get(row['variant'].replace('-', '_'), row['variant']),
            row['type'],
            *(
                [row['failure'], '-', '-']
                if 'failure' in row
                else [
                    f'{row["loss"]:.4f}',
                    f'{row["gradient_cosine"]:.5f}',
                    f'{row["gradient_length"]:.5f}',
                ]
            ),
        ]
        for row in found['rows']
    ]
    return markdown_table(
        [
            'variant',
            'type',
            'loss',
            'cosine of the gradient and the exact one',
            'its length to that of the exact one',
        ],
        rows,
    )


def _kernels(found: dict) -> str:
    tables = []
    for variant, tasks in found['variants'].items():
        for task, profile in tasks.items():
            rows = [
                [row['name'], str(row['calls']), str(row['milliseconds'])]
                for row in profile['largest']
            ]
            rows += [
                [f'the host waits: {name}', str(count), '-']
                for name, count in profile['waits'].items()
            ]
            name = NAMES.get(variant.replace('-', '_'), variant)
            tables.append(
                f'### {name}, {task}, {found["side"]} pixels\n\n'
                + markdown_table(['kernel', 'calls', 'ms'], rows)
            )
    return '\n\n'.join(tables)
