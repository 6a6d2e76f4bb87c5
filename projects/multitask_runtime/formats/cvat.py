"""CVAT: one XML file of version 1.1 for all images ("CVAT for images").

The shapes of an instance share a ``group_id``: its box, its mask (polygons, or a mask of
pixels where COCO has an RLE) and its keypoints, a skeleton of the label NAME_skeleton.
Occluded keypoints are ``occluded`` there, unlabeled ones ``outside``; crowds have the
attribute ``is_crowd``.
"""

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from multitask_runtime.utils.errors import FormatError
from multitask_runtime.utils.types import Array

from .builder import CocoBuilder, Instance, Point, attach_keypoints
from .coco import (
    Entry,
    Losses,
    categories_by_id,
    get_bbox,
    get_keypoints,
    group_annotations,
    keypoint_names,
    mask_bbox,
    to_number,
)
from .files import check_size, write_new
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


def coco_to_cvat(content: Entry, out: str | os.PathLike[str]) -> Losses:
    """Write COCO annotations as a CVAT file (XML 1.1 for images).

    Args:
        content (dict): Content of a valid COCO file.
        out (str | os.PathLike): New file.

    Returns:
        Counter: What the file cannot hold.

    Raises:
        FormatError: If the file exists.
    """
    losses: Losses = Counter()
    categories = categories_by_id(content, losses)
    write_new(out, to_cvat(group_annotations(content, losses), categories, losses))
    return losses


def cvat_to_coco(
    path: str | os.PathLike[str], keypoints: Sequence[str] | None = None
) -> tuple[Entry, Losses]:
    """Read a file of "CVAT for images 1.1".

    Args:
        path (str | os.PathLike): The XML file, or the folder that has ``annotations.xml``.
        keypoints (Sequence[str], optional): Names of the keypoints in their order, where
            the file describes no skeleton.

    Returns:
        tuple[dict, Counter]: Content of a COCO file, and what was left out.

    Raises:
        FormatError: If the file cannot be read or is another one.
    """
    path = Path(path) / 'annotations.xml' if Path(path).is_dir() else Path(path)
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise FormatError(f'{path}: cannot be read ({error.strerror})') from None
    except (ElementTree.ParseError, ValueError):
        raise FormatError(
            f'{path}: expected an XML file of CVAT, found something else. Unpack the archive that '
            'CVAT exports, and name annotations.xml.'
        ) from None
    if root.tag != 'annotations' or root.find('track') is not None:
        found = f'the element <{root.tag}>' if root.tag != 'annotations' else 'tracks of a video'
        raise FormatError(
            f'{path}: expected a file of "CVAT for images 1.1", found {found}. Export the task in '
            'this format.'
        )
    categories, skeletons = _read_labels(root)
    builder = CocoBuilder(categories, keypoints)
    for image in root.iter('image'):
        place = f'{path}: image {image.get("name")!r}'
        width, height = (int(_number(image, name, place)) for name in ('width', 'height'))
        check_size(width, height, place)
        instances = _to_instances(image, (width, height), skeletons, place, builder.losses)
        builder.add(image.get('name') or '', width, height, instances)
    return builder.build(), builder.losses


def _read_labels(root: ElementTree.Element) -> tuple[list[Entry], dict[str, str]]:
    """Return the categories of a file, and the category of each label of a skeleton."""
    categories: dict[str, Entry] = {}
    skeletons: dict[str, ElementTree.Element] = {}
    sublabels: dict[str, list[str]] = {}
    for label in root.iter('label'):
        name, parent = label.findtext('name') or '', label.findtext('parent')
        if parent:
            sublabels.setdefault(parent, []).append(name)
        elif label.findtext('type') == 'skeleton':
            skeletons[name] = label
        else:
            categories[name] = dict(name=name)
    owners = {}
    for name, label in skeletons.items():
        owner = name.removesuffix(SKELETON_SUFFIX)
        owners[name] = owner if owner in categories else name
        category = categories.setdefault(owners[name], dict(name=owners[name]))
        names, links = _read_svg(label.findtext('svg') or '')
        # The template knows the order; CVAT lists the labels in theirs.
        names = names if set(names) == set(sublabels.get(name, names)) else sublabels[name]
        if names:
            category['keypoints'] = names
        links = [link for link in links if set(link) <= set(names)]
        if links:
            category['skeleton'] = [[names.index(end) + 1 for end in link] for link in links]
    return list(categories.values()), owners


