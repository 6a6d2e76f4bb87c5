"""CVAT: one XML file of version 1.1 for all images ("CVAT for images").

The shapes of an instance share a ``group_id``: its box, its mask (polygons, or a mask of
pixels where COCO has an RLE) and its keypoints, a skeleton of the label NAME_skeleton.
Occluded keypoints are ``occluded`` there, unlabeled ones ``outside``; crowds have the
attribute ``is_crowd``.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np

from multitask_runtime.utils.types import Array

from .coco import Entry, Losses, get_bbox, get_keypoints, keypoint_names, mask_bbox, to_number
from .segmentations import to_mask

SKELETON_SUFFIX = '_skeleton'  # a skeleton needs a label of its own
CROWD_ATTRIBUTE = 'is_crowd'


def to_cvat(
    images: Iterable[tuple[Entry, Sequence[Entry]]],
    categories: Mapping[int, Entry],
    losses: Losses | None = None,
) -> str:
    """Convert COCO annotations.

    Args:
        images (Iterable): Each COCO image with its annotations.
        categories (Mapping[int, dict]): COCO categories by id.
        losses (Counter, optional): Counts what the format cannot hold.

    Returns:
        str: Content of an XML file.
    """
    losses = Counter() if losses is None else losses
    root = ElementTree.Element('annotations')
    _add_text(root, 'version', '1.1')
    task = ElementTree.SubElement(ElementTree.SubElement(root, 'meta'), 'task')
    labels = ElementTree.SubElement(task, 'labels')
    for category in categories.values():
        _add_labels(labels, category)
    group = 0
    for frame, (image, annotations) in enumerate(images):
        size = {name: str(image[name]) for name in ('width', 'height')}
        fields = dict(id=str(frame), name=str(image['file_name']))
        parent = ElementTree.SubElement(root, 'image', fields | size)
        for annotation in annotations:
            group += 1
            if 'score' in annotation:
                losses['scores left out'] += 1
            _add_shapes(parent, annotation, image, categories[annotation['category_id']], group)
    ElementTree.indent(root)
    return ElementTree.tostring(root, 'unicode', xml_declaration=True) + '\n'


def _add_text(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text


def _add_labels(labels: ElementTree.Element, category: Entry) -> None:
    """Add the labels of a category, its skeleton and its keypoints."""
    label = ElementTree.SubElement(labels, 'label')
    _add_text(label, 'name', category['name'])
    _add_text(label, 'type', 'any')
    attributes = ElementTree.SubElement(label, 'attributes')
    attribute = ElementTree.SubElement(attributes, 'attribute')
    fields = dict(mutable='False', input_type='checkbox', default_value='false', values='false')
    for tag, text in dict(name=CROWD_ATTRIBUTE, **fields).items():
        _add_text(attribute, tag, text)
    names = keypoint_names(category)
    if not names:
        return
    skeleton = category['name'] + SKELETON_SUFFIX
    label = ElementTree.SubElement(labels, 'label')
    _add_text(label, 'name', skeleton)
    _add_text(label, 'type', 'skeleton')
    ElementTree.SubElement(label, 'attributes')
    _add_text(label, 'svg', _draw_skeleton(names, category.get('skeleton') or ()))
    for name in names:
        label = ElementTree.SubElement(labels, 'label')
        _add_text(label, 'name', name)
        _add_text(label, 'type', 'points')
        ElementTree.SubElement(label, 'attributes')
        _add_text(label, 'parent', skeleton)


def _draw_skeleton(names: Sequence[str], links: Sequence[Sequence[int]]) -> str:
    """Return the template of a skeleton, an SVG with the keypoints on a circle."""
    angles = [2 * math.pi * i / len(names) for i in range(len(names))]
    places = [
        (f'{50 + 45 * math.sin(angle):.2f}', f'{50 - 45 * math.cos(angle):.2f}')
        for angle in angles
    ]
    nodes = [str(i) for i in range(1, len(names) + 1)]
    elements = []
    for start, end in links:
        (x1, y1), (x2, y2) = places[start - 1], places[end - 1]
        line = dict(x1=x1, y1=y1, x2=x2, y2=y2, stroke='black')
        ends = {'data-node-from': str(start), 'data-node-to': str(end)}
        edge = {'data-type': 'edge', 'stroke-width': '0.5'}
        elements.append(ElementTree.Element('line', line | edge | ends))
    for node, name, (x, y) in zip(nodes, names, places, strict=True):
        circle = {'r': '1.5', 'cx': x, 'cy': y, 'stroke': 'black', 'data-type': 'element node'}
        ids = {'data-element-id': node, 'data-node-id': node, 'data-label-name': name}
        elements.append(ElementTree.Element('circle', circle | ids))
    return ''.join(ElementTree.tostring(element, 'unicode') for element in elements)


def _add_shapes(
    parent: ElementTree.Element, annotation: Entry, image: Entry, category: Entry, group: int
) -> None:
    """Add the shapes of one instance."""
    source = 'auto' if 'score' in annotation else 'manual'
    shared = dict(label=category['name'], source=source, occluded='0')
    place = dict(z_order='0', group_id=str(group))
    segmentation, shapes = annotation.get('segmentation'), []
    bbox = get_bbox(annotation, image)
    if not segmentation or bbox != mask_bbox(segmentation, image):
        x, y, width, height = bbox
        corners = dict(xtl=x, ytl=y, xbr=x + width, ybr=y + height)
        texts = {name: str(to_number(value)) for name, value in corners.items()}
        shapes.append(ElementTree.SubElement(parent, 'box', {**shared, **texts, **place}))
    if isinstance(segmentation, Mapping):
        rle = _encode_mask(segmentation, image)
        shapes.append(ElementTree.SubElement(parent, 'mask', {**shared, **rle, **place}))
    for polygon in segmentation if isinstance(segmentation, list) else ():
        points = _join(np.reshape(polygon, (-1, 2)))
        shapes.append(
            ElementTree.SubElement(parent, 'polygon', {**shared, 'points': points, **place})
        )
    for shape in shapes if annotation.get('iscrowd') else ():
        ElementTree.SubElement(shape, 'attribute', name=CROWD_ATTRIBUTE).text = 'true'
    keypoints = get_keypoints(annotation, category)
    if keypoints is None:
        return
    skeleton = ElementTree.SubElement(
        parent, 'skeleton', {**shared, 'label': category['name'] + SKELETON_SUFFIX, **place}
    )
    for name, (x, y, visibility) in zip(keypoint_names(category), keypoints, strict=True):
        ElementTree.SubElement(
            skeleton,
            'points',
            label=name,
            source=source,
            outside=str(int(not visibility)),
            occluded=str(int(visibility == 1)),
            points=_join([(x, y)] if visibility else [(0, 0)]),
        )


def _join(points: Array | Sequence[tuple[float, float]]) -> str:
    return ';'.join(f'{to_number(x)},{to_number(y)}' for x, y in points)


def _encode_mask(segmentation: Mapping[str, Any], image: Entry) -> dict[str, str]:
    """Return a mask as run lengths in row-major order, zeros first, of the pixels of its box."""
    left, top, width, height = (int(value) for value in mask_bbox(segmentation, image))
    mask = to_mask(segmentation, image['height'], image['width'])
    flat = mask[top : top + height, left : left + width].flatten()
    turns = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], turns, [flat.size]])).tolist()
    runs = [0, *runs] if flat.size and flat[0] else runs
    place = dict(left=left, top=top, width=width, height=height)
    return dict(rle=', '.join(map(str, runs)), **{name: str(v) for name, v in place.items()})
