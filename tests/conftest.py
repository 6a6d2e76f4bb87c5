"""Hand-made COCO scenes and settings of the smallest network, shared by the tests."""

import functools
import json
import logging
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]

# A shell ignores SIGINT for background jobs; tests interrupt the processes that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

CORES = len(os.sched_getaffinity(0))
WORKERS = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', 1))
THREADS = max(1, min(2, CORES // WORKERS))
if WORKERS > 1:  # also for the processes that the tests start
    os.environ['OMP_NUM_THREADS'] = str(THREADS)

CONFIGS = ROOT / 'configs'
SLOW = ('fuzz', 'integration', 'pins', 'test_benchmarks', 'test_converters')
SAMPLE_CONFIG = CONFIGS / 'sample/multitask-rcnn_r26-w16_fpn-ms_rb-h_1xb8-1500_sample.py'


def pytest_configure(config: pytest.Config) -> None:
    """Prepare PyTorch and MMDetection, unless xdist runs the tests in other processes."""
    if config.getoption('dist', 'no') != 'no':
        return
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the libraries, outside any test
        from mmdet.utils import register_all_modules
        from mmengine.config import config as mmengine_config

        import multitask_refine  # noqa: F401  (registers the modules)

        register_all_modules(init_default_scope=True)
    torch.set_num_threads(THREADS)
    yapf = mmengine_config.FormatCode

    @functools.lru_cache(maxsize=32)
    def format_code(text: str, style: tuple) -> tuple:
        return yapf(text, style_config=dict(style))

    # MMEngine formats the same config again for every checkpoint, which takes longer than a
    # training step of the smallest network.
    mmengine_config.FormatCode = lambda text, style_config: format_code(
        text, tuple(style_config.items())
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the workers of `-n auto`: one per core, each with 3 GB of memory."""
    memory = psutil.virtual_memory().available // 2**30
    workers = min(CORES, 4, memory // 3)
    return workers if workers > 1 else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of whole folders as slow, as `pytestmark` does modules; run the slow first.

    A worker that is done earlier than the others then waits for a short module.
    """
    for item in items:
        is_slow = item.path.relative_to(ROOT / 'tests').parts[0] in SLOW
        if is_slow or item.get_closest_marker('exhaustive'):
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def no_closed_log_files() -> Iterator[None]:
    """Remove log files that a test closed: MMEngine would write into them in later tests."""
    yield
    from mmengine.logging import MMLogger

    for logger in MMLogger._instance_dict.values():
        for handler in list(logger.handlers):
            if isinstance(handler, logging.FileHandler) and handler.stream is None:
                logger.removeHandler(handler)


@pytest.fixture(scope='session')
def tiny_coco() -> Path:
    """Return the folder of an excerpt of COCO with photos, or skip the test."""
    folder = Path(os.environ.get('TINY_COCO_ROOT', ROOT / 'data/tiny_coco'))
    if not (folder / 'annotations').is_dir():
        pytest.skip(f'no photos in {folder} (TINY_COCO_ROOT)')
    return folder


@pytest.fixture(scope='session')
def scene(tmp_path_factory) -> Path:
    """Return the folder that :func:`draw_scene` writes."""
    return draw_scene(tmp_path_factory.mktemp('scene'))


def draw_scene(folder: Path) -> Path:
    """Write a COCO dataset of three images of 64 x 48 pixels.

    Image 1 has an instance with a polygon and keypoints, one with RLE and no keypoints, and a
    crowd; image 2 has a crowd only; image 3 has no annotation.
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
    keypoints = np.zeros((17, 3), int)
    keypoints[:, 0] = np.linspace(11, 28, 17)
    keypoints[:, 1] = np.linspace(11, 38, 17)
    keypoints[:, 2] = [2, 1, 0] + [2] * 14
    crowd_rle = dict(size=[48, 64], counts=[50 * 48, 14 * 48])
    patch_rle = dict(
        size=[48, 64], counts=[34 * 48 + 5] + [20, 28] * 9 + [20, 48 * 64 - 43 * 48 - 25]
    )
    unlabeled = dict(category_id=1, iscrowd=0, keypoints=[0] * 51, num_keypoints=0)
    crowd = dict(unlabeled, iscrowd=1, bbox=[50, 0, 14, 48], area=672, segmentation=crowd_rle)
    polygon = dict(
        unlabeled,
        bbox=[10, 10, 20, 30],
        area=600,
        segmentation=[[10, 10, 30, 10, 30, 40, 10, 40]],
        keypoints=keypoints.flatten().tolist(),
        num_keypoints=16,
    )
    patch = dict(unlabeled, bbox=[34, 5, 10, 20], area=200, segmentation=patch_rle)
    return [
        dict(annotation, id=index, image_id=image)
        for index, (image, annotation) in enumerate(
            [(1, polygon), (1, patch), (1, crowd), (2, crowd)], 1
        )
    ]


def as_arguments(options: dict) -> list:
    """Return settings as command-line arguments of a tool."""
    return [
        '--cfg-options',
        *(f'{name}={value}'.replace(' ', '') for name, value in options.items()),
    ]


def tiny_options(scene: Path) -> dict:
    """Return settings that shrink a sample config to a test of seconds."""
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
        # An untrained network detects instances everywhere.
        'model.test_cfg.rpn.max_per_img': 10,
        # A quarter of the sample's pixels: convolutions take most of the time.
        'train_dataloader.dataset.pipeline.2.scale': (96, 96),
        'val_dataloader.dataset.pipeline.1.scale': (96, 96),
        'test_dataloader.dataset.pipeline.1.scale': (96, 96),
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
