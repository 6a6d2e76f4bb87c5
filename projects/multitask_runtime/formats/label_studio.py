"""Label Studio: a JSON list with a task for each image, and the labeling configuration.

The regions of an instance are its box (RectangleLabels), its mask (PolygonLabels, or
BrushLabels where COCO has an RLE) and its keypoints (KeyPointLabels); all but the first
name the first one as ``parentID``. Coordinates are percent of the image. Occluded
keypoints and crowds say so in the text of their ``meta``.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from multitask_runtime.utils.errors import FormatError
from multitask_runtime.utils.types import Array

from .builder import CocoBuilder, Instance, Point, attach_keypoints
from .coco import (
    Entry,
    Losses,
    categories_by_id,
    check_name,
    get_bbox,
    get_keypoints,
    group_annotations,
    keypoint_names,
    mask_bbox,
    to_number,
)
from .files import find_size, new_folder, read_categories, read_json, validate
from .segmentations import to_mask

TASKS, CONFIG, CATEGORIES = 'tasks.json', 'labeling_config.xml', 'categories.json'
_KIND = 'a JSON export of Label Studio'

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
        dict: A task of Label Studio, with the size of the image in its data.
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
    data = dict(image=image_url or image['file_name'])
    # Regions say the size of the image; a task without regions would not.
    data.update(width=image['width'], height=image['height'])
    return dict(data=data, **{kind: [content]})


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


def coco_to_label_studio(
    content: Entry, out: str | os.PathLike[str], image_url: str = ''
) -> Losses:
    """Write COCO annotations for a project of Label Studio.

    Args:
        content (dict): Content of a valid COCO file.
        out (str | os.PathLike): New folder, for ``tasks.json`` to import,
            ``labeling_config.xml`` for the project, and ``categories.json``, which keeps
            the order of keypoints and their skeleton.
        image_url (str): What stands before the quoted file name in the URL of an image,
            such as '/data/local-files/?d=photos/'.

    Returns:
        Counter: What Label Studio cannot hold.

    Raises:
        FormatError: If the folder has content.
    """
    losses: Losses = Counter()
    categories = categories_by_id(content)
    tasks = [
        to_label_studio(
            image, annotations, categories, losses, image_url=_to_url(image_url, image)
        )
        for image, annotations in group_annotations(content, losses)
    ]
    with new_folder(out) as folder:
        (folder / TASKS).write_text(json.dumps(tasks))
        (folder / CONFIG).write_text(labeling_config(categories), encoding='utf-8')
        (folder / CATEGORIES).write_text(json.dumps(content['categories'], indent=2))
    return losses


def _to_url(prefix: str, image: Entry) -> str | None:
    return prefix + quote(str(image['file_name'])) if prefix else None


class _Region(BaseModel):
    model_config = ConfigDict(extra='allow')
    id: str | None = None
    parentID: str | None = None
    type: str = ''
    value: dict[str, Any] = Field(default_factory=dict)
    original_width: int | None = None
    original_height: int | None = None
    meta: dict[str, Any] | None = None


class _Annotation(BaseModel):
    model_config = ConfigDict(extra='allow')
    result: list[_Region]
    was_cancelled: bool | None = False


class _Task(BaseModel):
    model_config = ConfigDict(extra='allow')
    data: dict[str, Any]
    annotations: list[_Annotation] = Field(default_factory=list)


class _Export(BaseModel):
    tasks: list[_Task]


def label_studio_to_coco(
    path: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    keypoints: Sequence[str] | None = None,
) -> tuple[Entry, Losses]:
    """Read a JSON export of Label Studio.

    Args:
        path (str | os.PathLike): The file, or a folder with ``tasks.json``.
        images (str | os.PathLike, optional): Folder of the images; needed for tasks without
            regions, which do not say the size of their image.
        keypoints (Sequence[str], optional): Names of the keypoints in their order. By
            default those of ``categories.json`` beside the file, or those that occur.

    Returns:
        tuple[dict, Counter]: Content of a COCO file, and what was left out.

    Raises:
        FormatError: If the file cannot be read or is another one.
    """
    path = Path(path) / TASKS if Path(path).is_dir() else Path(path)
    content = read_json(path, _KIND)
    export: _Export = validate(_Export, dict(tasks=content), path, _KIND)
    builder = CocoBuilder(read_categories(path.with_name(CATEGORIES)), keypoints)
    folder = None if images is None else Path(images)
    for index, task in enumerate(export.tasks):
        place = f'{path}: [{index}]'
        done = [each for each in task.annotations if not each.was_cancelled]
        if not done:
            builder.losses['tasks without an annotation left out'] += 1
            continue
        if len(done) > 1:
            builder.losses['further annotations of a task left out'] += len(done) - 1
        regions = done[0].result
        name = _find_name(task.data, place)
        check_name(name, f'{place}.data')
        data_size = (task.data.get('width'), task.data.get('height'))
        region_sizes = [(region.original_width, region.original_height) for region in regions]
        declared = next((each for each in [*region_sizes, data_size] if all(each)), data_size)
        size = find_size(declared, folder, name, place)
        builder.add(name, *size, _to_instances(regions, size, place, builder.losses))
    return builder.build(), builder.losses


def _find_name(data: Mapping[str, Any], place: str) -> str:
    """Return the file name of a task's image from its URL."""
    urls = [data.get('image'), *(v for k, v in data.items() if k != 'image')]
    url = next((each for each in urls if isinstance(each, str) and each), None)
    if url is None:
        raise FormatError(
            f'{place}.data: expected the image of the task, found {str(dict(data))[:60]}. Export '
            'the project again.'
        )
    parts = urlsplit(url)
    if 'd' in parse_qs(parts.query):  # local files
        return parse_qs(parts.query)['d'][0].lstrip('/')
    if parts.scheme or url.startswith('/'):
        name = unquote(parts.path).rsplit('/', 1)[-1]
        # Label Studio puts 8 digits before the names of uploaded files.
        return re.sub(r'^[0-9a-f]{8}-', '', name) if '/upload/' in parts.path else name
    return url


