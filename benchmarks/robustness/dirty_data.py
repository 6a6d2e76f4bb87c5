"""A drawn data set in which things are wrong, as in data sets that grew."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

# Annotations that the loader leaves out or repairs, by what is done to them.
ANNOTATION_FAULTS: dict[str, Callable[[dict], object]] = {
    'box not finite': lambda ann: ann.update(bbox=[float('nan')] * 4),
    'box outside': lambda ann: ann.update(bbox=[9000, 9000, 5, 5]),
    'area missing': lambda ann: ann.pop('area', None),
    'image unknown': lambda ann: ann.update(image_id=10**9),
    'keypoints cut short': lambda ann: ann.update(keypoints=ann['keypoints'][:-3]),
    'polygon of two points': lambda ann: ann.update(segmentation=[[1.0, 1.0, 5.0, 5.0]]),
}


def _truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _shrink(path: Path) -> None:
    cv2.imwrite(str(path), cv2.imread(str(path))[::2, ::2])


# Files that are there and cannot be used.
FILE_FAULTS: dict[str, Callable[[Path], object]] = {
    'truncated': _truncate,
    'not an image': lambda path: path.write_bytes(b'<html>404</html>'),
    'empty': lambda path: path.write_bytes(b''),
    'other size': _shrink,
}


def damage_files(folder: Path, number: int, seed: int) -> list[str]:
    """Damage images of a folder, each in one of the ways in turn.

    Returns:
        list[str]: Their names.
    """
    names = sorted(path.name for path in folder.iterdir())
    chosen = np.random.default_rng(seed).choice(names, number, replace=False)
    ways = list(FILE_FAULTS.values())
    for i, name in enumerate(chosen.tolist()):
        ways[i % len(ways)](folder / name)
    return chosen.tolist()


def remove_files(folder: Path, number: int, seed: int) -> list[str]:
    """Remove images of a folder; their names."""
    names = sorted(path.name for path in folder.iterdir())
    chosen = np.random.default_rng(seed).choice(names, number, replace=False)
    for name in chosen.tolist():
        (folder / name).unlink()
    return chosen.tolist()


def damage_annotations(path: Path, number: int, seed: int) -> dict[str, int]:
    """Damage annotations of a file; how many by each fault."""
    content = json.loads(path.read_text())
    annotations = content['annotations']
    chosen = np.random.default_rng(seed).choice(len(annotations), number, replace=False)
    counts = dict.fromkeys(ANNOTATION_FAULTS, 0)
    for i, index in enumerate(chosen.tolist()):
        fault = list(ANNOTATION_FAULTS)[i % len(ANNOTATION_FAULTS)]
        ANNOTATION_FAULTS[fault](annotations[index])
        counts[fault] += 1
    path.write_text(json.dumps(content))
    return counts


def copy_sample(source: Path, target: Path) -> None:
    """A copy of a drawn sample, to be damaged."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
