"""Predictions files: the output of a test as JSON that any tool can read.

The format is :class:`multitask_runtime.schemas.Predictions`. Boxes are x, y,
width, height in image pixels, keypoints count from the center of the first
pixel, and masks are compressed RLE.
"""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO
from pydantic import ValidationError

from multitask_refine.datasets.validation.masks import decompress_counts
from multitask_runtime.schemas import (
    PREDICTIONS_FORMAT,
    PREDICTIONS_VERSION,
    Predictions,
    explain,
    upgrade_predictions,
)
from multitask_runtime.utils.errors import ExplainedError

from .coco_scores import TASKS, CocoData, result_entries

FORMAT = PREDICTIONS_FORMAT
_CURE = (
    'Predictions files are written by tools/test.py --predictions '
    'FILE.json, or by predictions_file of the MultitaskCocoMetric.'
)


class PredictionsFileError(ExplainedError, ValueError):
    """A predictions file that cannot be used; the message says why."""


def collect_predictions(
    results: Sequence[dict[str, Any]],
    tasks: Sequence[str],
    categories: Sequence[int],
    meta: dict[str, Any],
    annotations: dict[str, Any],
) -> dict[str, Any]:
    """Collect the predictions of a test in the format of the file.

    Args:
        results: Of each image ``img_id``, ``img_path`` (None if unknown),
            ``labels`` and for each task its entries.
        tasks: The tasks.
        categories: Category id of each label.
        meta: Metainfo of the dataset, in the terms of MMPose's meta files.
        annotations: ``file`` and ``sha256``.

    Returns:
        The content of the file without ``run`` and ``metrics``.
    """
    paths = [result['img_path'] for result in results]
    folder, names = None, [''] * len(paths)
    if paths and None not in paths:
        # So that a page of the file works where the images have moved: their folder is one field.
        folder = os.path.commonpath([os.path.dirname(path) for path in paths])
        names = [os.path.relpath(path, folder or '.') for path in paths]
    own = {}
    if 'category_metas' in meta:
        own = dict(keypoints=[_keypoints(each) for each in meta['category_metas']])
    return dict(
        format=PREDICTIONS_FORMAT,
        version=PREDICTIONS_VERSION,
        tasks=list(tasks),
        annotations=annotations,
        image_folder=folder,
        categories=dict(ids=list(categories), names=list(meta['classes']), **own),
        keypoints=_keypoints(meta),
        images=[
            dict(
                image_id=result['img_id'],
                file_name=name,
                **{
                    task: [encode_entry(e) for e in result_entries([result], task, categories)]
                    for task in tasks
                },
            )
            for result, name in zip(results, names, strict=True)
        ],
    )


def _keypoints(meta: dict[str, Any]) -> dict[str, Any]:
    """Return names, sigmas and colors of the metainfo as JSON can hold them."""
    names = meta['keypoint_id2name']
    return dict(
        names=[names[i] for i in range(len(names))],
        # str gives the shortest decimals of the meta file's float32
        sigmas=[float(str(sigma)) for sigma in meta['sigmas']],
        flip_indices=[int(index) for index in meta['flip_indices']],
        colors=[[int(c) for c in color] for color in meta['keypoint_colors']],
        skeleton=[[int(i), int(j)] for i, j in meta['skeleton_links']],
        skeleton_colors=[[int(c) for c in color] for color in meta['skeleton_link_colors']],
    )


def encode_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a COCO result entry with its mask as text, in place of pycocotools' bytes."""
    if 'segmentation' not in entry:
        return dict(entry)
    size, counts = (entry['segmentation'][field] for field in ('size', 'counts'))
    mask = dict(
        size=[int(side) for side in size],
        counts=counts.decode() if isinstance(counts, bytes) else counts,
    )
    return dict(entry, segmentation=mask)


def write_predictions(
    path: str,
    content: dict[str, Any],
    metrics: dict[str, float | None],
    run: dict[str, Any] | None,
) -> None:
    """Write a predictions file atomically.

    Args:
        path: The file; missing folders are created.
        content: From :func:`collect_predictions`.
        metrics: Values in percent; NaN becomes null.
        run: From ``describe_run``.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    rounded = {
        name: None if value is None or math.isnan(value) else round(value, 4)
        for name, value in metrics.items()
    }
    draft = target.with_name(target.name + '.tmp')
    with draft.open('w') as file:
        json.dump(dict(content, metrics=rounded, run=run), file, allow_nan=False)
    draft.replace(target)


def add_run(path: str, run: dict[str, Any]) -> None:
    """Add the description of the run to a predictions file.

    Args:
        path: The file.
        run: From ``describe_run``.
    """
    content = json.loads(Path(path).read_text())
    write_predictions(path, content, content['metrics'], run)


def file_sha256(path: str) -> str:
    """Return the SHA-256 checksum of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def read_predictions(path: str) -> dict[str, Any]:
    """Read and validate a predictions file.

    Args:
        path: The file, of this version or of version 1.

    Returns:
        Its content, see :class:`multitask_runtime.schemas.Predictions`.

    Raises:
        PredictionsFileError: Names the file, the field, what was expected
            and what was found.
    """
    try:
        content: dict[str, Any] = upgrade_predictions(
            json.loads(Path(path).read_text(encoding='utf-8'))
        )
        Predictions.model_validate(content)
    except OSError as error:
        raise PredictionsFileError(f'{path}: cannot be read ({error.strerror}). {_CURE}') from None
    except ValidationError as error:
        raise PredictionsFileError(f'{path}: {explain(error)}. {_CURE}') from None
    except (ValueError, RecursionError):
        raise PredictionsFileError(
            f'{path}: expected JSON, found something else. {_CURE}'
        ) from None
    return content


def to_coco(path: str, content: dict[str, Any], truth: COCO) -> CocoData:
    """Combine predictions with their ground truth.

    Args:
        path: The predictions file, for messages.
        content: From :func:`read_predictions`.
        truth: Its annotations.

    Raises:
        PredictionsFileError: If an image is not in the annotations, or a mask
            does not have the size of its image.
    """

    def require(ok: bool, field: str, expected: str, found: object) -> None:
        if not ok:
            raise PredictionsFileError(
                f'{path}: {field}: expected {expected}, found {found!r:.60}. Name the '
                'annotations that the test was made with by --ann-file.'
            )

    for index, image in enumerate(content['images']):
        known = truth.imgs.get(image['image_id'])
        field = f'images[{index}].image_id'
        require(bool(known), field, 'an image of the annotation file', image['image_id'])
        size = [known['height'], known['width']]
        for number, entry in enumerate(image.get('segm') or ()):
            mask, field = entry['segmentation'], f'images[{index}].segm[{number}].segmentation'
            require(mask['size'] == size, f'{field}.size', str(size), mask['size'])
            # pycocotools writes beyond its memory where the runs are too long
            # None for text that is no RLE
            runs, area = decompress_counts(mask['counts']), size[0] * size[1]
            is_complete = runs is not None and min(runs, default=-1) >= 0 and sum(runs) == area
            require(is_complete, f'{field}.counts', f'runs of {area} pixels', mask['counts'])
    return CocoData(
        truth=truth,
        entries={
            task: [entry for image in content['images'] for entry in image[task]]
            for task in TASKS
            if task in content['tasks']
        },
        sigmas=content['keypoints']['sigmas'],
        categories=content['categories']['ids'],
        images=[image['image_id'] for image in content['images']],
    )
