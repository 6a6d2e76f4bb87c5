"""Write the config and the dataset meta file of a fine-tuning."""

import os
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from yapf.yapflib.yapf_api import FormatCode

from multitask_refine.datasets import load_meta_file
from multitask_refine.engine import read_config

from .data import Source
from .settings import BASE_ANCHOR_SCALES, BASE_PROPOSALS, Settings
from .statistics import DatasetStatistics

ROOT = Path(__file__).resolve().parents[3]
# For keypoints whose annotation accuracy was never measured: about the mean of COCO's sigmas.
DEFAULT_SIGMA = 0.07


def format_meta_file(keypoints: Sequence[str], skeleton: Sequence[Sequence[int]] = ()) -> str:
    """Format a dataset meta file for keypoints known by name only.

    ``left_NAME`` and ``right_NAME`` are a flip pair. Keypoints of COCO get its sigmas, others
    :data:`DEFAULT_SIGMA`.

    Args:
        keypoints: The K names.
        skeleton: Pairs of keypoints to link, each from 1 to K, as in a category of a COCO file.

    Returns:
        Python code in mmpose's format.
    """
    coco = load_meta_file('coco.py')
    sigmas = dict(zip(coco['keypoint_name2id'], coco['sigmas']))

    def color(name: str) -> list[int]:
        colors = dict(left=[0, 255, 0], right=[255, 128, 0])
        return next((rgb for side, rgb in colors.items() if side in name), [51, 153, 255])

    def swap(name: str) -> str:
        for side, other in (('left', 'right'), ('right', 'left')):
            if side in name and name.replace(side, other, 1) in keypoints:
                return name.replace(side, other, 1)
        return ''

    info = dict(
        dataset_name='keypoints',
        keypoint_info={
            i: dict(name=name, id=i, color=color(name), type='', swap=swap(name))
            for i, name in enumerate(keypoints)
        },
        skeleton_info={
            i: dict(link=(keypoints[a - 1], keypoints[b - 1]), id=i, color=color(keypoints[b - 1]))
            for i, (a, b) in enumerate(skeleton)
        },
        joint_weights=[1.0] * len(keypoints),
        sigmas=[sigmas.get(name, DEFAULT_SIGMA) for name in keypoints],
    )
    return _format(
        '# Keypoints of a fine-tuning. swap: the keypoint that a flip exchanges; sigmas:\n'
        '# annotation accuracy of each keypoint, for OKS.\n'
        f'dataset_info = {_to_code(info)}\n'
    )


def format_config(
    stats: DatasetStatistics,
    settings: Settings,
    train: Source,
    val: Source | None,
    work_dir: Path,
    meta_file: str,
    names: dict[str, str],
    seed: int,
) -> str:
    """Format the config of a fine-tuning.

    Args:
        stats: Statistics of the training data.
        settings: Settings chosen for it.
        train: Training data.
        val: Validation and test data.
        work_dir: Folder for logs and checkpoints.
        meta_file: Meta file of the keypoints, a path or one that mmpose ships.
        names: Name in the base of each keypoint that it names differently.
        seed: Random seed.

    Returns:
        Python code.
    """
    num_classes = len(stats.classes)
    mask_head = dict(num_classes=num_classes) if 'segm' in settings.heads else None
    keypoint_head = dict(num_keypoints=len(stats.keypoints))
    model = dict(
        roi_head=dict(
            bbox_head=dict(num_classes=num_classes),
            mask_head=mask_head,
            keypoint_head=keypoint_head if 'keypoints' in settings.heads else None,
        )
    )
    if settings.base:
        # Small batches: keep the batch-norm statistics of the base.
        model['backbone'] = dict(norm_eval=True)
    if settings.anchor_scales != BASE_ANCHOR_SCALES:
        model['rpn_head'] = dict(anchor_generator=dict(scales=list(settings.anchor_scales)))
    if settings.proposals != BASE_PROPOSALS:
        proposals = dict(nms_pre=2 * settings.proposals, max_per_img=settings.proposals)
        model.update(train_cfg=dict(rpn_proposal=proposals), test_cfg=dict(rpn=proposals))

    val_interval = max(1, settings.iterations // 3)
    hooks = dict(checkpoint=dict(interval=val_interval, max_keep_ckpts=1))
    if names:
        hooks['keypoint_transfer'] = dict(names=names)

    folder = work_dir.parent
    bases = [
        ROOT / f'configs/_base_/models/multitask-rcnn_r26-w24_fpn-ms_{settings.variant}.py',
        ROOT / 'configs/_base_/default_runtime.py',
    ]
    # Relative inside the project, so that both can be moved together.
    if folder.resolve().is_relative_to(ROOT):
        bases = [os.path.relpath(path, folder.resolve()) for path in bases]

    environment = Environment(
        loader=PackageLoader('multitask_refine.finetune'),
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters['code'] = _to_code
    test = val or train
    text = environment.get_template('config.py.jinja').render(
        bases=[str(path) for path in bases],
        work_dir=str(work_dir),
        settings=settings,
        seed=seed,
        model=model,
        hooks=hooks,
        meta_file=meta_file,
        classes=stats.classes,
        with_mask='segm' in settings.heads,
        train_file=str(train.annotations),
        train_images=f'{train.images}/',
        val_interval=val_interval,
        warmup=min(50, settings.iterations // 2),
        has_val=bool(val),
        test_file=str(test.annotations),
        test_images=f'{test.images}/',
    )
    return _format(text)


def append_options(path: Path, options: dict) -> str:
    """Append settings of the command line to a config.

    Args:
        path: Config file.
        options: Values by dotted names.

    Returns:
        The config, with all top-level settings that ``options`` changes in full at its end.

    Raises:
        ConfigError: If an option does not fit the config.
    """
    cfg = read_config(path, options)
    lines = ['# From --cfg-options, in full:']
    for name in dict.fromkeys(key.split('.')[0] for key in options):
        lines.append(f'{name} = {_to_code(cfg[name])}')
    return path.read_text() + _format('\n'.join(lines) + '\n')


def _to_code(value: object) -> str:
    """Format a value as Python code, with ``dict(...)`` as in configs."""
    if isinstance(value, dict):
        if all(isinstance(key, str) and key.isidentifier() for key in value):
            items = [f'{key}={_to_code(each)}' for key, each in value.items()]
            return f'dict({", ".join(items)})'
        items = [f'{key!r}: {_to_code(each)}' for key, each in value.items()]
        return f'{{{", ".join(items)}}}'
    if isinstance(value, tuple):
        return '(' + ''.join(f'{_to_code(each)}, ' for each in value) + ')'
    if isinstance(value, list):
        return '[' + ', '.join(map(_to_code, value)) + ']'
    return repr(value)


def _format(text: str) -> str:
    return FormatCode(text, style_config='pep8')[0]
