"""Build a COCO annotation file from the instances of other formats.

Coordinates here are continuous image pixels.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from multitask_runtime.utils.types import Array

from .coco import (
    COCO_KEYPOINTS,
    COCO_SKELETON,
    Entry,
    Losses,
    check_name,
    get_bbox,
    keypoint_names,
    mask_bbox,
    set_keypoints,
    to_number,
)
from .segmentations import to_mask, to_rle

Point: TypeAlias = tuple[float, float, int]  # x, y and visibility


@dataclass
class Instance:
    """Labels of one instance.

    Attributes:
        label (str): Name of its category.
        bbox (list[float] | None): x, y, width, height; None to derive it from the others.
        polygons (list[list[float]]): x, y of each corner in a row.
        mask (np.ndarray | None): Pixels of its mask, bool, shape (H, W).
        keypoints (dict[str, Point] | None): By name; None if not labeled.
        is_crowd (bool): Whether it is a group of instances.
    """

    label: str
    bbox: list[float] | None = None
    polygons: list[list[float]] = field(default_factory=list)
    mask: Array | None = None
    keypoints: dict[str, Point] | None = None
    is_crowd: bool = False

    def segmentation(self, height: int, width: int) -> Any:
        """Return polygons, or an RLE if there is a mask of pixels, None without either."""
        if self.mask is None:
            return self.polygons or None
        mask = self.mask
        if self.polygons:
            mask = mask | to_mask(self.polygons, height, width)
        return to_rle(mask)

    def drop_outside(self, width: int, height: int) -> int:
        """Drop what is farther outside of the image than its size; return how many labels."""
        size = np.array([width, height])

        def is_near(numbers: Sequence[float]) -> bool:
            points = np.reshape(numbers, (-1, 2))
            return bool(((points >= -size) & (points <= 2 * size)).all())

        polygons = [each for each in self.polygons if is_near(each)]
        dropped = len(self.polygons) - len(polygons)
        self.polygons = polygons
        if self.bbox and not is_near(self.bbox):
            self.bbox = None
            dropped += 1
        keypoints = self.keypoints or {}
        far = [name for name, point in keypoints.items() if not is_near(point[:2])]
        for name in far:
            del keypoints[name]
        return dropped + len(far)


class CocoBuilder:
    """Collect images with their instances.

    Args:
        categories (Iterable[dict]): COCO categories that are known; others are added in
            the order of their instances.
        keypoints (Sequence[str]): Names of the keypoints of categories that do not name
            theirs. By default those that occur; COCO's if all of these are among them.

    Attributes:
        losses (Counter): What the COCO file cannot hold, or was left out.
    """

    def __init__(
        self, categories: Iterable[Entry] = (), keypoints: Sequence[str] | None = None
    ) -> None:
        self.losses: Losses = Counter()
        self._categories = {str(category['name']): dict(category) for category in categories}
        self._keypoints = keypoints
        self._images: list[tuple[Entry, list[tuple[Instance, Any]]]] = []

    def add(self, file_name: str, width: int, height: int, instances: Iterable[Instance]) -> None:
        """Add an image.

        Boxes, polygons and keypoints that are farther than its size outside of the image
        are left out and counted.

        Args:
            file_name (str): Path with '/', relative to the folder of the images.
            width (int): Width in pixels.
            height (int): Height in pixels.
            instances (Iterable[Instance]): Its instances.

        Raises:
            FormatError: If the name leads out of the folder of the images.
        """
        check_name(file_name, 'name of an image')
        kept = []
        for instance in instances:
            if dropped := instance.drop_outside(width, height):
                self.losses['boxes, polygons and keypoints far outside of the image left out'] += (
                    dropped
                )
            kept.append((instance, instance.segmentation(height, width)))
            instance.mask = None  # masks of a whole dataset would not fit into the memory
        image = dict(file_name=file_name, width=int(width), height=int(height))
        self._images.append((image, kept))

    def build(self) -> Entry:
        """Return the content of a COCO annotation file; ids count from 1."""
        self._complete_categories()
        by_name = {category['name']: category for category in self._categories.values()}
        images: list[Entry] = []
        annotations: list[Entry] = []
        for image, instances in self._images:
            images.append(dict(id=len(images) + 1, **image))
            for instance, segmentation in instances:
                category = by_name[instance.label]
                annotation = self._to_annotation(instance, segmentation, category, images[-1])
                if annotation:
                    annotations.append(dict(id=len(annotations) + 1, **annotation))
        return dict(images=images, annotations=annotations, categories=[*by_name.values()])

    def _complete_categories(self) -> None:
        """Add the categories and keypoints that occur, and give each category an id."""
        found: dict[str, dict[str, None]] = {}  # names of the keypoints, in order
        for _, instances in self._images:
            for instance, _ in instances:
                found.setdefault(instance.label, {}).update(
                    dict.fromkeys(instance.keypoints or ())
                )
        for label in found:
            self._categories.setdefault(label, dict(name=label))
        next_id = max([category.get('id', 0) for category in self._categories.values()], default=0)
        for label, category in self._categories.items():
            if 'id' not in category:
                next_id += 1
                self._categories[label] = category = dict(id=next_id, **category)
            names = list(found.get(label, ()))
            if 'keypoints' in category or not names:
                continue
            if self._keypoints is not None:
                category['keypoints'] = list(self._keypoints)
            elif set(names) <= set(COCO_KEYPOINTS):
                category['keypoints'] = list(COCO_KEYPOINTS)
                category['skeleton'] = [list(link) for link in COCO_SKELETON]
            else:
                category['keypoints'] = names

    def _to_annotation(
        self, instance: Instance, segmentation: Any, category: Entry, image: Entry
    ) -> Entry | None:
        """Return the COCO annotation of an instance, None if it has no box."""
        annotation: Entry = dict(
            image_id=image['id'], category_id=category['id'], iscrowd=int(instance.is_crowd)
        )
        if segmentation:
            annotation['segmentation'] = segmentation
        names = keypoint_names(category)
        if instance.keypoints is not None and names:
            unknown = instance.keypoints.keys() - set(names)
            if unknown:
                self.losses['keypoints of unknown names left out'] += len(unknown)
            rows = [instance.keypoints.get(name, (0.0, 0.0, 0)) for name in names]
            set_keypoints(annotation, np.array(rows, float))
        if instance.bbox:
            annotation['bbox'] = instance.bbox
        elif segmentation:
            annotation['bbox'] = mask_bbox(segmentation, image)
        elif annotation.get('num_keypoints', 0) > 1:
            annotation['bbox'] = get_bbox(annotation, image)
            self.losses['instances of keypoints alone: box derived from them'] += 1
        else:
            self.losses['instances without box, mask and two keypoints left out'] += 1
            return None
        annotation['bbox'] = [to_number(value) for value in annotation['bbox']]
        if segmentation:
            mask = to_mask(segmentation, image['height'], image['width'])
            annotation['area'] = int(mask.sum())
        else:
            annotation['area'] = to_number(annotation['bbox'][2] * annotation['bbox'][3])
        return annotation


def attach_keypoints(
    instances: Sequence[Instance], loose: Iterable[tuple[str, Point]], losses: Losses
) -> None:
    """Give keypoints that name no instance to the only box around them.

    Args:
        instances (Sequence[Instance]): Instances of the image; are changed.
        loose (Iterable): Name and place of each keypoint.
        losses (Counter): Counts those that lie in no box or in several.
    """

    def encloses(instance: Instance, x: float, y: float) -> bool:
        box = instance.bbox
        if not box:
            box = mask_bbox(instance.polygons, {}) if instance.polygons else [0, 0, -1, -1]
        return box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]

    for name, (x, y, visibility) in loose:
        owners = [each for each in instances if encloses(each, x, y)]
        if len(owners) != 1 or name in (owners[0].keypoints or {}):
            losses['keypoints in no box, or in several: left out'] += 1
            continue
        owners[0].keypoints = {**(owners[0].keypoints or {}), name: (x, y, visibility)}
