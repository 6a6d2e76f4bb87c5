#!/usr/bin/env python
"""Measure the throughput of the training data pipeline of the COCO configs.

    python -m benchmarks.data.pipeline --json docs/results/performance/data_pipeline.json

Images per second in one process and with loader workers, and the time of each transform, on
synthetic JPEG files of 480 x 640 pixels with as many people as COCO's images with people have.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections import defaultdict
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


def draw_dataset(folder: Path, images: int) -> None:
    """Draw a dataset in COCO's layout."""
    truth = draw_people(2 * images, PERSONS_PER_IMAGE * images, 0).truth
    (folder / 'train2017').mkdir()
    (folder / 'annotations').mkdir()
    annotations = folder / 'annotations/person_keypoints_train2017.json'
    annotations.write_text(json.dumps(truth))
    for image in truth['images'][:images]:  # the people are in the first half
        drawn = draw_image(image['id'], HEIGHT, WIDTH)
        cv2.imwrite(str(folder / 'train2017' / image['file_name']), drawn)


def time_transforms(dataset: Dataset, rounds: int) -> dict[str, float]:
    """Measure the milliseconds per image of each transform: the median over rounds."""
    means = defaultdict(list)
    for _ in range(rounds):
        total: dict[str, float] = defaultdict(float)
        for index in range(len(dataset)):
            # The transforms one by one, as dataset[index] would run them.
            data = dataset.get_data_info(index)
            for transform in dataset.pipeline.transforms:
                start = time.perf_counter()
                data = transform(data)
                total[type(transform).__name__] += time.perf_counter() - start
        for name, seconds in total.items():
            means[name].append(1000 * seconds / len(dataset))
    return {name: round(median(values), 3) for name, values in means.items()}


def measure_throughput(dataset: Dataset, workers: int, batch: int, rounds: int) -> list[float]:
    """Measure the images per second of each round, after a warm-up that starts the workers."""
    loader = DataLoader(
        dataset,
        batch,
        num_workers=workers,
        collate_fn=pseudo_collate,
        persistent_workers=workers > 0,
        drop_last=True,
    )
    list(itertools.islice(loader, 2))  # persistent workers survive the iterator
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        images = batch * sum(1 for _ in loader)
        rates.append(round(images / (time.perf_counter() - start), 2))
    return rates


def main(argv: list[str] | None = None) -> int:
    """Draw a dataset and measure the config's pipeline on it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default=CONFIG, help='default: %(default)s')
    parser.add_argument('--images', type=int, default=200, help='default: %(default)s')
    parser.add_argument('--batch', type=int, default=3, help='batch size (default: %(default)s)')
    parser.add_argument(
        '--rounds', type=int, default=3, help='number of rounds (default: %(default)s)'
    )
    parser.add_argument(
        '--workers',
        type=int,
        nargs='+',
        default=[0, 1, 2],
        help='numbers of loader workers; 0 loads in the main process (default: 0 1 2)',
    )
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    register_all_modules(init_default_scope=True)
    cv2.setNumThreads(0)  # as in the configs
    with tempfile.TemporaryDirectory() as name:
        draw_dataset(Path(name), args.images)
        settings = Config.fromfile(args.config).train_dataloader.dataset
        settings.update(data_root=f'{name}/', indices=args.images)
        dataset = DATASETS.build(settings)
        rates = {}
        for workers in args.workers:
            rates[str(workers)] = measure_throughput(dataset, workers, args.batch, args.rounds)
            print(f'{workers} workers: {rates[str(workers)]} images/s', file=sys.stderr)
        result = dict(
            config=Path(args.config).name,
            images=args.images,
            persons_per_image=PERSONS_PER_IMAGE,
            batch=args.batch,
            images_per_second=rates,
            step_milliseconds=time_transforms(dataset, args.rounds),
        )
    write_record(args.json, result)
    print(f'Results file: {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
