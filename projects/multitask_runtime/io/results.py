"""Results as COCO annotations.

Shape letters: N instances, K keypoints. Coordinates are continuous pixels of the
original image: pixel ``i`` covers [i, i + 1).
"""

import json
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from multitask_runtime.formats.coco import PIXEL_INDEX
from multitask_runtime.utils.category_meta import category_meta
from multitask_runtime.utils.files import atomic_write, partial_path
from multitask_runtime.utils.types import Array, Meta

_DECIMALS = 3
_START = '{"categories": '  # of a predictions file


def to_coco(result: Mapping[str, Any], dataset_meta: Meta | None = None) -> list[dict[str, Any]]:
    """Convert a result into COCO annotations.

    Args:
        result (dict): See ``Result``.
        dataset_meta (dict, optional): Dataset meta, needed if it has ``category_metas``.

    Returns:
        list[dict]: For each instance ``category_id`` (the label plus one), ``bbox`` xywh,
        ``area``, ``score`` and as far as known ``segmentation``, ``keypoints`` as x, y,
        score by pixel index, ``keypoints_visible``, ``mask_score``, ``pose_score`` and
        ``track_id``. A category with keypoints of its own has only these, in its own order.
    """

    def to_list(values: Array) -> list[Any]:
        rounded: list[Any] = values.astype(float).round(_DECIMALS).tolist()
        return rounded

    boxes = result['bboxes'].astype(float)
    boxes[:, 2:] -= boxes[:, :2]  # xyxy -> xywh
    fields = dict(
        category_id=(result['labels'] + 1).tolist(),
        bbox=to_list(boxes),
        area=to_list(boxes[:, 2] * boxes[:, 3]),
        # Not rounded: equal scores would be ranked in another order.
        score=result['scores'].astype(float).tolist(),
    )
    if 'masks' in result:
        fields['segmentation'] = result['masks']
    if 'keypoints' in result:
        keypoints = np.concatenate(
            [result['keypoints'] - PIXEL_INDEX, result['keypoint_scores'][..., None]], -1
        )  # (N, K, 3)
        metas = [category_meta(dataset_meta or {}, label) for label in result['labels']]
        own = [meta.get('indices', slice(None)) for meta in metas]
        fields['keypoints'] = [
            to_list(each[indices].flatten()) for each, indices in zip(keypoints, own, strict=True)
        ]
        if 'keypoints_visible' in result:
            fields['keypoints_visible'] = [
                each[indices].tolist()
                for each, indices in zip(result['keypoints_visible'], own, strict=True)
            ]
    for name in {'mask_scores', 'pose_scores'} & result.keys():
        fields[name.removesuffix('s')] = result[name].astype(float).tolist()
    if 'track_ids' in result:
        fields['track_id'] = result['track_ids'].tolist()
    return [
        dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)
    ]


def category_entries(dataset_meta: Meta) -> list[dict[str, Any]]:
    """Return the categories of a dataset meta as COCO writes them; ids are labels plus one."""
    categories: list[dict[str, Any]] = []
    for label, name in enumerate(dataset_meta['classes']):
        category = dict(id=label + 1, name=name)
        meta = category_meta(dataset_meta, label)
        names = meta.get('keypoint_id2name')
        if names:
            category['keypoints'] = [names[i] for i in range(len(names))]
            category['skeleton'] = [[a + 1, b + 1] for a, b in meta['skeleton_links']]
        categories.append(category)
    return categories


def image_entry(result: Mapping[str, Any], name: str, image_id: int) -> dict[str, Any]:
    """Return the image of a result as COCO writes it, with the index of a video's frame."""
    image = dict(id=image_id, file_name=name, height=result['height'], width=result['width'])
    if 'frame' in result:
        image['frame'] = result['frame']
    return image


def is_predictions_file(path: Path) -> bool:
    """Tell whether a :class:`PredictionsFile` wrote the file, or was killed while it did."""
    if partial_path(path).is_file():
        return True
    try:
        with path.open('rb') as file:
            return file.read(len(_START)) == _START.encode()
    except OSError:
        return False


class PredictionsFile:
    """COCO annotation file that is written while the results come in.

    ``annotations`` are those of :func:`to_coco` with the id of their image, ``images``
    have the file name (and the index of the frame), and ``categories`` name the classes
    and keypoints. pycocotools' ``COCO(path)`` reads it, ``loadRes`` its 'annotations'.

    Args:
        path (str | Path): The file. It appears when it is complete.
        dataset_meta (dict): Has ``classes``, for keypoints also ``keypoint_id2name`` and
            ``skeleton_links``, or ``category_metas`` with these for each class.
    """

    def __init__(self, path: str | Path, dataset_meta: Meta) -> None:
        self.path = Path(path)
        self._dataset_meta = dataset_meta
        self._stack = ExitStack()
        part = self._stack.enter_context(atomic_write(path))
        self._file = self._stack.enter_context(part.open('w'))
        # JSON holds one list after the other, so the images wait in a file of their own.
        images = tempfile.TemporaryFile('w+')  # noqa: SIM115, the stack closes it
        self._images = self._stack.enter_context(images)
        self._num_images = self._num_instances = 0
        categories = category_entries(dataset_meta)
        self._file.write(f'{_START}{json.dumps(categories)},\n"annotations": [')

    def write(self, name: str, result: Mapping[str, Any]) -> None:
        """Add the instances of one image.

        Args:
            name (str): File name of the image.
            result (dict): See ``Result``.
        """
        image = image_entry(result, name, self._num_images)
        separator = ',\n' if self._num_images else '\n'
        self._images.write(separator + json.dumps(image))
        for entry in to_coco(result, self._dataset_meta):
            entry.update(id=self._num_instances + 1, image_id=image['id'], iscrowd=0)
            separator = ',\n' if self._num_instances else '\n'
            self._file.write(separator + json.dumps(entry))
            self._num_instances += 1
        self._num_images += 1

    def close(self) -> None:
        """Complete the file."""
        self._file.write('],\n"images": [')
        self._images.seek(0)
        for line in self._images:
            self._file.write(line)
        self._file.write(']}\n')
        self._stack.close()
