"""metafile.yml: the configs and their results as OpenMMLab's tools read."""

from collections.abc import Sequence
from pathlib import Path

import yaml
from mmengine.config import Config

from multitask_refine.analysis.report_tables import Table

CONFIGS = 'configs/multitask_refine'
COLLECTION = 'Multitask R-CNN with refinement'
_TASKS = dict(
    bbox=('Object Detection', 'box AP'),
    segm=('Instance Segmentation', 'mask AP'),
    keypoints=('Body 2D Keypoint', 'keypoint AP'),
)
_HEAD = '# Made by tools/docs/build_docs.py\n'
INDEX = _HEAD + 'Import:\n  - metafile.yml\n  - configs/converted/metafile.yml\n'


def render(source: dict, tables: Sequence[Table], results: dict[str, dict], root: Path) -> str:
    """The metafile.

    Args:
        source (dict): Title, authors and url of the report.
        tables (Sequence[Table]): All tables: their configs are the models.
        results (dict[str, dict]): Results by the config's name; a model
            without one has no results.
        root (Path): The project, whose configs say the iterations.
    """
    collection = dict(
        Name=COLLECTION,
        Metadata={
            'Training Data': 'COCO 2017, person',
            'Architecture': ['ResNet', 'FPN', 'RPN', 'RoIAlign', 'Deformable Convolution'],
        },
        Paper=dict(Title=source['title'], URL=source['url']),
        README='README.md',
    )
    models = []
    for name in dict.fromkeys(row.config for table in tables for row in table.rows if row.config):
        found = sorted(root.glob(f'configs/*/{name}.py'))
        path = found[0].relative_to(root).as_posix() if found else f'{CONFIGS}/{name}.py'
        iterations = Config.fromfile(root / path).train_cfg.max_iters
        model = {
            'Name': name,
            'In Collection': COLLECTION,
            'Config': path,
            'Metadata': {'Iterations': iterations},
        }
        if name in results:
            model['Results'] = [
                dict(
                    Task=title,
                    Dataset='COCO val2017, person',
                    Metrics={metric: round(results[name][f'{task}_AP'], 2)},
                )
                for task, (title, metric) in _TASKS.items()
                if results[name].get(f'{task}_AP') is not None
            ]
        models.append(model)
    return _HEAD + yaml.safe_dump(dict(Collections=[collection], Models=models), sort_keys=False)
