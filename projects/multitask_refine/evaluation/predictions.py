"""Predictions files: all that a test found, as JSON that any tool can read.

A file is one object:

``format``, ``version``
    'multitask_refine predictions' and 1.
``run``
    How it came about, as in the results file; null after ``mim test``.
``metrics``
    ``<task>_<name>`` in percent as in the results file; null without ground
    truth.
``tasks``
    Some of 'bbox', 'segm' and 'keypoints'.
``annotations``
    ``file`` and its ``sha256``.
``image_folder``
    Where the images were; null if unknown.
``categories``
    ``ids`` and ``names`` of what was looked for; with ``joints``, those of
    each category as below, if categories have joints of their own. Entries
    then have the joints of their category, and ``joints`` below is the union.
``joints``
    ``names``, ``sigmas``, ``mirror`` (for each joint the index of its mirror
    image), ``colors``, ``skeleton`` (pairs of joints), ``skeleton_colors``;
    colours are RGB from 0 to 255.
``images``
    For each image ``image_id``, ``file_name`` in the image folder, and for
    each task a list of entries in COCO's results format
    (https://cocodataset.org/#format-results): boxes are x, y, width, height
    in pixels of the image, joints count from the middle of the first pixel,
    masks are compressed RLE. Entry i of every task is of the same person.
"""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from .coco_scores import result_entries

FORMAT = 'multitask_refine predictions'
VERSION = 1


def collect_predictions(
    results: Sequence[dict],
    tasks: Sequence[str],
    categories: Sequence[int],
    meta: dict,
    annotations: dict,
) -> dict:
    """Put a test's predictions into the form of the file.

    Args:
        results (Sequence[dict]): Of each image ``img_id``, ``img_path``
            (None if unknown), ``labels`` and for each task its entries.
        tasks (Sequence[str]): The tasks.
        categories (Sequence[int]): Category id of each label.
        meta (dict): The data set's, with what MMPose's meta files say.
        annotations (dict): ``file`` and ``sha256``.

    Returns:
        dict: The file's content without ``run`` and ``metrics``.
    """
    folder, names = _split_paths([result['img_path'] for result in results])
    images = [
        dict(
            image_id=result['img_id'],
            file_name=name,
            **{
                task: [_plain(e) for e in result_entries([result], task, categories)]
                for task in tasks
            },
        )
        for result, name in zip(results, names)
    ]
    return dict(
        format=FORMAT,
        version=VERSION,
        tasks=list(tasks),
        annotations=annotations,
        image_folder=folder,
        categories=dict(
            ids=list(categories),
            names=list(meta['classes']),
            **(
                {}
                if 'category_metas' not in meta
                else dict(joints=[_joints(own) for own in meta['category_metas']])
            ),
        ),
        joints=_joints(meta),
        images=images,
    )


def write_predictions(
    path: str, content: dict, metrics: Dict[str, float], run: Optional[dict]
) -> None:
    """Write a predictions file, whole or not at all.

    Args:
        path (str): The file; missing folders are made.
        content (dict): From :func:`collect_predictions`.
        metrics (dict[str, float]): Numbers in percent; NaN becomes null.
        run (dict, optional): From ``describe_run``.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    metrics = {
        name: None if value is None or math.isnan(value) else round(value, 4)
        for name, value in metrics.items()
    }
    draft = target.with_name(target.name + '.tmp')
    with draft.open('w') as file:
        json.dump(dict(content, metrics=metrics, run=run), file, allow_nan=False)
    draft.replace(target)


def add_run(path: str, run: dict) -> None:
    """Say in a predictions file how it came about.

    Args:
        path (str): The file.
        run (dict): From ``describe_run``.
    """
    content = json.loads(Path(path).read_text())
    write_predictions(path, content, content['metrics'], run)


def file_sha256(path: str) -> str:
    """The checksum of a file's content, as a predictions file states it."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _split_paths(paths: Sequence[Optional[str]]) -> Tuple[Optional[str], List[str]]:
    """The folder that all paths share, and what follows it."""
    if not paths or None in paths:
        return None, [''] * len(paths)
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    return folder, [os.path.relpath(path, folder or '.') for path in paths]


def _plain(entry: dict) -> dict:
    """JSON has no bytes, in which pycocotools writes masks."""
    if 'segmentation' not in entry:
        return entry
    mask = entry['segmentation']
    return dict(
        entry,
        segmentation=dict(
            size=[int(side) for side in mask['size']], counts=mask['counts'].decode()
        ),
    )


def _joints(meta: dict) -> dict:
    names = meta['keypoint_id2name']
    return dict(
        names=[names[i] for i in range(len(names))],
        # Shortest decimals of the meta file's float32.
        sigmas=[float(str(sigma)) for sigma in meta['sigmas']],
        mirror=[int(index) for index in meta['flip_indices']],
        colors=_colors(meta['keypoint_colors']),
        skeleton=[[int(i), int(j)] for i, j in meta['skeleton_links']],
        skeleton_colors=_colors(meta['skeleton_link_colors']),
    )


def _colors(colors: Sequence[Sequence[int]]) -> List[List[int]]:
    return [[int(channel) for channel in color] for color in colors]