def _read_svg(svg: str) -> tuple[list[str], list[list[str]]]:
    """Return the names of the keypoints in the template of a skeleton, and its links."""
    try:
        root = ElementTree.fromstring(f'<svg>{svg}</svg>')
    except ElementTree.ParseError:
        return [], []
    nodes = {
        circle.get('data-node-id'): str(circle.get('data-label-name'))
        for circle in root.iter('circle')
        if circle.get('data-label-name')
    }
    ends = [(line.get('data-node-from'), line.get('data-node-to')) for line in root.iter('line')]
    links = [[nodes[start], nodes[end]] for start, end in ends if start in nodes and end in nodes]
    return list(dict.fromkeys(nodes.values())), links


def _to_instances(
    image: ElementTree.Element,
    size: tuple[int, int],
    skeletons: Mapping[str, str],
    place: str,
    losses: Losses,
) -> list[Instance]:
    """Join the shapes of an image into instances by their group."""
    instances: dict[Any, Instance] = {}
    loose: list[tuple[str, Point]] = []
    for index, shape in enumerate(image):
        where = f'{place}: {shape.tag} {index}'
        if shape.tag not in ('box', 'polygon', 'mask', 'skeleton', 'points'):
            losses[f'shapes of the type {shape.tag} left out'] += 1
            continue
        label, group = shape.get('label') or '', shape.get('group_id') or f'shape {index}'
        if shape.tag == 'points':
            points = _points(shape, where)
            visibility = 1 if shape.get('occluded') == '1' else 2
            loose += [(label, (x, y, visibility)) for x, y in points.tolist()]
            continue
        label = skeletons.get(label, label)
        instance = instances.setdefault((label, group), Instance(label))
        attributes = {each.get('name'): each.text for each in shape.iter('attribute')}
        instance.is_crowd |= attributes.get(CROWD_ATTRIBUTE) == 'true'
        if shape.tag == 'box':
            if instance.bbox:
                losses['second boxes of a group left out'] += 1
                continue
            corners = [_number(shape, name, where) for name in ('xtl', 'ytl', 'xbr', 'ybr')]
            if float(shape.get('rotation') or 0):
                losses['rotated boxes taken as upright'] += 1
            instance.bbox = [*corners[:2], corners[2] - corners[0], corners[3] - corners[1]]
        elif shape.tag == 'polygon':
            polygon = _points(shape, where).flatten()
            instance.polygons.append([to_number(value) for value in polygon])
        elif shape.tag == 'mask':
            mask = _decode_mask(shape, size, where)
            instance.mask = mask if instance.mask is None else instance.mask | mask
        else:
            instance.keypoints = _read_skeleton(shape, where)
    attach_keypoints(list(instances.values()), loose, losses)
    return list(instances.values())


def _read_skeleton(skeleton: ElementTree.Element, where: str) -> dict[str, Point]:
    keypoints: dict[str, Point] = {}
    for element in skeleton.iter('points'):
        x, y = _points(element, where)[0].tolist()
        visibility = 1 if element.get('occluded') == '1' else 2
        is_outside = element.get('outside') == '1'
        keypoints[element.get('label') or ''] = (x, y, 0 if is_outside else visibility)
    return keypoints


def _number(element: ElementTree.Element, name: str, where: str) -> float:
    text = element.get(name) or ''
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FormatError(
            f'{where}: {name}: expected a number, found {text!r:.40}. Export the task again.'
        )
    return value


def _points(element: ElementTree.Element, where: str) -> Array:
    """Return the points of a shape, shape (P, 2)."""
    text = element.get('points') or ''
    try:
        points = np.array([pair.split(',') for pair in text.split(';')], float)
    except ValueError:
        points = np.empty((0, 0))
    least = 3 if element.tag == 'polygon' else 1
    if points.shape != (len(points), 2) or len(points) < least or not np.isfinite(points).all():
        raise FormatError(
            f'{where}: points: expected {least} or more as x,y;x,y, found {text!r:.40}. Export '
            'the task again.'
        )
    return points


def _decode_mask(shape: ElementTree.Element, size: tuple[int, int], where: str) -> Array:
    """Return a mask, bool of shape (H, W), from its run lengths within its box."""
    names = ('left', 'top', 'width', 'height')
    left, top, width, height = (int(_number(shape, name, where)) for name in names)
    text = shape.get('rle') or ''
    try:
        runs = [int(run) for run in text.split(',')]
    except ValueError:
        runs = []
    is_inside = left >= 0 and top >= 0 and left + width <= size[0] and top + height <= size[1]
    if not is_inside or min(runs, default=-1) < 0 or sum(runs) != width * height:
        raise FormatError(
            f'{where}: rle: expected runs of {width * height} pixels within the image, found '
            f'{text!r:.40}. Export the task again.'
        )
    mask = np.zeros((size[1], size[0]), bool)
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask[top : top + height, left : left + width] = flat.reshape(height, width)
    return mask
