"""The result of one image, and the same in COCO's terms.

N people, K joints. Coordinates are continuous pixels of the original image:
pixel ``i`` covers [i, i + 1).
"""

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Dict, List, Optional, Union

import numpy as np
from pycocotools import mask as rle

from multitask_runtime.utils.category_meta import category_meta, keypoint_mask
from multitask_runtime.utils.files import atomic_write

from .frames import Frame

_PIXEL_INDEX = 0.5  # how much less COCO's files count joints
_DECIMALS = 3


def to_result(
    frame: Frame,
    people: Dict[str, np.ndarray],
    joint_shift: float = 0.5,
    dataset_meta: Optional[dict] = None,
) -> dict:
    """Describe the people of one image.

    Args:
        frame (Frame): The image.
        people (dict): What the network says of it: ``bboxes``, ``scores``,
            ``labels``, and from the heads that it has ``masks`` (N, H, W)
            bool, ``keypoints`` and ``keypoint_scores``.
        joint_shift (float): As in ``MultitaskCocoMetric``: how much more the
            network's joints count than COCO's files. Defaults to 0.5.
        dataset_meta (dict, optional): With ``category_metas`` if categories
            have keypoints of their own.

    Returns:
        dict: ``source`` (str), of a video also ``frame`` (int), ``height``
        and ``width`` in pixels; ``bboxes`` (N, 4) xyxy, ``scores`` (N) and
        ``labels`` (N), the index of the class; from the heads that the
        network has also ``masks``, N compressed RLEs that JSON can hold,
        ``keypoints`` (N, K, 2) and ``keypoint_scores`` (N, K). Both are NaN
        for the keypoints that the category of an instance does not have.
    """
    result = dict(source=frame.source.title)
    if frame.index is not None:
        result['frame'] = frame.index
    result['height'], result['width'] = frame.image.shape[:2]
    for name in ('bboxes', 'scores', 'labels'):
        result[name] = people[name]
    if 'masks' in people:
        result['masks'] = [_encode(mask) for mask in people['masks']]
    if 'keypoints' in people:
        shift = _PIXEL_INDEX - joint_shift
        result['keypoints'] = people['keypoints'] + shift
        result['keypoint_scores'] = people['keypoint_scores']
        if 'category_metas' in (dataset_meta or {}):
            absent = ~keypoint_mask(dataset_meta, people['labels'])
            result['keypoints'][absent] = np.nan
            result['keypoint_scores'] = np.where(absent, np.nan, people['keypoint_scores'])
    return result


def _encode(mask: np.ndarray) -> dict:
    encoded = rle.encode(np.asfortranarray(mask, np.uint8))
    return dict(encoded, counts=encoded['counts'].decode())


def to_coco(result: dict, dataset_meta: Optional[dict] = None) -> List[dict]:
    """Turn a result into COCO's result entries.

    Args:
        result (dict): As :func:`to_result` returns it.
        dataset_meta (dict, optional): As there.

    Returns:
        list[dict]: For each person ``category_id`` (the label plus one),
        ``bbox`` xywh, ``score`` and where they are known ``segmentation``,
        ``keypoints`` as x, y, score by pixel index, and ``track_id``. A
        category that has keypoints of its own has these alone, in its own
        order.
    """
    boxes = result['bboxes'].astype(float)
    boxes[:, 2:] -= boxes[:, :2]
    fields = dict(
        category_id=(result['labels'] + 1).tolist(),
        bbox=_numbers(boxes),
        area=_numbers(boxes[:, 2] * boxes[:, 3]),
        # Not rounded: equal scores would be ranked in another order.
        score=result['scores'].astype(float).tolist(),
    )
    if 'masks' in result:
        fields['segmentation'] = result['masks']
    if 'keypoints' in result:
        joints = np.concatenate(
            [result['keypoints'] - _PIXEL_INDEX, result['keypoint_scores'][..., None]], -1
        )
        fields['keypoints'] = [
            _numbers(
                each[
                    category_meta(dataset_meta or {}, label).get('indices', slice(None))
                ].flatten()
            )
            for each, label in zip(joints, result['labels'])
        ]
    if 'track_ids' in result:
        fields['track_id'] = result['track_ids'].tolist()
    return [dict(zip(fields, values)) for values in zip(*fields.values())]


def _numbers(values: np.ndarray) -> list:
    return values.astype(float).round(_DECIMALS).tolist()


class PredictionsFile:
    """A COCO-format file that is written while the results come in.

    ``annotations`` are the entries of :func:`to_coco` with the id of their
    image, ``images`` have the name (and the number of the frame) that goes
    with it, and ``categories`` name the classes and joints. pycocotools'
    ``COCO(path)`` reads it, ``loadRes`` its 'annotations'.

    Args:
        path (str | Path): The file; its folder is made. It appears when it
            is complete.
        dataset_meta (dict): Has ``classes``, for joints also
            ``keypoint_id2name`` and ``skeleton_links``, or ``category_metas``
            with these for each class.
    """

    def __init__(self, path: Union[str, Path], dataset_meta: dict) -> None:
        self.path = Path(path)
        self._dataset_meta = dataset_meta
        self._stack = ExitStack()
        part = self._stack.enter_context(atomic_write(path))
        self._file = self._stack.enter_context(part.open('w'))
        # JSON has one list after the other, so that of the images waits.
        self._images = self._stack.enter_context(tempfile.TemporaryFile('w+'))
        self._num_images = self._num_people = 0
        categories = json.dumps(_categories(dataset_meta))
        self._file.write(f'{{"categories": {categories},\n"annotations": [')

    def write(self, name: str, result: dict) -> None:
        """Add the people of one image.

        Args:
            name (str): The image's file name.
            result (dict): As :func:`to_result` returns it.
        """
        image = dict(
            id=self._num_images, file_name=name, height=result['height'], width=result['width']
        )
        if 'frame' in result:
            image['frame'] = result['frame']
        _append(self._images, image, self._num_images)
        for entry in to_coco(result, self._dataset_meta):
            entry.update(id=self._num_people + 1, image_id=image['id'], iscrowd=0)
            _append(self._file, entry, self._num_people)
            self._num_people += 1
        self._num_images += 1

    def close(self) -> None:
        """Complete the file."""
        self._file.write('],\n"images": [')
        self._images.seek(0)
        for line in self._images:
            self._file.write(line)
        self._file.write(']}\n')
        self._stack.close()


def _append(file, entry: dict, number: int) -> None:
    file.write((',\n' if number else '\n') + json.dumps(entry))


def _categories(meta: dict) -> List[dict]:
    categories = []
    for label, name in enumerate(meta['classes']):
        category = dict(id=label + 1, name=name)
        own = category_meta(meta, label)
        names = own.get('keypoint_id2name')
        if names:
            category.update(
                keypoints=[names[i] for i in range(len(names))],
                skeleton=[[a + 1, b + 1] for a, b in own['skeleton_links']],
            )
        categories.append(category)
    return categories
