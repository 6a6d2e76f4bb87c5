"""Write a fine-tuning as a config file, and its keypoints as a meta file."""

import os
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Sequence

from yapf.yapflib.yapf_api import FormatCode

from multitask_refine.datasets import load_meta_file
from multitask_refine.engine import read_config

from .settings import BASE_ANCHORS, BASE_PROPOSALS, Settings
from .statistics import DatasetStatistics

ROOT = Path(__file__).resolve().parents[3]
# Where nobody measured how exactly a keypoint is annotated: near the mean of
# COCO's.
DEFAULT_SIGMA = 0.07


class Source(NamedTuple):
    """Images with their annotation file."""

    images: Path
    annotations: Path


def format_meta_file(keypoints: Sequence[str], skeleton: Sequence[Sequence[int]] = ()) -> str:
    """Format a dataset meta file for keypoints that only have names.

    ``left_NAME`` and ``right_NAME`` are mirror images of each other.
    Keypoints of COCO get its sigmas, others :data:`DEFAULT_SIGMA`.

    Args:
        keypoints (Sequence[str]): The K names.
        skeleton (Sequence[Sequence[int]]): Pairs of keypoints to link, each
            from 1 to K, as in a category of a COCO file.

    Returns:
        str: Python code in mmpose's format.
    """
    coco = load_meta_file('coco.py')
    sigmas = dict(zip(coco['keypoint_name2id'], coco['sigmas']))
    colors = dict(left=[0, 255, 0], right=[255, 128, 0])

    def color(name: str) -> list:
        return next((rgb for side, rgb in colors.items() if side in name), [51, 153, 255])

    info = dict(
        dataset_name='keypoints',
        keypoint_info={
            i: dict(name=name, id=i, color=color(name), type='', swap=_mirror(name, keypoints))
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
        '# Keypoints of a fine-tuning. swap: the same keypoint in the mirror; '
        'sigmas: how\n# exactly each can be annotated (OKS).\n'
        f'dataset_info = {_code(info)}\n'
    )


def _mirror(name: str, names: Sequence[str]) -> str:
    for side, other in (('left', 'right'), ('right', 'left')):
        if side in name and name.replace(side, other, 1) in names:
            return name.replace(side, other, 1)
    return ''


def format_config(
    stats: DatasetStatistics,
    settings: Settings,
    train: Source,
    val: Optional[Source],
    work_dir: Path,
    meta_file: str,
    names: Dict[str, str],
    seed: int,
) -> str:
    """Format the config of a fine-tuning.

    Args:
        stats (DatasetStatistics): Of the training data.
        settings (Settings): Chosen from it.
        train (Source): To train on.
        val (Source, optional): To validate and test on.
        work_dir (Path): For logs and checkpoints.
        meta_file (str): Of the keypoints: a path, or one of mmpose's own.
        names (dict[str, str]): The base's name of keypoints that it names
            differently.
        seed (int): Of all random numbers.

    Returns:
        str: Python code.
    """
    model_file = f'_base_/models/multitask-rcnn_r26-w24_fpn-ms_{settings.variant}.py'
    bases = [
        _path(ROOT / 'configs' / name, work_dir.parent)
        for name in (model_file, '_base_/default_runtime.py')
    ]
    side, warm_up = settings.long_side, min(50, settings.iterations // 2)
    parts = [
        '# Written by tools/finetune.py; python tools/train.py trains it.',
        f'_base_ = {_code(bases)}',
        f'work_dir = {str(work_dir)!r}',
        f'load_from = {settings.base!r}',
        f'randomness = dict(seed={seed})',
        f'model = {_code(_model(stats, settings))}',
    ]
    interval = max(1, settings.iterations // 3)
    hooks = dict(checkpoint=dict(interval=interval, max_keep_ckpts=1))
    if names:
        hooks['keypoint_transfer'] = dict(names=names)
    parts.append(f'default_hooks = {_code(hooks)}')
    with_mask = 'segm' in settings.heads
    parts += [
        f'metainfo = dict(from_file={meta_file!r}, classes={stats.classes!r})',
        f'long_side = {side}',
        f"""\
train_pipeline = [
    dict(type='CheckedLoadImageFromFile'),
    dict(type='LoadMultitaskAnnotations', with_mask={with_mask}),
    dict(type='RandomResize', scale=(long_side, long_side),
         ratio_range=(0.65, 1.05), keep_ratio=True),
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackMultitaskInputs')
]""",
        f"""\
train_dataloader = dict(
    batch_size={settings.batch_size},
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioGroupedBatchSampler'),
    dataset=dict(
        type='CocoMultitaskDataset',
        metainfo=metainfo,
        ann_file={str(train.annotations)!r},
        data_prefix=dict(img={f'{train.images}/'!r}),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=train_pipeline))""",
        f"""\
max_iters = {settings.iterations}
train_cfg = dict(type='ReproducibleTrainLoop', max_iters=max_iters,
                 val_interval={interval})""",
        f"""\
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0,
         end={warm_up}),
    dict(type='CosineAnnealingLR', by_epoch=False, begin={warm_up},
         end=max_iters, T_max=max_iters - {warm_up}, eta_min=1e-6)
]""",
        f"""\
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr={settings.lr}, weight_decay=0.05),
    clip_grad=dict(max_norm=10))""",
    ]
    tested = val or train
    parts += [
        f"""\
test_pipeline = [
    dict(type='CheckedLoadImageFromFile'),
    dict(type='Resize', scale=(long_side, long_side), keep_ratio=True),
    dict(type='LoadMultitaskAnnotations', with_mask={with_mask}),
    dict(type='PackMultitaskInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                    'scale_factor'))
]""",
        f"""\
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoMultitaskDataset',
        metainfo=metainfo,
        ann_file={str(tested.annotations)!r},
        data_prefix=dict(img={f'{tested.images}/'!r}),
        test_mode=True,
        pipeline=test_pipeline))""",
        f"test_evaluator = dict(type='MultitaskCocoMetric', ann_file={str(tested.annotations)!r})",
        "test_cfg = dict(type='TestLoop')",
    ]
    if val:
        parts += [
            'val_dataloader = test_dataloader',
            'val_evaluator = test_evaluator',
            "val_cfg = dict(type='ValLoop')",
        ]
    else:
        parts.insert(
            -4,
            '# No validation data: a test is of the training '
            'images, and shows how well\n# they are fitted, no more.',
        )
    return _format('\n'.join(parts) + '\n')


def _model(stats: DatasetStatistics, settings: Settings) -> dict:
    """The part of the network that differs from its base config."""
    classes = len(stats.classes)
    sizes = dict(
        mask_head=('segm', dict(num_classes=classes)),
        keypoint_head=('keypoints', dict(num_keypoints=len(stats.keypoints))),
    )
    model = dict(
        roi_head=dict(
            bbox_head=dict(num_classes=classes),
            **{
                head: size if task in settings.heads else None
                for head, (task, size) in sizes.items()
            },
        )
    )
    if settings.base:
        # Small batches: keep the batch-norm statistics of the base.
        model['backbone'] = dict(norm_eval=True)
    if settings.anchor_scales != BASE_ANCHORS:
        model['rpn_head'] = dict(anchor_generator=dict(scales=list(settings.anchor_scales)))
    if settings.proposals != BASE_PROPOSALS:
        proposals = dict(nms_pre=2 * settings.proposals, max_per_img=settings.proposals)
        model.update(train_cfg=dict(rpn_proposal=proposals), test_cfg=dict(rpn=proposals))
    return model


def append_options(path: Path, options: dict) -> str:
    """Make settings of the command line a part of a config.

    Args:
        path (Path): The config file.
        options (dict): Values by dotted names.

    Returns:
        str: The config, with the top-level settings that ``options``
        touches given in full at its end.

    Raises:
        ConfigError: If an option does not fit.
    """
    cfg = read_config(path, options)
    parts = ['# From --cfg-options, in full:']
    for name in dict.fromkeys(key.split('.')[0] for key in options):
        parts.append(f'{name} = {_code(cfg[name])}')
    return path.read_text() + _format('\n'.join(parts) + '\n')


def _path(path: Path, folder: Path) -> str:
    """Relative inside the project, where both move together."""
    if folder.resolve().is_relative_to(ROOT):
        return os.path.relpath(path, folder.resolve())
    return str(path)


def _code(value: object) -> str:
    if isinstance(value, dict):
        if all(isinstance(key, str) and key.isidentifier() for key in value):
            return 'dict(' + ', '.join(f'{key}={_code(each)}' for key, each in value.items()) + ')'
        return '{' + ', '.join(f'{key!r}: {_code(each)}' for key, each in value.items()) + '}'
    if isinstance(value, tuple):
        return '(' + ''.join(f'{_code(each)}, ' for each in value) + ')'
    if isinstance(value, list):
        return '[' + ', '.join(map(_code, value)) + ']'
    return repr(value)


def _format(text: str) -> str:
    return FormatCode(text, style_config='pep8')[0]
