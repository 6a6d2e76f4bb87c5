"""Label Studio: a JSON list with a task for each image, and the labeling configuration.

The regions of an instance are its box (RectangleLabels), its mask (PolygonLabels, or
BrushLabels where COCO has an RLE) and its keypoints (KeyPointLabels); all but the first
name the first one as ``parentID``. Coordinates are percent of the image. Occluded
keypoints and crowds say so in the text of their ``meta``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np

from multitask_runtime.utils.types import Array

from .coco import Entry, Losses, get_bbox, get_keypoints, keypoint_names, mask_bbox
from .segmentations import to_mask

OCCLUDED, CROWD = 'occluded', 'crowd'
_DECIMALS = 7  # of percent: less than 1e-4 pixels in any image
_POINT_SIZE = 0.5  # percent, of the drawn keypoints
# Label Studio packs runs with one of four sizes, in bits, of their length.
_RUN_BITS = (3, 4, 8, 16)
_TAGS = dict(
    rectanglelabels='RectangleLabels',
    polygonlabels='PolygonLabels',
    brushlabels='BrushLabels',
    keypointlabels='KeyPointLabels',
)


def to_label_studio(
    image: Entry,
    annotations: Sequence[Entry],
    categories: Mapping[int, Entry],
    losses: Losses | None = None,
    kind: Literal['annotations', 'predictions'] = 'annotations',
    image_url: str | None = None,
) -> dict[str, Any]:
    """Convert the COCO annotations of one image.

    Args:
        image (dict): COCO image with ``file_name``, ``height`` and ``width``.
        annotations (Sequence[dict]): Its COCO annotations.
        categories (Mapping[int, dict]): COCO categories by id.
        losses (Counter, optional): Counts what the format cannot hold.
        kind (str): Whether they are annotations or, to be shown as suggestions, predictions.
        image_url (str, optional): Where Label Studio finds the image. Defaults to its file
            name.

    Returns:
        dict: A task of Label Studio.
    """
    losses = Counter() if losses is None else losses
    regions: list[dict[str, Any]] = []
    for index, annotation in enumerate(annotations):
        own = _to_regions(annotation, image, categories[annotation['category_id']], losses)
        for number, region in enumerate(own):
            region['id'] = f'{index}-{number}'
            if number:
                region['parentID'] = f'{index}-0'
            if 'score' in annotation:
                region['score'] = annotation['score']
        regions += own
    content: dict[str, Any] = dict(result=regions)
    if kind == 'predictions':
        content['model_version'] = 'multitask_refine'
    return dict(data=dict(image=image_url or image['file_name']), **{kind: [content]})


def labeling_config(categories: Mapping[int, Entry]) -> str:
    """Return the labeling configuration (XML) of a project for these categories."""
    view = ElementTree.Element('View')
    ElementTree.SubElement(view, 'Image', name='image', value='$image')
    names = [category['name'] for category in categories.values()]
    keypoints = [name for each in categories.values() for name in keypoint_names(each)]
    for kind, tag in _TAGS.items():
        labels = list(dict.fromkeys(keypoints if kind == 'keypointlabels' else names))
        if labels:
            control = ElementTree.SubElement(view, tag, name=_control(kind), toName='image')
            for label in labels:
                ElementTree.SubElement(control, 'Label', value=label)
    ElementTree.indent(view)
    return ElementTree.tostring(view, 'unicode') + '\n'


def _control(kind: str) -> str:
    return kind.removesuffix('labels')


def _to_regions(
    annotation: Entry, image: Entry, category: Entry, losses: Losses
) -> list[dict[str, Any]]:
    """Return the regions of one instance, without ids."""
    size = np.array([image['width'], image['height']], float)

    def percent(points: Array | Sequence[float]) -> Any:
        return (np.asarray(points, float) / size * 100).round(_DECIMALS).tolist()

    def region(kind: str, label: str, note: str | None = None, **value: Any) -> dict[str, Any]:
        return dict(
            type=kind,
            from_name=_control(kind),
            to_name='image',
            original_width=image['width'],
            original_height=image['height'],
            image_rotation=0,
            value={**value, kind: [label]},
            **(dict(meta=dict(text=[note])) if note else {}),
        )

    label, note = category['name'], CROWD if annotation.get('iscrowd') else None
    segmentation, regions = annotation.get('segmentation'), []
    bbox = get_bbox(annotation, image)
    if not segmentation or bbox != mask_bbox(segmentation, image):
        (x, y), (width, height) = percent(bbox[:2]), percent(bbox[2:])
        box = dict(x=x, y=y, width=width, height=height, rotation=0)
        regions.append(region('rectanglelabels', label, note, **box))
    if isinstance(segmentation, Mapping):
        rle = encode_rle(to_mask(segmentation, image['height'], image['width']))
        regions.append(region('brushlabels', label, note, format='rle', rle=rle))
    for polygon in segmentation if isinstance(segmentation, list) else ():
        points = percent(np.reshape(polygon, (-1, 2)))
        regions.append(region('polygonlabels', label, note, points=points, closed=True))
    keypoints = get_keypoints(annotation, category)
    if keypoints is not None:
        if not keypoints[:, 2].any():
            losses['instances without a labeled keypoint: keypoints left out'] += 1
        for name, (x, y, visibility) in zip(keypoint_names(category), keypoints, strict=True):
            if visibility:
                x, y = percent([x, y])
                point = dict(x=x, y=y, width=_POINT_SIZE)
                note = OCCLUDED if visibility == 1 else None
                regions.append(region('keypointlabels', name, note, **point))
    return regions


def encode_rle(mask: Array) -> list[int]:
    """Encode a mask as the bytes of Label Studio's RLE of an image with four channels.

    Args:
        mask (np.ndarray): bool, shape (H, W).

    Returns:
        list[int]: Bytes: number of values (32 bits), bits of a value less 1 (5 bits), the
        four run sizes less 1 (4 bits each), then for each run a 1, the index of its size
        (2 bits), its length less 1 and its value (8 bits).
    """
    flat = mask.flatten().repeat(4)  # (H * W * 4), RGBA
    turns = np.flatnonzero(np.diff(flat)) + 1
    starts = np.concatenate([[0], turns, [flat.size]])
    bits = [f'{flat.size:032b}', f'{7:05b}', *(f'{size - 1:04b}' for size in _RUN_BITS)]
    for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        value = 255 if flat[start] else 0
        for length in _split(end - start, 1 << _RUN_BITS[-1]):
            index = next(i for i, size in enumerate(_RUN_BITS) if length <= 1 << size)
            bits.append(f'1{index:02b}{length - 1:0{_RUN_BITS[index]}b}{value:08b}')
    text = ''.join(bits)
    text += '0' * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, 'big'))


def _split(length: int, largest: int) -> list[int]:
    full, rest = divmod(length, largest)
    return [largest] * full + ([rest] if rest else [])
