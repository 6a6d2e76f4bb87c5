#!/usr/bin/env python
"""Draw a COCO-format data set of synthetic people to try the network on.

    python tools/dataset/make_sample.py data/sample

writes annotations/person_keypoints_{train,val}2017.json, the images in train2017 and val2017, and
sample.json, which identifies a complete sample. The same options give the same bytes with the
same versions of NumPy and OpenCV.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from multitask_refine.testing.synthetic_people.coco import annotation, category
from multitask_refine.testing.synthetic_people.scene import compose, render

# Raise this number whenever the same options give other bytes than before.
FORMAT = 2
RECORD = 'sample.json'
SPLITS = ('train', 'val')
# Height and width of the images as fractions of --size.
SHAPES = ((1, 1), (3 / 4, 1), (1, 3 / 4), (7 / 8, 1), (1, 7 / 8))
# As in COCO, many small people have no labeled keypoints: box height in pixels, and fraction.
SMALL_HEIGHT, SMALL_UNLABELED = 48, 0.5


class SampleError(Exception):
    """The output folder holds something else than a sample."""


def draw_image(
    index: int, *, split: str, seed: int, size: int, crowded: bool = False
) -> tuple[bytes, dict, list[dict]]:
    """Draw one image of a split, independently of the others.

    Returns:
        JPEG file, COCO image entry, and annotations with the id 0.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    height, width = (round(size * fraction) for fraction in SHAPES[rng.integers(len(SHAPES))])
    image, instances = render(compose(rng, height, width, crowded=crowded))
    annotations = []
    for instance in instances:
        rows = np.flatnonzero(instance.mask.any(1))
        is_small = rows[-1] + 1 - rows[0] < SMALL_HEIGHT
        is_unlabeled = is_small and rng.random() < SMALL_UNLABELED
        annotations.append(
            annotation(instance, id=0, image_id=index, with_keypoints=not is_unlabeled)
        )
    quality = int(rng.integers(82, 96))
    jpeg = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    entry = dict(license=1, file_name=f'{index:012d}.jpg', height=height, width=width, id=index)
    return jpeg.tobytes(), entry, annotations


def write_split(
    folder: Path, split: str, count: int, *, seed: int, size: int, crowded: bool, workers: int
) -> None:
    """Write images and annotation file of a split."""
    image_folder = folder / f'{split}2017'
    image_folder.mkdir()
    images, annotations = [], []
    draw = partial(draw_image, split=split, seed=seed, size=size, crowded=crowded)
    with ExitStack() as stack:
        results = map(draw, range(1, count + 1))
        if workers > 1 and count > 1:
            pool = ProcessPoolExecutor(workers, get_context('spawn'), cv2.setNumThreads, (1,))
            # Without what is queued, when an error or signal ends the run.
            stack.callback(pool.shutdown, cancel_futures=True)
            results = pool.map(draw, range(1, count + 1), chunksize=8)
        results = tqdm(
            results,
            split,
            count,
            file=sys.stdout,
            mininterval=1,
            bar_format='{desc}: {n_fmt}/{total_fmt} images, {remaining} left',
        )
        for jpeg, image, own_annotations in results:
            (image_folder / image['file_name']).write_bytes(jpeg)
            images.append(image)
            for ann in own_annotations:
                annotations.append(ann | dict(id=len(annotations) + 1))
    content = dict(
        info=dict(description='Drawn people', version=str(FORMAT), year=2017),
        licenses=[dict(id=1, name='Same as this program', url='')],
        images=images,
        annotations=annotations,
        categories=[category()],
    )
    path = folder / 'annotations' / f'person_keypoints_{split}2017.json'
    path.write_text(json.dumps(content, separators=(',', ':')))


def checksum(folder: Path) -> str:
    """Return the SHA-256 of the names and bytes of all files but the record."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob('*') if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name != RECORD:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f'{name} {digest}\n'.encode())
    return total.hexdigest()


def load_settings(out: Path) -> dict | None:
    """Load the settings of an existing sample, None if there is none.

    Raises:
        SampleError: If the folder holds anything else.
    """
    if not out.exists():
        return None
    if not out.is_dir():
        raise SampleError(f'{out} exists and is not a folder')
    if not any(out.iterdir()):
        return None
    try:
        record = json.loads((out / RECORD).read_text())
        known = record['tool'] == 'make_sample' and record['sha256']
    except (OSError, ValueError, KeyError, TypeError):
        known = None
    if not known:
        raise SampleError(f'{out} exists and was not made by this tool; name another folder')
    if known != checksum(out):
        raise SampleError(
            f'{out} was changed after it was made; move it away or name another folder'
        )
    return record['settings']


def write_sample(out: Path, settings: dict, workers: int) -> None:
    """Write a sample beside its folder, then replace the folder."""
    new = out.with_name(f'.{out.name}.{os.getpid()}.new')
    old = out.with_name(f'.{out.name}.{os.getpid()}.old')
    try:
        (new / 'annotations').mkdir(parents=True)
        for split in SPLITS:
            write_split(
                new,
                split,
                settings[split],
                seed=settings['seed'],
                size=settings['size'],
                crowded=settings.get('crowded', False),
                workers=workers,
            )
        record = dict(tool='make_sample', settings=settings, sha256=checksum(new))
        (new / RECORD).write_text(json.dumps(record, indent=1) + '\n')
        if out.exists():
            out.rename(old)
        new.rename(out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        description='Draw a COCO-format data set of synthetic people.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('out', type=Path, metavar='OUT_DIR', help='folder of the data set')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--train', type=int, default=400, help='number of training images')
    parser.add_argument('--val', type=int, default=100, help='number of validation images')
    parser.add_argument('--size', type=int, default=256, help='longer side of an image in pixels')
    parser.add_argument(
        '--crowded',
        action='store_true',
        help='in each image a group of people who cover each other, to test the suppression of '
        'duplicates',
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=2,
        help='number of processes; the images do not depend on it',
    )
    args = parser.parse_args(argv)
    for name, least in dict(seed=0, train=0, val=0, size=64, workers=1).items():
        if getattr(args, name) < least:
            parser.error(f'expected --{name} of at least {least}, got {getattr(args, name)}')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the data set; return 0, or 1 after an error message."""
    args = parse_args(argv)
    out = args.out.resolve()  # a link to a folder is kept
    settings = dict(format=FORMAT, seed=args.seed, train=args.train, val=args.val, size=args.size)
    if args.crowded:  # records of earlier versions lack it
        settings['crowded'] = True
    start = time.monotonic()
    try:
        if load_settings(out) == settings:
            print(f'{out} is up to date')
            return 0
        write_sample(out, settings, args.workers)
    except (SampleError, OSError) as error:
        print(f'make_sample: {error}', file=sys.stderr)
        return 1
    print(
        f'{out}: {args.train} training and {args.val} validation images '
        f'in {time.monotonic() - start:.0f} s'
    )
    return 0


if __name__ == '__main__':
    # An exception ends the workers and removes the unfinished sample, a signal does not.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
