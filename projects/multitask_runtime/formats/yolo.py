"""YOLO: a text file for each image, as Ultralytics defines it for detect, segment and pose.

A line for each instance: the index of its class, and coordinates divided by the width and
height of the image. They are those of COCO's files, keypoints by pixel index, as in
Ultralytics' own conversion of COCO.
"""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from multitask_runtime.io.image_file import read_size
from multitask_runtime.io.inputs import IMAGE_SUFFIXES
from multitask_runtime.utils.errors import FormatError
from multitask_runtime.utils.types import Array

from .builder import CocoBuilder, Instance, Point
from .coco import (
    COCO_KEYPOINTS,
    PIXEL_INDEX,
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
from .files import copy_image, label_path, new_folder, validate
from .segmentations import Segmentation, mask_to_polygons, to_mask

Task: TypeAlias = Literal['detect', 'segment', 'pose']
TASKS: tuple[Task, ...] = ('detect', 'segment', 'pose')
_DECIMALS = 9  # less than 1e-4 pixels in any image
_FARTHEST = 2.0  # of a coordinate; larger ones are pixels


def to_yolo(
    image: Entry,
    annotations: Sequence[Entry],
    categories: Mapping[int, Entry],
    task: Task,
    losses: Losses | None = None,
    save_conf: bool = False,
) -> str:
    """Convert the COCO annotations of one image.

    Args:
        image (dict): COCO image with ``height`` and ``width``.
        annotations (Sequence[dict]): Its COCO annotations.
        categories (Mapping[int, dict]): COCO categories by id; the classes are counted in
            this order.
        task (str): 'detect': class, center and size of the box; 'segment': class and
            polygon; 'pose': as 'detect', then x, y and visibility of each keypoint.
        losses (Counter, optional): Counts what the format cannot hold.
        save_conf (bool): Whether each line ends with the ``score`` of its annotation.

    Returns:
        str: Content of the text file, empty without instances.

    Raises:
        FormatError: If the task is unknown or, for 'pose', the categories have no
            keypoints, or different ones.
    """
    if task not in TASKS:
        raise FormatError(f'task: expected one of {", ".join(TASKS)}, found {task!r}')
    if task == 'pose':
        common_keypoints(categories)
    losses = Counter() if losses is None else losses
    classes = {category_id: index for index, category_id in enumerate(categories)}
    lines = []
    for annotation in annotations:
        category_id = annotation['category_id']
        numbers = _to_numbers(annotation, image, categories[category_id], task, losses)
        if numbers:
            numbers += [annotation['score']] if save_conf else []
            texts = [f'{number:.{_DECIMALS}f}'.rstrip('0').rstrip('.') for number in numbers]
            lines.append(' '.join([str(classes[category_id]), *texts]) + '\n')
    return ''.join(lines)


def common_keypoints(categories: Mapping[int, Entry]) -> list[str]:
    """Return the names of the keypoints, which all categories must share.

    Raises:
        FormatError: If there are none, or different ones.
    """
    lists = {tuple(keypoint_names(category)) for category in categories.values()}
    if len(lists) != 1 or lists == {()}:
        found = 'none' if lists <= {()} else f'{len(lists)} different lists'
        raise FormatError(
            f"pose: expected the same keypoints in all categories, as YOLO's pose labels have, "
            f'found {found}. Convert one category at a time, or another task (segment, detect).'
        )
    return list(lists.pop())


def _to_numbers(
    annotation: Entry, image: Entry, category: Entry, task: Task, losses: Losses
) -> list[float]:
    """Return the numbers of an instance's line, empty if it is left out."""
    segmentation = annotation.get('segmentation')
    if annotation.get('iscrowd'):
        losses['crowds left out'] += 1
        return []
    if task != 'pose' and annotation.get('num_keypoints', annotation.get('keypoints')):
        losses[f'keypoints of instances left out of labels for {task}'] += 1
    size = np.array([image['width'], image['height']], float)
    if task == 'segment':
        if not segmentation:
            losses['instances without a mask left out'] += 1
            return []
        box = mask_bbox(segmentation, image)
        if annotation.get('bbox', box) != box:
            losses['boxes that differ from the box of their mask left out'] += 1
        polygon = _to_polygon(segmentation, image, losses)
        return [float(number) for number in (polygon / size).clip(0, 1).flatten()]
    if segmentation:
        losses[f'masks left out of labels for {task}'] += 1
    x, y, width, height = get_bbox(annotation, image)
    corners = (np.array([[x, y], [x + width, y + height]]) / size).clip(0, 1)
    numbers = [*corners.mean(0), *np.ptp(corners, 0)]
    return numbers + (
        _keypoint_numbers(annotation, category, size, losses) if task == 'pose' else []
    )


def _keypoint_numbers(
    annotation: Entry, category: Entry, size: Array, losses: Losses
) -> list[float]:
    """Return x, y from 0 to 1 and visibility of the keypoints of an instance."""
    keypoints = get_keypoints(annotation, category)
    if keypoints is None:
        losses['instances without keypoints: keypoints written as not labeled'] += 1
        keypoints = np.zeros((len(keypoint_names(category)), 3))
    labeled = keypoints[:, 2] > 0
    relative = (keypoints[:, :2] - PIXEL_INDEX) / size
    inside = relative.clip(0, 1)
    if num_moved := int((labeled & (inside != relative).any(1)).sum()):
        losses['keypoints outside of the image moved to its border'] += num_moved
    inside[~labeled] = 0
    return [float(number) for number in np.column_stack([inside, keypoints[:, 2]]).flatten()]


def _to_polygon(segmentation: Segmentation, image: Entry, losses: Losses) -> Array:
    """Return a segmentation with at least one pixel as one polygon, shape (P, 2)."""
    polygons = segmentation
    if isinstance(segmentation, Mapping):
        mask = to_mask(segmentation, image['height'], image['width'])
        polygons, num_holes = mask_to_polygons(mask)
        losses['masks of pixels (RLE) written as polygons'] += 1
        if num_holes:
            losses['holes of masks filled'] += num_holes
    rings = [np.array(polygon, float).reshape(-1, 2) for polygon in polygons]
    if len(rings) > 1:
        losses['masks of several polygons joined into one polygon'] += 1
    return join_polygons(rings)


def join_polygons(rings: Sequence[Array]) -> Array:
    """Join polygons into one by lines of no width between their nearest corners.

    Args:
        rings (Sequence[np.ndarray]): Corners of each polygon, shape (P, 2).

    Returns:
        np.ndarray: Corners of one polygon that covers the same area.
    """
    joined = rings[0]
    for ring in rings[1:]:
        distances = ((joined[:, None] - ring[None]) ** 2).sum(-1)
        here, there = np.unravel_index(distances.argmin(), distances.shape)
        turned = np.roll(ring, -there, 0)
        # Go over to the other polygon, around it, and back to the same corner.
        detour = [joined[: here + 1], turned, turned[:1], joined[here:]]
        joined = np.concatenate(detour)
    return joined


def coco_to_yolo(
    content: Entry,
    out: str | os.PathLike[str],
    task: Task,
    split: str = 'train',
    images: str | os.PathLike[str] | None = None,
) -> Losses:
    """Write COCO annotations as a split of a YOLO dataset.

    Args:
        content (dict): Content of a valid COCO file.
        out (str | os.PathLike): Folder for ``data.yaml``, ``labels/SPLIT`` and
            ``images/SPLIT``. It may have other splits of the same classes and task.
        task (str): 'detect', 'segment' or 'pose', see :func:`to_yolo`.
        split (str): 'train', 'val' or 'test'. Defaults to 'train'.
        images (str | os.PathLike, optional): Folder of the images, which are copied; by
            default ``images/SPLIT`` stays empty.

    Returns:
        Counter: What YOLO's files cannot hold.

    Raises:
        FormatError: If the folder has this split, or one that differs, an image is missing,
            or the annotations do not fit.
    """
    losses: Losses = Counter()
    categories = categories_by_id(content, losses)
    settings = _describe(categories, task, losses)
    path, yaml = Path(out) / 'data.yaml', _import_yaml()
    known = _read_yaml(path) if path.exists() else settings
    if {name: known.get(name) for name in settings} != settings or split in known:
        reason = f'has a split {split!r}' if split in known else 'has other classes or keypoints'
        raise FormatError(f'{path}: {reason}; name a new folder, or another split: --split')
    texts = {}
    taken: dict[Path, str] = {}
    for image, annotations in group_annotations(content, losses):
        name = str(image['file_name'])
        text = to_yolo(image, annotations, categories, task, losses)
        texts[name] = label_path(Path(), name, '.txt', taken), text
    labels, copies = (Path(out) / kind / split for kind in ('labels', 'images'))
    with new_folder(labels) as label_folder, new_folder(copies) as image_folder:
        for name, (label, text) in texts.items():
            (label_folder / label).parent.mkdir(parents=True, exist_ok=True)
            (label_folder / label).write_text(text)
            if images is not None:
                copy_image(Path(images), name, image_folder)
    is_new = not path.exists()
    with path.open('a', encoding='utf-8') as file:
        if is_new:
            yaml.safe_dump(settings, file, sort_keys=False, allow_unicode=True)
        file.write(f'{split}: images/{split}\n')
    return losses


def _describe(categories: Mapping[int, Entry], task: Task, losses: Losses) -> dict[str, Any]:
    """Return the content of data.yaml but for its splits."""
    settings: dict[str, Any] = dict(
        names={index: category['name'] for index, category in enumerate(categories.values())}
    )
    if task != 'pose':
        if any(keypoint_names(category) for category in categories.values()):
            losses['names of keypoints left out'] += 1
        return settings
    names = common_keypoints(categories)
    swapped = [_swap_sides(name) for name in names]
    settings['kpt_shape'] = [len(names), 3]
    settings['flip_idx'] = [
        names.index(other) if other in names else index for index, other in enumerate(swapped)
    ]
    settings['kpt_names'] = {index: list(names) for index in settings['names']}
    # Ultralytics takes no notice of further keys.
    skeletons = {
        index: [[int(end) for end in link] for link in category['skeleton']]
        for index, category in enumerate(categories.values())
        if category.get('skeleton')
    }
    return settings | (dict(skeletons=skeletons) if skeletons else {})


def _swap_sides(name: str) -> str:
    return name.replace('left', '?').replace('right', 'left').replace('?', 'right')


class _Settings(BaseModel):
    """Content of data.yaml."""

    model_config = ConfigDict(extra='allow')
    path: str | None = None
    names: dict[int, str] | list[str] = Field(min_length=1)
    kpt_shape: tuple[Annotated[int, Field(ge=0, le=10000)], Literal[2, 3]] | None = None
    kpt_names: dict[int, list[str]] | None = None
    skeletons: dict[int, list[tuple[int, int]]] | None = None


def yolo_to_coco(
    data: str | os.PathLike[str], split: str = 'train', keypoints: Sequence[str] | None = None
) -> tuple[Entry, Losses]:
    """Read a split of a YOLO dataset for detection, segmentation or pose.

    Args:
        data (str | os.PathLike): ``data.yaml``, or the folder that has it.
        split (str): 'train', 'val' or 'test'. Defaults to 'train'.
        keypoints (Sequence[str], optional): Names of the keypoints, where ``data.yaml``
            has no ``kpt_names``. Defaults to COCO's for 17 keypoints.

    Returns:
        tuple[dict, Counter]: Content of a COCO file, whose ``file_name`` is relative to the
        folder of the split's images, and what it cannot hold or was left out.

    Raises:
        FormatError: If a file is missing or wrong; the message names line and number.
    """
    path = Path(data) / 'data.yaml' if Path(data).is_dir() else Path(data)
    settings, folder = _read_settings(path, split)
    names = dict(enumerate(settings.names)) if isinstance(settings.names, list) else settings.names
    names = dict(sorted(names.items()))
    num_keypoints, width = settings.kpt_shape or (0, 0)
    categories = []
    for index, name in names.items():
        category: Entry = dict(id=index + 1, name=name)
        if num_keypoints:
            own = (settings.kpt_names or {}).get(index) or keypoints
            category['keypoints'] = _name_keypoints(own, num_keypoints, path)
            if links := (settings.skeletons or {}).get(index):
                category['skeleton'] = [list(link) for link in links]
        categories.append(category)
    builder = CocoBuilder(categories)
    if num_keypoints and width == 2:
        builder.losses['labels without visibility: keypoints at 0, 0 taken as not labeled'] += 1
    files = sorted(each for each in folder.rglob('*') if each.suffix.lower() in IMAGE_SUFFIXES)
    if not any(map(_find_labels, files)):
        raise FormatError(
            f'{folder}: expected images with files of labels, in a folder "labels" where their '
            f'path has "images", found {len(files)} images and no labels. Name the folder of the '
            f'images in {path}.'
        )
    for file in files:
        size = read_size(str(file))
        labels = _find_labels(file)
        if labels is None:
            builder.losses['images without a file of labels taken as empty'] += 1
        instances = []
        text = labels.read_text('utf-8-sig', 'replace') if labels else ''
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                place = f'{labels}, line {number}'
                numbers = _parse(line, place)
                if numbers[0] not in names:
                    raise FormatError(
                        f'{place}: expected a class from {min(names)} to {max(names)}, as in '
                        f'{path.name}, found {numbers[0]:g}. Correct the line or the names.'
                    )
                category = categories[list(names).index(int(numbers[0]))]
                instances.append(
                    _to_instance(numbers[1:], category, size, (num_keypoints, width), place)
                )
        builder.add(file.relative_to(folder).as_posix(), *size, instances)
    return builder.build(), builder.losses


def _read_settings(path: Path, split: str) -> tuple[_Settings, Path]:
    """Read data.yaml; return it and the folder of a split's images."""
    content = _read_yaml(path)
    settings = validate(_Settings, content, path, 'the data.yaml of a YOLO dataset')
    value = (settings.model_extra or {}).get(split)
    if not isinstance(value, str):
        found = [name for name in ('train', 'val', 'test') if name in (settings.model_extra or {})]
        raise FormatError(
            f'{path}: {split}: expected the folder of the images of this split, found '
            f'{"nothing" if value is None else repr(value)[:60]} (splits: '
            f'{", ".join(found) or "none"}). Name a folder there, or another split: --split'
        )
    root = path.parent / (settings.path or '')
    # Exports of annotation services write ../train/images beside a folder train.
    for folder in (root / value, path.parent / value, path.parent / value.removeprefix('../')):
        if folder.is_dir():
            return settings, folder
    raise FormatError(
        f'{path}: {split}: expected a folder of images, found none at {root / value}. Correct '
        'path or the split in data.yaml; lists of images (.txt) are not read.'
    )


def _import_yaml() -> Any:
    """Import PyYAML, which inference without PyTorch does not need.

    Raises:
        FormatError: If it is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise FormatError(
            f'PyYAML is needed for data.yaml and cannot be imported ({error}). Install it: '
            'pip install pyyaml'
        ) from None
    return yaml


def _read_yaml(path: Path) -> Any:
    yaml = _import_yaml()
    try:
        return yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise FormatError(
            f'{path}: expected the data.yaml of a YOLO dataset ({error.strerror})'
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise FormatError(
            f'{path}: expected YAML, found something else. Write it again.'
        ) from None


def _name_keypoints(names: Sequence[str] | None, count: int, path: Path) -> list[str]:
    """Return the names of the keypoints: those given, COCO's for 17, or numbers."""
    if names is None:
        is_coco = count == len(COCO_KEYPOINTS)
        return list(COCO_KEYPOINTS) if is_coco else [f'keypoint_{i + 1}' for i in range(count)]
    if len(names) != count:
        raise FormatError(
            f'{path}: kpt_shape: expected the {len(names)} keypoints that are named, found '
            f'{count}. Name as many: kpt_names in data.yaml, or --meta FILE.py'
        )
    return list(names)


def _find_labels(image: Path) -> Path | None:
    """Return the file of labels of an image, in ``labels`` beside ``images``."""
    parts = list(image.parts)
    if 'images' in parts:
        last = len(parts) - 1 - parts[::-1].index('images')
        parts[last] = 'labels'
    path = Path(*parts).with_suffix('.txt')
    return path if path.is_file() else None


def _parse(line: str, place: str) -> list[float]:
    try:
        numbers = [float(text) for text in line.split()]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise FormatError(f'{place}: expected finite numbers, found {line[:60]!r}. Correct it.')
    return numbers


def _to_instance(
    numbers: list[float],
    category: Entry,
    size: tuple[int, int],
    kpt_shape: tuple[int, int],
    place: str,
) -> Instance:
    """Convert the numbers of a line behind its class, in fractions of the size (w, h)."""
    count = kpt_shape[0] * kpt_shape[1]
    expected = f'4 numbers of a box{f" and {count} of keypoints" if count else ""}'
    if not count:
        expected += ', or x and y of 3 corners or more'
    is_box = len(numbers) == 4 + count
    is_polygon = not count and len(numbers) >= 6 and len(numbers) % 2 == 0
    if not is_box and not is_polygon:
        raise FormatError(
            f'{place}: expected {expected} behind the class, found {len(numbers)} numbers. '
            'Correct the line, or kpt_shape in data.yaml.'
        )
    rows = np.reshape(numbers[4:], kpt_shape) if count else np.empty((0, 2))
    coordinates = [*numbers[: None if is_polygon else 4], *rows[:, :2].flatten()]
    if max(map(abs, coordinates)) > _FARTHEST:
        raise FormatError(
            f'{place}: expected fractions of the width and height of the image, found '
            f'{max(coordinates, key=abs):g}. Divide pixels by the size of the image.'
        )
    instance = Instance(category['name'])
    if is_polygon:
        points = np.reshape(numbers, (-1, 2)) * size
        instance.polygons = [[to_number(value) for value in points.flatten()]]
        return instance
    x, y, width, height = np.multiply(numbers[:4], [*size, *size])
    instance.bbox = [x - width / 2, y - height / 2, width, height]
    if count:
        visibility = rows[:, 2] if kpt_shape[1] == 3 else np.where(rows.any(1), 2.0, 0.0)
        points = rows[:, :2] * size + PIXEL_INDEX
        instance.keypoints = {
            name: _to_point(point, shown)
            for name, point, shown in zip(category['keypoints'], points, visibility, strict=True)
        }
    return instance


def _to_point(point: Array, visibility: float) -> Point:
    return float(point[0]), float(point[1]), int(min(max(round(visibility), 0), 2))