def _to_instances(
    regions: Sequence[_Region], size: tuple[int, int], place: str, losses: Losses
) -> list[Instance]:
    """Join the regions of an image into instances by their parent."""
    width, height = size
    instances: dict[tuple[str, str], Instance] = {}  # by the id of their region and label
    points: list[tuple[str | None, str, Point]] = []
    parents = {region.id: _label(region) for region in regions if region.id}
    for index, region in enumerate(regions):
        where = f'{place}.result[{index}].value'
        label, value = _label(region), region.value
        if region.type not in _TAGS or label is None:
            losses[f'regions of the type {region.type or "unknown"} left out'] += 1
            continue
        text = (region.meta or {}).get('text')
        notes = text if isinstance(text, list) else [text]
        if region.type == 'keypointlabels':
            x, y = _numbers(value, ('x', 'y'), where) * size / 100
            points.append((region.parentID, label, (x, y, 1 if OCCLUDED in notes else 2)))
            continue
        # A region within another of its category is a part of the same instance.
        is_part = parents.get(region.parentID or '') == label
        key = (region.parentID if is_part else region.id) or f'region {index}'
        instance = instances.setdefault((key, label), Instance(label))
        instance.is_crowd |= CROWD in notes
        if region.type == 'rectanglelabels':
            if value.get('rotation'):
                losses['rotated boxes taken as upright'] += 1
            numbers = _numbers(value, ('x', 'y', 'width', 'height'), where)
            instance.bbox = (numbers * [*size, *size] / 100).tolist()
        elif region.type == 'polygonlabels':
            corners = _corners(value.get('points'), where) * size / 100
            instance.polygons.append([to_number(each) for each in corners.flatten()])
        else:
            mask = decode_rle(value.get('rle'), (height, width), f'{where}.rle')
            instance.mask = mask if instance.mask is None else instance.mask | mask
    loose = []
    owners = {key: instance for (key, _), instance in instances.items()}
    for parent, name, point in points:
        if parent in owners:
            owner = owners[parent]
            owner.keypoints = {**(owner.keypoints or {}), name: point}
        else:
            loose.append((name, point))
    attach_keypoints(list(instances.values()), loose, losses)
    return list(instances.values())


def _label(region: _Region) -> str | None:
    """Return the first label of a region, None if it has none."""
    labels = region.value.get(region.type)
    return str(labels[0]) if isinstance(labels, list) and labels else None


def _numbers(value: Mapping[str, Any], names: Sequence[str], where: str) -> Array:
    """Return numbers of a region in percent."""
    numbers = [value.get(name) for name in names]
    if not all(isinstance(each, (int, float)) and abs(each) < 1e6 for each in numbers):
        raise FormatError(
            f'{where}: expected numbers as {", ".join(names)}, found {numbers}. Export the '
            'project again.'
        )
    return np.array(numbers, float)


def _corners(points: Any, where: str) -> Array:
    """Return the corners of a polygon in percent, shape (P, 2)."""
    try:
        corners = np.array(points, float)
    except (TypeError, ValueError):
        corners = np.empty(0)
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3:
        raise FormatError(
            f'{where}.points: expected 3 corners or more as [x, y], found {str(points)[:40]}. '
            'Export the project again.'
        )
    return corners


def decode_rle(content: Any, image_size: tuple[int, int], where: str) -> Array:
    """Decode the RLE of an image with four channels, of which the last is the mask.

    Args:
        content (list[int]): Bytes, see :func:`encode_rle`. Runs may also have a 0 in the
            place of the 1: then each of their values follows.
        image_size (tuple[int, int]): Height and width of the image.
        where (str): Name of the field in messages.

    Returns:
        np.ndarray: bool, shape (H, W).

    Raises:
        FormatError: If these are not the bytes of such an image.
    """
    count = 4 * image_size[0] * image_size[1]
    try:
        bits = ''.join(f'{byte:08b}' for byte in bytes(list(content)))
        position, sum_lengths = 53, 0

        def read(size: int) -> int:
            nonlocal position
            position += size
            return int(bits[position - size : position], 2)

        total, word = int(bits[:32], 2), int(bits[32:37], 2) + 1
        run_bits = [int(bits[i : i + 4], 2) + 1 for i in range(37, 53, 4)]
        values: list[int] = []
        lengths: list[int] = []
        while total == count > sum_lengths:
            is_run = read(1)
            length = read(run_bits[read(2)]) + 1
            sum_lengths += length
            for each in [length] if is_run else [1] * length:
                values.append(read(word))
                lengths.append(each)
        flat: Array = np.repeat(np.array(values, np.int64), lengths)
    except (IndexError, TypeError, ValueError):
        flat = np.empty(0)
    if len(flat) != count:
        raise FormatError(
            f'{where}: expected the RLE of {image_size[1]} x {image_size[0]} pixels with 4 '
            f'channels, found {str(content)[:40]}. Export the project again.'
        )
    mask: Array = flat.reshape(*image_size, 4)[..., 3] > 0
    return mask
