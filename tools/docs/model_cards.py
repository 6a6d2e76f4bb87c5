"""Model cards and model index of the public checkpoints."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from multitask_refine.analysis.results_files import measured
from multitask_refine.evaluation import markdown_table
from multitask_runtime.model_index import ModelEntry

from .processors import with_processor

FRAMEWORKS = dict(
    detectron2='Detectron2',
    torchvision='torchvision',
    mmdet='MMDetection',
    multitask_refine='this project',
)
MASK_RCNN = dict(Title='Mask R-CNN', URL='https://arxiv.org/abs/1703.06870')
_TASKS = {
    'box AP': 'Object Detection',
    'mask AP': 'Instance Segmentation',
    'keypoint AP': 'Body 2D Keypoint',
}


def sections(folder: Path, index: Mapping[str, ModelEntry]) -> dict[str, str]:
    """Make the generated parts of docs/public-models.md.

    Args:
        folder (Path): docs/results.
        index (Mapping[str, ModelEntry]): The models by name.

    Returns:
        dict[str, str]: Markdown by the name in the page's marker.
    """
    return {
        'list': list_table(index),
        'cost': measured(folder / 'performance/combined-cpu.json', with_processor(cost_table)),
        'cards': '\n'.join(render_card(name, entry) for name, entry in index.items()),
    }


def list_table(index: Mapping[str, ModelEntry]) -> str:
    """Make the table of all models with the AP that their publishers give."""
    rows = [
        [
            f'[`{name}`](#{name.replace("+", "")})',
            FRAMEWORKS[entry.framework],
            *(str(entry.results.get(metric, '-')) for metric in _TASKS),
            entry.license.split(';')[0],
        ]
        for name, entry in index.items()
    ]
    return markdown_table(['name', 'trained by', *_TASKS, 'license'], rows)


def render_card(name: str, entry: ModelEntry) -> str:
    """Make the card of a model."""
    rows = {'model': entry.title, 'trained by': FRAMEWORKS[entry.framework]}
    if entry.url:
        algorithm, _, digits = str(entry.checksum).partition(':')
        rows['file'] = (
            f'[{Path(entry.url).name}]({entry.url}), whose {algorithm.upper()} begins with '
            f'`{digits}`'
        )
        results = ', '.join(f'{metric} {value}' for metric, value in entry.results.items())
        rows['published AP'] = f'{results} ({entry.dataset}); not measured here'
    if entry.combines:
        first, second = (f'[`{part}`](#{part})' for part in entry.combines)
        rows['boxes, keypoints'], rows['masks'] = first, second
        rows['AP'] = 'not measured; boxes and keypoints are those of the first model'
    rows['config'] = f'`{entry.config}`'
    source = entry.source
    rows['facts'] = f'[publisher]({source})' if source.startswith('http') else f'`{source}`'
    rows['license'] = entry.license
    table = '\n'.join(f'| {field} | {value} |' for field, value in rows.items())
    return f'### {name}\n\n| | |\n|---|---|\n{table}\n'


def cost_table(results: dict) -> str:
    """Make the table of what two networks as one cost."""
    networks = results['networks']
    rows = [
        [
            f'`{name}`',
            f'{each["median"]:.2f}',
            f'{min(each["seconds"]):.2f} to {max(each["seconds"]):.2f}',
            f'{each["parameters"] / 1e6:.1f}',
            f'{each["megabytes"]:.0f}',
        ]
        for name, each in networks.items()
    ]
    header = ['network', 'CPU s per image', 'all rounds', 'M parameters', 'checkpoint MB']
    return markdown_table(header, rows)


def render_metafile(index: Mapping[str, ModelEntry]) -> str:
    """Make configs/converted/metafile.yml: the public checkpoints as OpenMMLab's tools read."""
    collections, models = {}, []
    for name, entry in index.items():
        if not entry.url:
            continue
        title = f'Checkpoints of {FRAMEWORKS[entry.framework]}'
        collections[title] = dict(
            Name=title,
            Metadata={'Training Data': 'COCO 2017', 'Architecture': ['ResNet', 'FPN', 'RPN']},
            Paper=dict(MASK_RCNN),
            README='README.md',
        )
        models.append(
            {
                'Name': name,
                'In Collection': title,
                'Config': entry.config,
                'Weights': entry.url,
                'Checksum': entry.checksum,
                'License': entry.license,
                'Converter': f'projects/multitask_refine/converters/{entry.framework}.py',
                'Results': [
                    dict(Task=_TASKS[metric], Dataset=entry.dataset, Metrics={metric: value})
                    for metric, value in entry.results.items()
                ],
            }
        )
    content = dict(Collections=list(collections.values()), Models=models)
    return '# Made by tools/docs/build_docs.py\n' + yaml.safe_dump(content, sort_keys=False)
