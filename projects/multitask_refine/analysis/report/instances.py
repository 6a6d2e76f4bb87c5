"""Convert COCO entries to instances and draw them with the project's visualizer."""

import base64
from collections.abc import Sequence
from functools import partial

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData
from pycocotools import mask as mask_api
from pycocotools.coco import COCO

from multitask_refine.visualization import MultitaskVisualizer

SIDE = 400  # pixels of the longer side of an embedded image
_QUALITY = 82


class Painter(MultitaskVisualizer):
    """Visualizer that returns the drawn image."""

    def paint(self, image: np.ndarray, people: InstanceData) -> np.ndarray:
        """Draw people on an RGB image, and return the drawing."""
        return self._draw_instances(image, people, None, None)


def make_painter(keypoints: dict) -> Painter:
    """Build a painter for the keypoints of a predictions file.

    It also draws keypoints with low scores, because OKS counts them.
    """
    painter = Painter(kpt_thr=0)
    painter.dataset_meta = dict(
        skeleton_links=keypoints['skeleton'],
        skeleton_link_colors=keypoints['skeleton_colors'],
        keypoint_colors=keypoints['colors'],
    )
    return painter


def display_size(width: float, height: float) -> tuple[int, int]:
    """Return width and height of an embedded image in pixels."""
    scale = SIDE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def fit(photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image: averaged to shrink it, smooth to enlarge it."""
    shrinks = size[0] < photo.shape[1]
    return cv2.resize(
        np.ascontiguousarray(photo),
        size,
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC,
    )


def truth_people(truth: COCO, image: int, categories: Sequence[int]) -> list[dict]:
    """The people of an image, without crowds.

    Args:
        truth (COCO): The annotations.
        image (int): The image's id.
        categories (Sequence[int]): Ids of those that count as people.

    Returns:
        list[dict]: ``bbox`` and ``keypoints`` in COCO's form, and where there
        is a mask ``mask``, a function that returns it.
    """
    return [
        dict(
            bbox=ann['bbox'],
            keypoints=ann['keypoints'],
            **(dict(mask=lambda ann=ann: truth.annToMask(ann)) if ann.get('segmentation') else {}),
        )
        for ann in truth.imgToAnns[image]
        if not ann['iscrowd'] and ann['category_id'] in categories
    ]


def predicted_people(image: dict, threshold: float) -> list[dict]:
    """What a run found in an image.

    Args:
        image (dict): One of a predictions file's ``images``.
        threshold (float): People with a lower score are left out.

    Returns:
        list[dict]: As :func:`truth_people`, and ``score``.
    """
    tasks = [t for t in ('bbox', 'segm', 'keypoints') if t in image]
    people = []
    for entries in zip(*(image[task] for task in tasks), strict=True):
        person = dict(score=entries[0]['score'])
        if person['score'] < threshold:
            continue
        for entry in entries:
            person.update({k: v for k, v in entry.items() if k in ('bbox', 'keypoints')})
            if 'segmentation' in entry:
                # Decoded only when it is drawn
                person['mask'] = partial(mask_api.decode, entry['segmentation'])
                person.setdefault('bbox', mask_api.toBbox(entry['segmentation']).tolist())
        if 'bbox' not in person:  # x, y, width, height around the keypoints
            points = np.reshape(person['keypoints'], (-1, 3))[:, :2]  # (K, 2)
            person['bbox'] = [*points.min(0), *np.ptp(points, axis=0)]
        people.append(person)
    return people


def instances(
    people: Sequence[dict], scale: np.ndarray, size: tuple[int, int], is_truth: bool
) -> InstanceData:
    """People in the frame of the embedded image, as the visualizer takes them.

    Args:
        people (Sequence[dict]): From :func:`truth_people` or
            :func:`predicted_people`.
        scale (np.ndarray): Pixels of the drawn image for each image pixel, in x and y.
        size (tuple[int, int]): Width and height of the embedded image.
        is_truth (bool): Whether the keypoints' third number is the visibility;
            else it is a score.
    """
    boxes = np.reshape([person['bbox'] for person in people], (-1, 4))
    boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
    fields = dict(bboxes=torch.tensor(boxes * np.tile(scale, 2)))
    if any('mask' in person for person in people):
        fields['masks'] = torch.from_numpy(
            np.stack(
                [
                    _resize(person['mask'](), size)
                    if 'mask' in person
                    else np.zeros(size[::-1], bool)
                    for person in people
                ]
            )
        )
    if people and all('keypoints' in person for person in people):
        keypoints = np.reshape(
            [person['keypoints'] for person in people], (len(people), -1, 3)
        ).astype(float)
        # COCO counts from the middle of the first pixel.
        fields['keypoints'] = torch.tensor((keypoints[..., :2] + 0.5) * scale)
        name = 'keypoints_visible' if is_truth else 'keypoint_scores'
        fields[name] = torch.tensor(keypoints[..., 2])
    if not is_truth:
        fields['scores'] = torch.tensor([p['score'] for p in people])
    return InstanceData(**fields)


def _resize(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST).astype(bool)


def data_uri(image: np.ndarray) -> str:
    """Encode an RGB image as a JPEG inside a URI."""
    _, data = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return 'data:image/jpeg;base64,' + base64.b64encode(data).decode()
