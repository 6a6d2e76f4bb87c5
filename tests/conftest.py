"""A handful of drawn people and the smallest network, shared by the tests."""

import functools
import json
import os
import signal
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
import psutil
import pytest
import torch
from mmdet.utils import register_all_modules
from mmengine.config import config as mmengine_config

ROOT = Path(__file__).resolve().parents[1]

import multitask_refine  # noqa: F401

register_all_modules(init_default_scope=True)

# In the background of a shell SIGINT is ignored, also by processes that tests
# start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

CORES = len(os.sched_getaffinity(0))
BESIDE = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', 1))
torch.set_num_threads(max(1, min(2, CORES // BESIDE)))
if BESIDE > 1:  # also for the processes that the tests start
    os.environ['OMP_NUM_THREADS'] = str(torch.get_num_threads())

CONFIGS = ROOT / 'configs'
SAMPLE_CONFIG = CONFIGS / 'sample/multitask-rcnn_r26-w16_fpn-ms_rb-h_1xb8-1500_sample.py'


def _once(format_code: Callable) -> Callable:
    """Keep what was formatted: MMEngine formats the same config again for
    every checkpoint, which takes longer than a step of the smallest network.
    """
    format_text = functools.lru_cache(maxsize=32)(
        lambda text, style: format_code(text, style_config=dict(style))
    )
    return lambda text, style_config: format_text(text, tuple(style_config.items()))


mmengine_config.FormatCode = _once(mmengine_config.FormatCode)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means: one worker a core, each with 3 GB of memory."""
    memory = psutil.virtual_memory().available // 2**30
    workers = min(CORES, 4, memory // 3)
    return workers if workers > 1 else 0


@pytest.fixture(scope='session')
def tiny_coco() -> Path:
    """An excerpt of COCO with photos, where there is one."""
    folder = Path(os.environ.get('TINY_COCO_ROOT', ROOT / 'data/tiny_coco'))
    if not (folder / 'annotations').is_dir():
        pytest.skip(f'no photos in {folder} (TINY_COCO_ROOT)')
    return folder


@pytest.fixture(scope='session')
def scene(tmp_path_factory) -> Path:
    """What :func:`draw_scene` makes."""
    return draw_scene(tmp_path_factory.mktemp('scene'))


def draw_scene(folder: Path) -> Path:
    """Make a COCO folder by hand: three images of 64 x 48 pixels.

    Image 1 has a person with a polygon and joints, one with RLE and no
    joints, and a crowd; image 2 has a crowd only; image 3 has nothing.
    """
    images = []
    for split in ('train2017', 'val2017'):
        (folder / split).mkdir()
        images = [_write_image(folder / split, i) for i in (1, 2, 3)]
    (folder / 'annotations').mkdir()
    content = dict(
        images=images, annotations=_annotations(), categories=[dict(id=1, name='person')]
    )
    for split in ('train2017', 'val2017'):
        path = folder / 'annotations' / f'person_keypoints_{split}.json'
        path.write_text(json.dumps(content))
    return folder


def _write_image(folder: Path, index: int) -> dict:
    image = np.full((48, 64, 3), 60 * index, np.uint8)
    image[10:40, 10:30] = (30, 160, 220)
    name = f'{index:012d}.png'
    cv2.imwrite(str(folder / name), image)
    return dict(id=index, file_name=name, height=48, width=64)


def _annotations() -> list:
    joints = np.zeros((17, 3), int)
    joints[:, 0] = np.linspace(11, 28, 17)
    joints[:, 1] = np.linspace(11, 38, 17)
    joints[:, 2] = [2, 1, 0] + [2] * 14
    crowd = np.zeros((48, 64), np.uint8)
    crowd[:, 50:] = 1
    crowd_rle = dict(size=[48, 64], counts=[50 * 48, 14 * 48])
    patch_rle = dict(
        size=[48, 64], counts=[34 * 48 + 5] + [20, 28] * 9 + [20, 48 * 64 - 43 * 48 - 25]
    )
    common = dict(category_id=1, iscrowd=0)
    nothing = [0] * 51
    return [
        dict(
            common,
            id=1,
            image_id=1,
            bbox=[10, 10, 20, 30],
            area=600,
            segmentation=[[10, 10, 30, 10, 30, 40, 10, 40]],
            keypoints=joints.flatten().tolist(),
            num_keypoints=16,
        ),
        dict(
            common,
            id=2,
            image_id=1,
            bbox=[34, 5, 10, 20],
            area=200,
            segmentation=patch_rle,
            keypoints=nothing,
            num_keypoints=0,
        ),
        dict(
            common,
            id=3,
            image_id=1,
            iscrowd=1,
            bbox=[50, 0, 14, 48],
            area=672,
            segmentation=crowd_rle,
            keypoints=nothing,
            num_keypoints=0,
        ),
        dict(
            common,
            id=4,
            image_id=2,
            iscrowd=1,
            bbox=[50, 0, 14, 48],
            area=672,
            segmentation=crowd_rle,
            keypoints=nothing,
            num_keypoints=0,
        ),
    ]


def as_arguments(options: dict) -> list:
    """Settings as a user gives them to a tool."""
    return [
        '--cfg-options',
        *(f'{name}={value}'.replace(' ', '') for name, value in options.items()),
    ]


def tiny_options(scene: Path) -> dict:
    """Settings that turn a sample config into a test of seconds."""
    options = {
        'train_cfg.max_iters': 2,
        'train_cfg.val_interval': 2,
        'default_hooks.logger.interval': 1,
        'default_hooks.checkpoint.interval': 1,
        'train_dataloader.batch_size': 2,
        'model.backbone.base_channels': 4,
        'model.backbone.stem_channels': 4,
        'model.neck.in_channels': [32, 64, 128],
        'model.roi_head.mask_head.conv_out_channels': 8,
        'model.roi_head.keypoint_head.conv_channels': 8,
        # What is not trained finds people everywhere.
        'model.test_cfg.rpn.max_per_img': 10,
    }
    for split in ('train', 'val', 'test'):
        options[f'{split}_dataloader.num_workers'] = 0
        options[f'{split}_dataloader.persistent_workers'] = False
        options[f'{split}_dataloader.dataset.data_root'] = f'{scene}/'
        if split != 'train':
            options[f'{split}_evaluator.ann_file'] = str(
                scene / 'annotations/person_keypoints_val2017.json'
            )
    return options
