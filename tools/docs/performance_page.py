"""The tables of docs/performance.md: speed beside others, and the floor."""

import itertools
import json
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from multitask_refine.analysis.results_files import NOT_MEASURED, measured, origin
from multitask_refine.evaluation import TASKS as EVALUATED
from multitask_refine.evaluation import markdown_table

from .onnx_page import BUSY
from .processors import NOT_RECORDED, processor_class, with_processor

NAMES = dict(
    detectron2='Detectron2',
    torchvision='torchvision',
    mmdet='MMDetection',
    mmcv="mmcv's operator",
    regular='regular',
    rb='RB',
    rb_h='RB+H',
    plain='plain',
    multitask_refine='this project',
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
# Configs of benchmarks.onnx.runtimes.
EXPORTED = 'multitask-rcnn_r50_fpn-ms'
VARIANTS = ('regular', 'rb-h')
BASELINES = ('detectron2', 'torchvision-keypoints', 'torchvision-masks', 'mmdet')


def sections(folder: Path) -> dict[str, str]:
    """Make the generated parts of the page.

    Args:
        folder (Path): docs/results.

    Returns:
        dict[str, str]: Markdown by the name in the page's marker.
    """
    runtimes = folder / 'onnx/runtimes.json'
    folder = folder / 'performance'
    cpu, cuda = load_parts(folder, 'cpu'), load_parts(folder, 'cuda')
    return {
        'targets': targets_table(cpu, cuda, folder / 'evaluation.json', runtimes),
        'cpu': speed_tables(cpu),
        'functions': measured(folder / 'micro-cpu.json', with_processor(functions_table)),
        'stages': stage_tables(cpu),
        'scaling': measured(folder / 'scaling-cpu.json', with_processor(scaling_tables)),
        'evaluation': measured(folder / 'evaluation.json', with_processor(evaluation_tables)),
        'data': measured(folder / 'data_pipeline.json', with_processor(data_tables)),
        'video': measured(folder / 'video.json', with_processor(video_table)),
        'cuda': speed_tables(cuda),
        'cuda-operators': measured(folder / 'cuda-ops.json', operators_table),
        'cuda-precision': measured(folder / 'cuda-precision.json', precision_table),
        'cuda-kernels': measured(folder / 'cuda-kernels.json', kernel_tables),
    }


def load_parts(folder: Path, device: str) -> dict[str, dict]:
    """Load the parts of the speed benchmark by name, from all files of a device.

    A part whose sizes are in several files becomes one; the first file with a number counts. Every
    number and every stage profile gets the class of its processor, ``processor``.
    """

    def merge(target: dict, source: dict, processor: str) -> None:
        for key, value in source.items():
            if isinstance(value, dict):
                if key not in target and ('median' in value or 'stages' in value):
                    value = dict(value, processor=processor)
                merge(target.setdefault(key, {}), value, processor)
            else:
                target.setdefault(key, value)

    parts: dict[str, dict] = {}
    for path in sorted(folder.glob(f'speed-{device}*.json'), key=lambda path: path.stem):
        for name, found in json.loads(path.read_text())['parts'].items():
            part = parts.setdefault(name, dict(found, runs=[], tasks={}, outputs={}, stages={}))
            part['runs'].append(found['run'])
            for content in ('tasks', 'outputs', 'stages'):
                merge(part[content], found[content], processor_class(found['run']['machine']))
    return parts


class Measurement(NamedTuple):
    """A number that is compared with a target, what it is of, and the processor's class."""

    value: float
    about: str
    processor: str


class Target(NamedTuple):
    """What was wanted of the speed.

    Attributes:
        about: What is measured.
        goal: The target; None where a number is shown for comparison only.
        measurements: All numbers.
        is_least: Whether the target is the least that is wanted; otherwise the most.
        digits: Decimals of the numbers.
    """

    about: str
    goal: float | None
    measurements: list[Measurement]
    is_least: bool = True
    digits: int = 2


def targets_table(
    cpu: dict[str, dict], cuda: dict[str, dict], evaluation: Path, runtimes: Path
) -> str:
    """Format the speed targets beside what was measured, in a row for each class of processor.

    The number is the worst of its class. A target counts as met on a class only if it was measured
    there.
    """
    rows = []
    targets = list_targets(cpu, cuda, evaluation) + list_exported_targets(runtimes)
    for target in targets:
        goal = '-' if target.goal is None else f'{target.goal:g}'
        worst = min if target.is_least else max
        reaches = operator.ge if target.is_least else operator.le
        # By name: the order of the files does not matter.
        classes = sorted({each.processor for each in target.measurements})
        if not classes:
            rows.append([target.about, goal, 'not measured', '-', '-'])
        for processor in classes:
            found = worst(each for each in target.measurements if each.processor == processor)
            if target.goal is None or processor == NOT_RECORDED:
                verdict = '-'
            else:
                verdict = 'yes' if reaches(found.value, target.goal) else 'no'
            value = f'{found.value:.{target.digits}f} ({found.about})'
            rows.append([target.about, goal, value, processor, verdict])
    return markdown_table(['what', 'target', 'measured', 'processor', 'met'], rows)


def list_targets(cpu: dict[str, dict], cuda: dict[str, dict], evaluation: Path) -> list[Target]:
    """List the speed targets with what was measured."""
    cost = 'RB+H on {}, times the time of regular{}, {}'.format
    same, default = ", both with PyTorch's 3x3 convolutions", ', default settings'
    decoding = ('box decoding', 'keypoint decoding')
    ratios = []
    if evaluation.exists():
        found = json.loads(evaluation.read_text())
        size = f'{found["size"]["images"]} images'
        ratios = [Measurement(found['ratio'], size, processor_class(found['run']['machine']))]
    return [
        Target(
            'inference on the CPU, times as fast as the best baseline',
            1.5,
            speedups(cpu, 'predict-1'),
        ),
        Target('the same, 8 images at a time', 1.5, speedups(cpu, 'predict-8')),
        Target(
            'training step on the CPU, times as fast as the best baseline',
            1.25,
            speedups(cpu, 'step-2'),
        ),
        *(
            Target(cost('the CPU', how, title), goal, refinement_costs(cpu, task, part), False)
            for part, how, goal in (('refinement-usual', same, 1.5), ('refinement', default, None))
            for task, title in (('predict-1', 'inference'), ('step-2', 'training'))
        ),
        Target(
            'decoding boxes and keypoints, % of inference on the CPU',
            3,
            stage_shares(cpu, 'predict-1', decoding),
            False,
            1,
        ),
        Target(
            'making targets, % of a training step on the CPU',
            3,
            stage_shares(cpu, 'step-2', ('targets',)),
            False,
            1,
        ),
        Target(
            'inference on CUDA, times as fast as Detectron2',
            2,
            speedups(cuda, 'predict-1', ('detectron2',)),
        ),
        Target(
            'training step on CUDA, times as fast as Detectron2',
            2,
            speedups(cuda, 'step-2', ('detectron2',)),
        ),
        Target(cost('CUDA', '', 'training'), 1.35, refinement_costs(cuda, 'step-2'), False),
        Target('evaluation, times as fast as three runs of pycocotools', 3, ratios),
    ]


def list_exported_targets(path: Path) -> list[Target]:
    """List the targets of exported files with what ``benchmarks.onnx.runtimes`` measured."""
    found = json.loads(path.read_text()) if path.exists() else dict(networks=[])
    processor = processor_class(found['run']['machine']) if found['networks'] else ''
    speed = {precision: [] for precision in ('float32', 'bfloat16', 'int8')}
    losses, times = [], {}
    for network in found['networks']:
        forms = {
            name: dict(numbers, precision=name.split()[1].rstrip(','))
            for name, numbers in network['forms'].items()
            if 'bytes' in numbers
        }
        plain = forms.get('onnxruntime float32', {})
        if 'bbox_AP' in plain:
            losses += [
                Measurement(plain[f'{task}_AP'] - numbers[f'{task}_AP'], name, processor)
                for name, numbers in forms.items()
                if numbers['precision'] == 'int8'
                for task in EVALUATED
            ]
        if found['load_average'] > BUSY:
            continue
        times[network['config']] = {
            f'{name}, {side} pixels': numbers['median']
            for name, each in forms.items()
            for side, numbers in each['sides'].items()
        }
        if network['reference'] != 'detectron2':
            continue
        for precision, side in itertools.product(speed, network['forms']['detectron2']['sides']):
            ratios = {
                name: 1 / each['sides'][side]['ratio']
                for name, each in forms.items()
                if each['precision'] == precision
            }
            if ratios:
                best = max(ratios, key=ratios.get)
                about = f'{best}, {side} pixels'
                speed[precision].append(Measurement(ratios[best], about, processor))
    regular, refined = (times.get(f'{EXPORTED}_{kind}_4xb3-90k_coco.py', {}) for kind in VARIANTS)
    costs = [
        Measurement(refined[form] / regular[form], form, processor)
        for form in regular
        if form in refined
    ]
    fast = 'exported file in {} by the faster backend, times as fast as Detectron2'.format
    return [
        Target(fast('float32'), 1.7, speed['float32']),
        Target(fast('bfloat16'), 3.2, speed['bfloat16']),
        Target(fast('int8'), 4, speed['int8']),
        Target("RB+H's exported file, times the time of regular's", 1.3, costs, False),
        Target('AP that int8 costs the trained small network', 0.3, losses, False),
    ]


def speedups(
    parts: dict[str, dict], task: str, names: Sequence[str] = BASELINES
) -> list[Measurement]:
    """List the speedups over the baselines at all image sizes."""
    return [
        Measurement(1 / ours['ratio'], f'{NAMES[name]}, {side} pixels', ours['processor'])
        for name in names
        if name in parts
        for side, models in parts[name]['tasks'].get(task, {}).items()
        if len(models) > 1
        for ours in [models['multitask_refine']]
    ]


def refinement_costs(
    parts: dict[str, dict], task: str, name: str = 'refinement'
) -> list[Measurement]:
    """List the time of RB+H in units of that of regular, for each image size."""
    sides = parts.get(name, {}).get('tasks', {}).get(task, {})
    return [
        Measurement(models['rb_h']['ratio'], f'{side} pixels', models['rb_h']['processor'])
        for side, models in sides.items()
    ]


def stage_shares(parts: dict[str, dict], task: str, names: Sequence[str]) -> list[Measurement]:
    """List the share of some stages in the network with all heads, in percent."""
    stages = parts.get('detectron2', {}).get('stages', {}).get('multitask_refine', {})
    shares = []
    for side, found in stages.get(task, {}).items():
        seconds = {name: stage['seconds'] for name, stage in found['stages'].items()}
        share = 100 * sum(seconds.get(name, 0) for name in names) / sum(seconds.values())
        shares.append(Measurement(share, f'{side} pixels', found['processor']))
    return shares


def speed_tables(parts: dict[str, dict]) -> str:
    """Format a section for each part of the speed benchmark."""
    texts = []
    for name, part in parts.items():
        versions = [
            f'{NAMES.get(name, name)}: '
            + ', '.join(f'{key} {value}' for key, value in about['versions'].items())
            + f', {about["threads"]} threads'
            for name, about in part['models'].items()
        ]
        tables = [options_table(part)] if name.startswith('means') else comparison_tables(part)
        origins = ['; '.join(dict.fromkeys(versions)), *map(origin, part['runs'])]
        texts.append('\n\n'.join([f'### {part["about"]}', *tables, *origins]))
    return '\n\n'.join(texts) or NOT_MEASURED


def comparison_tables(part: dict) -> list[str]:
    """Format time and memory by task and size, what is not installed, and the outputs' errors."""
    rows = [
        [
            TASKS[task],
            side,
            NAMES.get(name, name),
            f'{numbers["median"]:.2f}',
            f'{1 / numbers["ratio"]:.2f}',
            f'{numbers["peak_bytes"] / 2**30:.1f}',
            numbers['processor'],
        ]
        for task, sides in part['tasks'].items()
        for side, models in sides.items()
        for name, numbers in models.items()
    ]
    titles = ['task', 'pixels', 'who', 'seconds', 'times as fast', 'GiB', 'processor']
    tables = [markdown_table(titles, rows)]
    tables += [
        f'Not installed: {NAMES.get(name, name)} ({reason}).'
        for name, reason in part['not_installed'].items()
    ]
    differences = {
        (NAMES.get(name, name), side): {
            key: f'{value:.4g}' for key, value in found.items() if isinstance(value, (int, float))
        }
        for side, models in part['outputs'].items()
        for name, found in models.items()
    }
    keys = list(dict.fromkeys(key for found in differences.values() for key in found))
    titles = [key.replace('_', ' ') for key in keys]
    rows = [
        [*place, *(found.get(key, '-') for key in keys)] for place, found in differences.items()
    ]
    if rows:
        tables.append(markdown_table(['differences', 'pixels', *titles], rows))
    return tables


def options_table(part: dict) -> str:
    """Format what each option was expected to bring and what it brought, at the smallest size."""
    sides = {task: min(found, key=int) for task, found in part['tasks'].items()}
    rows = []
    for name, about in part['models'].items():
        found = {task: part['tasks'][task][side].get(name) for task, side in sides.items()}
        memory = found['step-2'] or found['predict-1']
        rows.append(
            [
                name,
                about['prediction'],
                *(f'{1 / each["ratio"]:.2f}' if each else '-' for each in found.values()),
                f'{memory["peak_bytes"] / 2**30:.1f}',
                memory['processor'],
            ]
        )
    titles = [f'{TASKS[task]}, {side} pixels' for task, side in sides.items()]
    return markdown_table(['what', 'expected', *titles, 'GiB', 'processor'], rows)


def functions_table(found: dict) -> str:
    """Format the times of single functions, a row for each variant."""
    rows = []
    for function in found['functions']:
        for name, each in function['variants'].items():
            if 'missing' in each:
                numbers = ['-', f'{each["missing"]} is not installed', '-']
            else:
                speedup, error = f'{1 / each["ratio"]:.2f}', f'{each["difference"]:.1e}'
                numbers = [f'{1000 * each["median"]:.2f}', speedup, error]
            what = function['about'] if name == function['reference'] else ''
            rows.append([what, name, each['expected'] or '-', *numbers])
    return markdown_table(
        ['what', 'how', 'expected', 'ms', 'times as fast', 'largest difference'], rows
    )


def stage_tables(parts: dict[str, dict]) -> str:
    """Format the time of each stage beside its floor, for regular and RB+H."""
    stages = parts.get('refinement', {}).get('stages', {})
    wanted = [
        (name, task, side, found)
        for name, tasks in stages.items()
        for task, sides in tasks.items()
        for side, found in sides.items()
        if name != 'rb' and task != 'predict-8'
    ]
    tables = []
    for name, task, side, profile in wanted:
        found = profile['stages']
        total = sum(stage['seconds'] for stage in found.values())
        rows = [
            [
                stage,
                f'{1000 * numbers["seconds"]:.1f}',
                f'{100 * numbers["seconds"] / total:.1f}',
                f'{1000 * numbers["floor_seconds"]:.1f}',
                '-' if numbers['ratio'] is None else f'{numbers["ratio"]:.1f}',
            ]
            for stage, numbers in sorted(found.items(), key=lambda item: -item[1]['seconds'])
        ]
        table = markdown_table(['stage', 'ms', '%', 'floor in ms', 'times the floor'], rows)
        title = f'### {NAMES[name]}, {TASKS[task]}, {side} pixels'
        tables.append(f'{title}\n\nProcessor: {profile["processor"]}.\n\n{table}')
    return '\n\n'.join(tables) or NOT_MEASURED


def scaling_tables(found: dict) -> str:
    """Format time and memory as one quantity grows."""
    # Files without a part are of an earlier version.
    is_same = found.get('part') == 'refinement-usual'
    settings = "PyTorch's 3x3 convolutions in both" if is_same else 'default settings'
    tables = [f'Networks: {settings}.']
    for kind, series in found['series'].items():
        rows = [
            [
                NAMES.get(name, name),
                value,
                f'{numbers["median"]:.2f}',
                f'{numbers["peak_bytes"] / 2**30:.1f}',
            ]
            for value, models in series.items()
            for name, numbers in models.items()
        ]
        tables.append(markdown_table(['variant', kind, 'seconds', 'GiB'], rows))
    return '\n\n'.join(tables)


def evaluation_tables(found: dict) -> str:
    """Format the speed of the evaluation beside pycocotools' and their largest difference."""
    size = found['size']
    titles = ['images', 'persons', 'detections']
    titles += ['times as fast', 'largest difference in percentage points']
    counts = [str(size[name]) for name in titles[:3]]
    row = [*counts, str(found['ratio']), f'{found["largest_difference"]:.1e}']
    rounds = [
        [name, ', '.join(f'{value:.1f}' for value in values)]
        for name, values in found['seconds'].items()
    ]
    seconds = markdown_table(['', 'seconds of each round'], rounds)
    return f'{markdown_table(titles, [row])}\n\n{seconds}'


def data_tables(found: dict) -> str:
    """Format the images per second of the data loader and the time of each transform."""
    rates = [
        [workers, ', '.join(map(str, values))]
        for workers, values in found['images_per_second'].items()
    ]
    steps = [[name, str(value)] for name, value in found['step_milliseconds'].items()]
    return '\n\n'.join(
        [
            f'Config: `{found["config"]}`; people per image: {found["persons_per_image"]}.',
            markdown_table(['loader workers', 'images per second, each round'], rates),
            markdown_table(['step', 'ms per image'], steps),
        ]
    )


def operators_table(found: dict) -> str:
    """Format the errors of the operators on CUDA, against the CPU in float64."""
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


def precision_table(found: dict) -> str:
    """Format loss and gradient of each number type."""
    rows = []
    for row in found['rows']:
        if 'failure' in row:
            numbers = [row['failure'], '-', '-']
        else:
            gradient = (row['gradient_cosine'], row['gradient_length'])
            numbers = [f'{row["loss"]:.4f}', *(f'{value:.5f}' for value in gradient)]
        variant = NAMES.get(row['variant'].replace('-', '_'), row['variant'])
        rows.append([variant, row['type'], *numbers])
    exact = ['cosine of the gradient and the exact one', 'its length to that of the exact one']
    return markdown_table(['variant', 'type', 'loss', *exact], rows)


def kernel_tables(found: dict) -> str:
    """Format the CUDA kernels that take the most time and how often the host waits."""
    profiles = [
        (NAMES.get(variant.replace('-', '_'), variant), task, profile)
        for variant, tasks in found['variants'].items()
        for task, profile in tasks.items()
    ]
    tables = []
    for variant, task, profile in profiles:
        rows = [
            [row['name'], str(row['calls']), str(row['milliseconds'])]
            for row in profile['largest']
        ]
        rows += [[f'the host waits: {name}', str(n), '-'] for name, n in profile['waits'].items()]
        table = markdown_table(['kernel', 'calls', 'ms'], rows)
        tables.append(f'### {variant}, {task}, {found["side"]} pixels\n\n{table}')
    return '\n\n'.join(tables)


def video_table(found: dict) -> str:
    """Format frames per second and memory of a video, before and after."""
    titles = dict(
        network='the network on the CPU',
        stand_in=f'a stand-in that waits {found["stand_in_ms"]:.0f} ms in its place',
    )
    rows = []
    for name, title in titles.items():
        for version in ('before', 'after'):
            run = found[name][version]
            memory = run['peak_mib_of_quarters']
            speedup = f'{found[name]["speedup"]:.2f}' if version == 'after' else '-'
            rate = f'{run["frames_per_second"]:.2f}'
            rows.append([title, version, rate, speedup, f'{memory[0]:.0f}', f'{memory[-1]:.0f}'])
    columns = ['', 'version', 'frames/s', 'times as fast', 'MiB, first quarter', 'last quarter']
    before, after = found['load_average']
    return (
        f'{markdown_table(columns, rows)}\n\nVideo: {found["video"]}. *before*: commit '
        f'{found["before_commit"]}, which draws masks over the whole image and does one thing at '
        f'a time. Load average of the machine: {before} at the beginning, {after} at the end.'
    )
