"""LabelMe: a JSON file for each image.

The shapes of an instance share a ``group_id``: its box (rectangle), its mask (polygons, or
a mask of pixels where COCO has an RLE) and its keypoints (points, whose label is the name
of the keypoint). Occluded keypoints have the flag ``occluded``, crowds the flag ``crowd``.
"""

import base64
import binascii
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

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
    to_points,
)
from .files import (
    copy_image,
    find_size,
    label_path,
    new_folder,
    read_categories,
    read_json,
    validate,
)
from .segmentations import to_mask

VERSION = '5.5.0'
CATEGORIES = 'categories.json'  # of the folders written here: ids, keypoints and skeletons
_KIND = 'a file of LabelMe'


def to_labelme(
    image: Entry,
    annotations: Sequence[Entry],
    categories: Mapping[int, Entry],
    losses: Losses | None = None,
) -> dict[str, Any]:
    """Convert the COCO annotations of one image.

    Args:
        image (dict): COCO image with ``file_name``, ``height`` and ``width``.
        annotations (Sequence[dict]): Its COCO annotations.
        categories (Mapping[int, dict]): COCO categories by id.
        losses (Counter, optional): Counts what the format cannot hold.

    Returns:
        dict: Content of a LabelMe file.
    """
    losses = Counter() if losses is None else losses
    shapes = []
    for group, annotation in enumerate(annotations, 1):
        category = categories[annotation['category_id']]
        flags = dict(crowd=True) if annotation.get('iscrowd') else {}
        shared = dict(label=category['name'], group_id=group, flags=flags, description='')
        if 'score' in annotation:
            shared['score'] = annotation['score']
        segmentation = annotation.get('segmentation')
        bbox = get_bbox(annotation, image)
        if not segmentation or bbox != mask_bbox(segmentation, image):
            x, y, width, height = bbox
            points = to_points([x, y, x + width, y + height])
            shapes.append(dict(shared, shape_type='rectangle', points=points))
        if isinstance(segmentation, Mapping):
            shapes.append(shared | _encode_mask(segmentation, image))
        for polygon in segmentation if isinstance(segmentation, list) else ():
            shapes.append(dict(shared, shape_type='polygon', points=to_points(polygon)))
        keypoints = get_keypoints(annotation, category)
        if keypoints is None:
            continue
        if not keypoints[:, 2].any():
            losses['instances without a labeled keypoint: keypoints left out'] += 1
        for name, (x, y, visibility) in zip(keypoint_names(category), keypoints, strict=True):
            if visibility:
                flags = dict(occluded=True) if visibility == 1 else {}
                shapes.append(
                    dict(
                        label=name,
                        points=[[to_number(x), to_number(y)]],
                        group_id=group,
                        description='',
                        shape_type='point',
                        flags=flags,
                    )
                )
    return dict(
        version=VERSION,
        flags={},
        shapes=shapes,
        imagePath=image['file_name'],
        imageData=None,
        imageHeight=image['height'],
        imageWidth=image['width'],
    )


def _encode_mask(segmentation: Mapping[str, Any], image: Entry) -> dict[str, Any]:
    """Return a shape of the type mask: a PNG of the pixels between two corner pixels."""
    mask = to_mask(segmentation, image['height'], image['width'])
    left, top, width, height = (int(value) for value in mask_bbox(segmentation, image))
    crop = mask[top : top + height, left : left + width].astype(np.uint8) * 255
    png = cv2.imencode('.png', crop)[1].tobytes()
    return dict(
        shape_type='mask',
        # LabelMe includes both corner pixels.
        points=[[left, top], [left + width - 1, top + height - 1]],
        mask=base64.b64encode(png).decode(),
    )


def coco_to_labelme(
    content: Entry, out: str | os.PathLike[str], images: str | os.PathLike[str] | None = None
) -> Losses:
    """Write COCO annotations as a folder of LabelMe files.

    Args:
        content (dict): Content of a valid COCO file.
        out (str | os.PathLike): New folder, for a JSON file for each image and
            ``categories.json``, which keeps the order of keypoints and their skeleton.
        images (str | os.PathLike, optional): Folder of the images, which are copied beside
            their files; LabelMe looks for them there.

    Returns:
        Counter: What LabelMe's files cannot hold.

    Raises:
        FormatError: If the folder has content, an image is missing, or two images would
            have the same file.
    """
    losses: Losses = Counter()
    categories = categories_by_id(content)
    with new_folder(out) as folder:
        taken = {folder / CATEGORIES: CATEGORIES}
        for image, annotations in group_annotations(content, losses):
            name = str(image['file_name'])
            path = label_path(folder, name, '.json', taken)
            path.parent.mkdir(parents=True, exist_ok=True)
            labels = to_labelme(image, annotations, categories, losses)
            # The path of the image is relative to the file.
            labels['imagePath'] = Path(name).name
            path.write_text(json.dumps(labels, indent=2), encoding='utf-8')
            if images is not None:
                copy_image(Path(images), name, folder)
        (folder / CATEGORIES).write_text(json.dumps(content['categories'], indent=2))
    return losses


