"""Faults of datasets, by which a synthetic dataset is damaged."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

# Annotations that the loader drops or repairs, and how to damage one.
ANNOTATION_FAULTS: dict[str, Callable[[dict], object]] = {
    'box not finite': lambda ann: ann.update(bbox=[float('nan')] * 4),
    'box outside': lambda ann: ann.update(bbox=[9000, 9000, 5, 5]),
    'area missing': lambda ann: ann.pop('area', None),
    'image unknown': lambda ann: ann.update(image_id=10**9),
    'keypoints cut short': lambda ann: ann.update(keypoints=ann['keypoints'][:-3]),
    'polygon of two points': lambda ann: ann.update(segmentation=[[1.0, 1.0, 5.0, 5.0]]),
}
# Image files that exist but cannot be used, and how to damage one.
FILE_FAULTS: dict[str, Callable[[Path], object]] = {
    'truncated': lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    'not an image': lambda path: path.write_bytes(b'<html>404</html>'),
    'empty': lambda path: path.write_bytes(b''),
    'other size': lambda path: cv2.imwrite(str(path), cv2.imread(str(path))[::2, ::2]),
}


def damage_files(
    folder: Path, number: int, seed: int, faults: dict[str, Callable] = FILE_FAULTS
) -> list[str]:
    """Damage random files of a folder by the faults in turn; return their names."""
    names = sorted(path.name for path in folder.iterdir())  # the order of a folder is arbitrary
    chosen = np.random.default_rng(seed).choice(names, number, replace=False).tolist()
    damages = list(faults.values())
    for index, name in enumerate(chosen):
        damages[index % len(damages)](folder / name)
    return chosen


def damage_annotations(path: Path, number: int, seed: int) -> dict[str, int]:
    """Damage random annotations of a COCO file by the faults in turn; return their numbers."""
    content = json.loads(path.read_text())
    annotations = content['annotations']
    chosen = np.random.default_rng(seed).choice(len(annotations), number, replace=False)
    counts = dict.fromkeys(ANNOTATION_FAULTS, 0)
    for index, annotation in enumerate(chosen.tolist()):
        fault = list(ANNOTATION_FAULTS)[index % len(ANNOTATION_FAULTS)]
        ANNOTATION_FAULTS[fault](annotations[annotation])
        counts[fault] += 1
    path.write_text(json.dumps(content))
    return counts
