"""What a COCO annotation file must be, and how one that is not is mended.

Everything that reads annotations goes by these rules: the data set at its
start, and ``tools/dataset/check_coco.py``. The rules for the fields of one
instance are in :mod:`.instance_rules`, those for images in
:mod:`.entry_rules`.
"""
import json
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from .entry_rules import is_id, mend_categories, mend_images, without_nans
from .instance_rules import Place, inspect
from .problems import AnnotationError, Finding, Problem, shorten


def read_annotations(path: str) -> dict:
    """Read an annotation file and look at its outline.

    Args:
        path (str): The file.

    Returns:
        dict: With the lists 'images' and 'categories', and 'annotations'
        unless the file has none, as those of COCO's test images.

    Raises:
        AnnotationError: Names the file, the field, what was expected and
            what was found.
    """
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
    except OSError as error:
        raise AnnotationError(
            f'{path}: cannot be read ({error.strerror})') from None
    except (ValueError, RecursionError):
        raise AnnotationError(
            f'{path}: expected a COCO annotation file in JSON, found '
            'something else, or a part of one. Copy or write it anew.'
        ) from None
    if not isinstance(content, dict):
        raise AnnotationError(
            f'{path}: expected an object with "images", "annotations" and '
            f'"categories", found a {type(content).__name__}. Write it as '
            'COCO does.')
    for name in ('images', 'annotations', 'categories'):
        found = content.get(name, [] if name == 'annotations' else None)
        if not isinstance(found, list):
            kind = 'nothing' if found is None else type(found).__name__
            raise AnnotationError(
                f'{path}: {name}: expected a list, found {kind}. Write the '
                'file as COCO does.')
    return content


def mend(content: dict,
         joints: Optional[Dict[int, int]] = None
         ) -> Tuple[dict, List[Problem]]:
    """Find what is wrong, and mend it.

    What comes back has no problem any more. Ids, order and unknown fields
    are kept; the argument is not changed.

    Args:
        content (dict): From :func:`read_annotations`.
        joints (dict[int, int], optional): Number of joints of categories.
            For those that it lacks, the category's own list of joints
            tells it.

    Returns:
        tuple[dict, list[Problem]]: The content mended, and the problems, in
        the order of the file.
    """
    problems: List[Problem] = []
    categories = mend_categories(content['categories'], problems)
    images, shared = mend_images(content['images'], problems)
    lists = dict(images=images, categories=categories)
    if 'annotations' in content:
        counts = {**_named_joints(categories), **(joints or {})}
        lists['annotations'] = _Annotations(
            images, shared, categories, counts, problems).mend(
                content['annotations'])
    others = without_nans(
        {name: value for name, value in content.items() if name not in lists},
        problems)
    return dict(content, **lists, **others), problems


def remove_images(content: dict, image_ids: set) -> dict:
    """The content without some images and their annotations.

    Args:
        content (dict): Mended.
        image_ids (set): Ids of the images.
    """
    left = dict(content, images=[
        image for image in content['images'] if image['id'] not in image_ids
    ])
    if 'annotations' in content:
        left['annotations'] = [
            ann for ann in content['annotations']
            if ann['image_id'] not in image_ids
        ]
    return left


def keep_classes(content: dict, names: Sequence[str]) -> dict:
    """The content without the annotations of other categories.

    Args:
        content (dict): From :func:`read_annotations`.
        names (Sequence[str]): Names of categories.
    """
    others = {
        category['id']
        for category in _with_ids(content['categories'])
        if category.get('name') not in names
    }
    if 'annotations' not in content:
        return content
    return dict(content, annotations=[
        ann for ann in content['annotations']
        if not (isinstance(ann, dict) and is_id(ann.get('category_id'))
                and ann['category_id'] in others)
    ])


def same_joints(content: dict, number: int) -> Dict[int, int]:
    """For :func:`mend`: all categories have the same number of joints."""
    return {
        category['id']: number
        for category in _with_ids(content['categories'])
    }


def _with_ids(categories: list) -> List[dict]:
    return [
        category for category in categories
        if isinstance(category, dict) and is_id(category.get('id'))
    ]


def _named_joints(categories: List[dict]) -> Dict[int, int]:
    return {
        category['id']: len(category['keypoints'])
        for category in categories
        if isinstance(category.get('keypoints'), list)
    }


class _Annotations:
    """Mends annotations beside the images and categories that are left."""

    def __init__(self, images: List[dict], shared: Dict[int, int],
                 categories: List[dict], joints: Dict[int, int],
                 problems: List[Problem]) -> None:
        self.sizes = {
            image['id']: (image['width'], image['height'])
            for image in images
        }
        self.shared = shared
        self.categories = {category['id'] for category in categories}
        self.joints = joints
        self.problems = problems

    def mend(self, entries: list) -> List[dict]:
        """Those that are left."""
        kept: Dict[int, dict] = {}
        for entry in self._with_ids(entries):
            image_id = self.shared.get(entry['image_id'], entry['image_id'])
            if image_id != entry['image_id']:
                entry = {**entry, 'image_id': image_id}
            place = Place(*self.sizes[image_id],
                          self.joints.get(entry['category_id']))
            ann, findings = inspect(entry, place)
            for finding in findings:
                self._note(entry, finding)
            if ann is not None:
                kept[ann['id']] = without_nans(ann, self.problems, image_id,
                                               ann['id'])
        return list(kept.values())

    def _with_ids(self, entries: list) -> Iterator[dict]:
        """Those whose ids point somewhere, each with an id of its own."""
        seen: Dict[int, dict] = {}
        fresh = 1 + max((entry['id'] for entry in entries
                         if isinstance(entry, dict)
                         and is_id(entry.get('id'))), default=0)
        for entry in entries:
            finding = self._link_fault(entry) or _own_id_fault(
                entry, seen, fresh)
            if finding:
                self._note(entry, finding)
                if finding.change is None:
                    continue
                entry = {**entry, **finding.change}
                fresh += 1
            seen[entry['id']] = entry
            yield entry

    def _link_fault(self, entry: object) -> Optional[Finding]:
        if not isinstance(entry, dict):
            return Finding('entry', shorten(entry), 'an object')
        image_id, category_id = (entry.get('image_id'),
                                 entry.get('category_id'))
        if not is_id(image_id) or (image_id not in self.sizes
                                    and image_id not in self.shared):
            return Finding('dangling_image', shorten(image_id),
                           'the id of an image that is left')
        if not is_id(category_id) or category_id not in self.categories:
            return Finding('dangling_category',
                           f'category_id {shorten(category_id)}',
                           'the id of a category')
        return None

    def _note(self, entry: object, finding: Finding) -> None:
        ids = entry if isinstance(entry, dict) else {}
        self.problems.append(Problem(
            finding.rule, ids.get('image_id'), ids.get('id'), finding.found,
            finding.expected, finding.fix, finding.stops_test))


def _own_id_fault(entry: dict, seen: Dict[int, dict],
                  fresh: int) -> Optional[Finding]:
    found = entry.get('id')
    if not is_id(found):
        return Finding('annotation_id', shorten(found), 'an integer',
                       f'given the id {fresh}', dict(id=fresh))
    if found not in seen:
        return None
    expected = 'an id of its own'
    if entry == seen[found]:
        return Finding('annotation_id', 'the same annotation again', expected)
    return Finding('annotation_id', 'the id of another annotation', expected,
                   f'given the id {fresh}', dict(id=fresh))