_Number = Annotated[float, Field(allow_inf_nan=False)]
_Pair = Annotated[list[_Number], Field(min_length=2, max_length=2)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra='allow')
    label: str
    points: list[_Pair]
    shape_type: str = 'polygon'
    group_id: int | None = None
    flags: dict[str, bool] | None = None
    mask: str | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra='allow')
    shapes: list[_Shape]
    imagePath: str
    imageHeight: int | None = None
    imageWidth: int | None = None


def labelme_to_coco(
    folder: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    keypoints: Sequence[str] | None = None,
) -> tuple[Entry, Losses]:
    """Read a folder of LabelMe files.

    Args:
        folder (str | os.PathLike): The folder; files in subfolders are read, too.
        images (str | os.PathLike, optional): Folder to which ``file_name`` is relative.
            Defaults to the folder.
        keypoints (Sequence[str], optional): Names of the keypoints in their order. By
            default those of ``categories.json``, or those that occur.

    Returns:
        tuple[dict, Counter]: Content of a COCO file, and what was left out.

    Raises:
        FormatError: If there is no file, or one is wrong.
    """
    root = Path(folder)
    images = root if images is None else Path(images)
    files = sorted(path for path in root.rglob('*.json') if path.name != CATEGORIES)
    if not files:
        raise FormatError(f'{root}: expected a folder with JSON files of LabelMe, found none')
    builder = CocoBuilder(read_categories(root / CATEGORIES), keypoints)
    for path in files:
        content: _File = validate(_File, read_json(path, _KIND), path, _KIND)
        name = _find_name(content.imagePath, path, root, images)
        size = find_size((content.imageWidth, content.imageHeight), images, name, str(path))
        builder.add(name, *size, _to_instances(content.shapes, size, path, builder.losses))
    return builder.build(), builder.losses


def _find_name(image_path: str, path: Path, root: Path, images: Path) -> str:
    """Return the path of an image relative to the folder of the images, with '/'.

    The image is where its file says, or in the folder of the images as the file is in its own.

    Raises:
        FormatError: If that is outside of the folder.
    """
    place = Path(os.path.normpath(path.parent / PureWindowsPath(image_path).as_posix()))
    beside = path.parent.relative_to(root) / place.name
    if (images / beside).is_file():
        return beside.as_posix()
    name = Path(os.path.relpath(place, images)).as_posix()
    if name.startswith('..'):
        raise FormatError(
            f'{path}: imagePath: expected an image in {images}, found {image_path!r}. Name the '
            'folder of the images: --images FOLDER'
        )
    return name


def _to_instances(
    shapes: Sequence[_Shape], size: tuple[int, int], path: Path, losses: Losses
) -> list[Instance]:
    """Join the shapes of an image into instances by their group."""
    instances: dict[Any, Instance] = {}
    loose: list[tuple[str, Point]] = []
    for index, shape in enumerate(shapes):
        if shape.shape_type == 'point':
            continue
        key = (shape.label, index if shape.group_id is None else f'group {shape.group_id}')
        instance = instances.setdefault(key, Instance(shape.label))
        points = np.array(shape.points, float).reshape(-1, 2)
        instance.is_crowd |= bool((shape.flags or {}).get('crowd'))
        if shape.shape_type == 'rectangle' and len(points) == 2:
            if instance.bbox:
                losses['second boxes of a group left out'] += 1
                continue
            instance.bbox = [*points.min(0).tolist(), *np.ptp(points, 0).tolist()]
        elif shape.shape_type == 'polygon' and len(points) > 2:
            instance.polygons.append([to_number(value) for value in points.flatten()])
        elif shape.shape_type == 'mask' and shape.mask and len(points) == 2:
            mask = _decode_mask(shape.mask, points, size, f'{path}: shapes[{index}].mask')
            instance.mask = mask if instance.mask is None else instance.mask | mask
        else:
            losses[f'shapes of the type {shape.shape_type} left out'] += 1
    instances = {
        key: each for key, each in instances.items() if each.bbox or each.segmentation(*size[::-1])
    }
    groups = {key[1]: instance for key, instance in instances.items()}
    for shape in shapes:
        if shape.shape_type != 'point' or len(shape.points) != 1:
            continue
        visibility = 1 if (shape.flags or {}).get('occluded') else 2
        x, y = shape.points[0]
        owner = groups.get(f'group {shape.group_id}')
        if owner is None:
            loose.append((shape.label, (x, y, visibility)))
        else:
            owner.keypoints = {**(owner.keypoints or {}), shape.label: (x, y, visibility)}
    attach_keypoints(list(instances.values()), loose, losses)
    return list(instances.values())


def _decode_mask(text: str, points: Array, size: tuple[int, int], place: str) -> Array:
    """Decode the PNG of a mask between two corner pixels, bool of shape (H, W)."""
    width, height = size
    left, top = points[0].astype(int).tolist()
    try:
        png = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
        crop: Array | None = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
    except (binascii.Error, cv2.error):
        crop = None
    is_gray = crop is not None and crop.ndim == 2
    if (
        crop is None
        or not is_gray
        or min(left, top) < 0
        or left + crop.shape[1] > width
        or top + crop.shape[0] > height
    ):
        raise FormatError(
            f'{place}: expected a gray PNG of the pixels from the first point on, within '
            f'{width} x {height} pixels, found something else. Export it again.'
        )
    mask = np.zeros((height, width), bool)
    mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop > 0
    return mask
