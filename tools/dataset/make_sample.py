"""Draws a COCO-format person dataset to try the network on.

    python tools/dataset/make_sample.py data/sample

writes annotations/person_keypoints_{train,val}2017.json with the pictures in
train2017 and val2017, and sample.json, by which a finished sample is known
again. The same options give the same bytes under the same NumPy and OpenCV.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from multitask_refine.testing.sample.coco import annotation, category
from multitask_refine.testing.sample.scene import compose, render

# To be raised whenever the same options give other bytes than before.
FORMAT = 2
RECORD = 'sample.json'
SPLITS = ('train', 'val')
# Height and width of the pictures as shares of the size.
SHAPES = ((1, 1), (3 / 4, 1), (1, 3 / 4), (7 / 8, 1), (1, 7 / 8))
# COCO labels no joints of many small people: box height in pixels and share.
TINY_HEIGHT, TINY_UNLABELLED = 48, 0.5


class SampleError(Exception):
    """The sample cannot be written as asked."""


def draw_image(index: int, *, split: str, seed: int, size: int) -> tuple[bytes, dict, list[dict]]:
    """Draws picture `index` of a split, whatever others are drawn.

    Returns:
        The JPEG file, its COCO image entry and its annotations, whose ids
        are still to be given.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    height, width = (round(size * share) for share in SHAPES[rng.integers(len(SHAPES))])
    image, instances = render(compose(rng, height, width))
    entries = []
    for instance in instances:
        rows = np.flatnonzero(instance.mask.any(1))
        tiny = rows[-1] + 1 - rows[0] < TINY_HEIGHT
        unlabelled = tiny and rng.random() < TINY_UNLABELLED
        entries.append(annotation(instance, id=0, image_id=index, with_keypoints=not unlabelled))
    quality = int(rng.integers(82, 96))
    coded = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    entry = dict(license=1, file_name=f'{index:012d}.jpg', height=height, width=width, id=index)
    return coded.tobytes(), entry, entries


def write_split(
    folder: Path, split: str, count: int, *, seed: int, size: int, workers: int
) -> None:
    """Writes the pictures and the annotation file of one split."""
    pictures = folder / f'{split}2017'
    pictures.mkdir()
    images, annotations = [], []
    draw = partial(draw_image, split=split, seed=seed, size=size)
    for coded, image, entries in _progress(_map(draw, count, workers), split, count):
        (pictures / image['file_name']).write_bytes(coded)
        images.append(image)
        for entry in entries:
            annotations.append(entry | dict(id=len(annotations) + 1))
    content = dict(
        info=dict(description='Drawn people', version=str(FORMAT), year=2017),
        licenses=[dict(id=1, name='Same as this program', url='')],
        images=images,
        annotations=annotations,
        categories=[category()],
    )
    path = folder / 'annotations' / f'person_keypoints_{split}2017.json'
    path.write_text(json.dumps(content, separators=(',', ':')))


def _map(draw, count: int, workers: int) -> Iterator:
    """Results for 1 to count, in order."""
    if workers == 1 or count < 2:
        yield from map(draw, range(1, count + 1))
        return
    with ProcessPoolExecutor(workers, get_context('spawn'), cv2.setNumThreads, (1,)) as pool:
        yield from pool.map(draw, range(1, count + 1), chunksize=8)


def _progress(results: Iterator, split: str, count: int, step: float = 5.0) -> Iterator:
    """Passes results on and says every `step` seconds how far it is."""
    start = said = time.monotonic()
    for done, result in enumerate(results, 1):
        yield result
        now = time.monotonic()
        if now - said >= step and done < count:
            left = (now - start) / done * (count - done)
            print(f'{split}: {done}/{count} pictures, {left:.0f} s left', flush=True)
            said = now


def checksum(folder: Path) -> str:
    """SHA-256 over the names and bytes of all files but the record."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob('*') if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name != RECORD:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f'{name} {digest}\n'.encode())
    return total.hexdigest()


def existing_settings(out: Path) -> dict | None:
    """Settings of the sample at `out`, None where there is nothing yet.

    Raises:
        SampleError: if `out` holds anything that this tool did not write.
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
    """Writes the whole sample beside `out` and then puts it in its place."""
    fresh = out.with_name(f'.{out.name}.{os.getpid()}.new')
    old = out.with_name(f'.{out.name}.{os.getpid()}.old')
    try:
        (fresh / 'annotations').mkdir(parents=True)
        for split in SPLITS:
            write_split(
                fresh,
                split,
                settings[split],
                seed=settings['seed'],
                size=settings['size'],
                workers=workers,
            )
        record = dict(tool='make_sample', settings=settings, sha256=checksum(fresh))
        (fresh / RECORD).write_text(json.dumps(record, indent=1) + '\n')
        if out.exists():
            out.rename(old)
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Draw a COCO-format person dataset.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('out', type=Path, metavar='OUT_DIR', help='folder of the dataset')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--train', type=int, default=400, help='number of training pictures')
    parser.add_argument('--val', type=int, default=100, help='number of validation pictures')
    parser.add_argument('--size', type=int, default=256, help='longer side of a picture in pixels')
    parser.add_argument(
        '--workers', type=int, default=2, help='processes; they do not change what is drawn'
    )
    args = parser.parse_args(argv)
    for name, least in dict(seed=0, train=0, val=0, size=64, workers=1).items():
        if getattr(args, name) < least:
            parser.error(f'expected --{name} of at least {least}, got {getattr(args, name)}')
    return args


def main(argv: list[str] | None = None) -> int:
    """Draws the dataset. Returns 0, or 1 with a message if it cannot."""
    args = parse_args(argv)
    out = args.out.resolve()  # A link to a folder stays a link.
    settings = dict(format=FORMAT, seed=args.seed, train=args.train, val=args.val, size=args.size)
    start = time.monotonic()
    try:
        if existing_settings(out) == settings:
            print(f'{out} is up to date')
            return 0
        write_sample(out, settings, args.workers)
    except (SampleError, OSError) as error:
        print(f'make_sample: {error}', file=sys.stderr)
        return 1
    print(
        f'{out}: {args.train} training and {args.val} validation pictures '
        f'in {time.monotonic() - start:.0f} s'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
