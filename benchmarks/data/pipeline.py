#!/usr/bin/env python
"""Time the training data pipeline of the COCO configs.

    python -m benchmarks.data.pipeline --json docs/results/performance/data_pipeline.json

Images a second of one process and of loader workers, on drawn JPEG files of
480 x 640 pixels with as many people as COCO's images with people have, and
the share of each step of the pipeline.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median

import cv2
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader, Dataset

from benchmarks.data.drawn_people import HEIGHT, WIDTH, draw_people
from multitask_refine.engine import write_record
from multitask_refine.testing.synthetic_images import draw_image

CONFIG = 'configs/multitask_refine/multitask-rcnn_r50_fpn-ms_rb-h_4xb3-90k_coco.py'
PERSONS_PER_IMAGE = 4  # 262465 in 64115 images of train2017


def draw_data(folder: Path, images: int) -> None:
    """Write a folder in COCO's layout."""
    truth = draw_people(2 * images, PERSONS_PER_IMAGE * images, 0).truth
    (folder / 'train2017').mkdir()
    (folder / 'annotations').mkdir()
    annotations = folder / 'annotations/person_keypoints_train2017.json'
    annotations.write_text(json.dumps(truth))
    for image in truth['images'][:images]:  # the people are in the first half
        cv2.imwrite(
            str(folder / 'train2017' / image['file_name']), draw_image(image['id'], HEIGHT, WIDTH)
        )


def build_dataset(folder: Path, config: str, images: int) -> Dataset:
    """The config's training set on the drawn folder."""
    settings = Config.fromfile(config).train_dataloader.dataset
    settings.update(data_root=f'{folder}/', indices=images)
    return DATASETS.build(settings)


def time_steps(dataset: Dataset, rounds: int) -> dict[str, float]:
    """Milliseconds an image of each step, the median of the rounds' means."""
    found = defaultdict(list)
    for _ in range(rounds):
        total: dict[str, float] = defaultdict(float)
        for index in range(len(dataset)):
            data = dataset.get_data_info(index)
            for step in dataset.pipeline.transforms:
                start = time.perf_counter()
                data = step(data)
                total[type(step).__name__] += time.perf_counter() - start
        for name, seconds in total.items():
            found[name].append(1000 * seconds / len(dataset))
    return {name: round(median(times), 3) for name, times in found.items()}


def time_loading(dataset: Dataset, workers: int, batch: int, rounds: int) -> list[float]:
    """Images a second of each round; workers have started before."""
    loader = DataLoader(
        dataset,
        batch,
        num_workers=workers,
        collate_fn=pseudo_collate,
        persistent_workers=workers > 0,
        drop_last=True,
    )
    _exhaust(itertools.islice(loader, 2))
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        loaded = batch * _exhaust(loader)
        rates.append(round(loaded / (time.perf_counter() - start), 2))
    return rates


def _exhaust(batches: Iterable) -> int:
    return sum(1 for _ in batches)


def measure(folder: Path, args: argparse.Namespace) -> dict:
    """All numbers of the results file."""
    draw_data(folder, args.images)
    dataset = build_dataset(folder, args.config, args.images)
    dataset[0]
    rates = {}
    for workers in args.workers:
        rates[str(workers)] = time_loading(dataset, workers, args.batch, args.rounds)
        print(f'{workers} workers: {rates[str(workers)]} images/s', file=sys.stderr)
    return dict(
        config=Path(args.config).name,
        images=args.images,
        persons_per_image=PERSONS_PER_IMAGE,
        batch=args.batch,
        images_per_second=rates,
        step_milliseconds=time_steps(dataset, args.rounds),
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default=CONFIG)
    parser.add_argument('--images', type=int, default=200)
    parser.add_argument('--batch', type=int, default=3)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument(
        '--workers', type=int, nargs='+', default=[0, 1, 2], help='0 loads in the main process'
    )
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    register_all_modules(init_default_scope=True)
    cv2.setNumThreads(0)  # as the configs set it
    with tempfile.TemporaryDirectory() as folder:
        write_record(args.json, measure(Path(folder), args))
    print(f'{args.json} written')
    return 0


if __name__ == '__main__':
    sys.exit(main())
