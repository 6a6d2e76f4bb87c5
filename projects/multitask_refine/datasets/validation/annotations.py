"""What a COCO annotation file must be, and how one that is not is mended.

Everything that reads annotations goes by these rules: the data set at its
start, and ``tools/dataset/check_coco.py``. The rules for the fields of one
instance are in :mod:`.instance_rules`, those for images in
:mod:`.entry_rules`.
"""

import json
import os
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

from .coordinates import mend_coordinates
from .entries import Measure, fresh_id, is_id, mend_categories, mend_images, without_nans
from .instances import Place, inspect
from .issues import AnnotationError, Finding, Problem, shorten
from .numbers import read_numbers


def read_annotations(path: str, problems: Optional[List[Problem]] = None) -> dict:
    """Read an annotation file and check its outline.

    The file may be in UTF-8, UTF-16 or UTF-32, with or without a byte order
    mark.

    Args:
        path (str): The file.
        problems (list[Problem], optional): Gets the ids and sizes that are
            written in another way than as integers.

    Returns:
        dict: With the lists 'images' and 'categories', and 'annotations'
        unless the file has none, as those of COCO's test images. Ids and
        sizes are integers wherever they can be read as such.

    Raises:
        AnnotationError: Names the file, the field, what was expected and
            what was found.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise AnnotationError(f'{path}: cannot be read ({error.strerror})') from None
    if text.startswith(b'\x1f\x8b'):
        raise AnnotationError(
            f'{path}: expected a COCO annotation file in JSON, found one '
            'that is packed with gzip. Unpack it (gunzip --keep) and name '
            'what comes out.'
        )
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise AnnotationError(
            f'{path}: expected a COCO annotation file in JSON, found '
            'something else, or a part of one. Copy or write it anew.'
        ) from None
    if not isinstance(content, dict):
        raise AnnotationError(
            f'{path}: expected an object with "images", "annotations" and '
            f'"categories", found a {type(content).__name__}. Write it as '
            'COCO does.'
        )
    for name in ('images', 'annotations', 'categories'):
        found = content.get(name, [] if name == 'annotations' else None)
        if not isinstance(found, list):
            kind = 'nothing' if found is None else type(found).__name__
            raise AnnotationError(
                f'{path}: {name}: expected a list, found {kind}. Write the file as COCO does.'
            )
    return read_numbers(content, [] if problems is None else problems)


def mend(
    content: dict, joints: Optional[Dict[int, int]] = None, measure: Optional[Measure] = None
) -> Tuple[dict, List[Problem]]:
    """Find what is wrong, and mend it.

    What comes back has no problem any more. Ids in order, the sequence and
    unknown fields are kept; the argument is not changed.

    Args:
        content (dict): From :func:`read_annotations`.
        joints (dict[int, int], optional): Number of joints of categories.
            For those that it lacks, the category's own list of joints
            tells it.
        measure (Measure, optional): Tells the size of images without one.

    Returns:
        tuple[dict, list[Problem]]: The content mended, and the problems, in
        the order of the file.
    """
    problems: List[Problem] = []
    categories, names = mend_categories(content['categories'], problems)
    images, links = mend_images(content['images'], problems, measure)
    lists = dict(images=images, categories=categories)
    if 'annotations' in content:
        counts = {**_named_joints(categories), **(joints or {})}
        linked = _Links(links, names, problems).resolve(content['annotations'])
        sizes = {image['id']: (image['width'], image['height']) for image in images}
        linked = mend_coordinates(linked, sizes, problems)
        lists['annotations'] = _inspect_all(linked, sizes, counts, problems)
    others = without_nans(
        {name: value for name, value in content.items() if name not in lists}, problems
    )
    return dict(content, **lists, **others), problems


def write_json(path: Path, content: object) -> None:
    """Write a JSON file that is there complete or not at all.

    Args:
        path (Path): The file.
        content: What JSON can hold, without NaN.
    """
    draft = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        draft.write_text(json.dumps(content, allow_nan=False))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def remove_images(content: dict, image_ids: set) -> dict:
    """The content without some images and their annotations.

    Args:
        content (dict): Mended.
        image_ids (set): Ids of the images.
    """
    left = dict(
        content, images=[image for image in content['images'] if image['id'] not in image_ids]
    )
    if 'annotations' in content:
        left['annotations'] = [
            ann for ann in content['annotations'] if ann['image_id'] not in image_ids
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
    return dict(
        content,
        annotations=[
            ann
            for ann in content['annotations']
            if not (
                isinstance(ann, dict)
                and is_id(ann.get('category_id'))
                and ann['category_id'] in others
            )
        ],
    )


def count_keypoints(content: dict, counts: Union[int, Mapping[str, int]]) -> Dict[int, int]:
    """Return the number of keypoints of each category, for :func:`mend`.

    Args:
        content (dict): From :func:`read_annotations`.
        counts (int | Mapping[str, int]): The number of all categories, or of
            each by its name.
    """
    categories = {
        category['id']: category.get('name') for category in _with_ids(content['categories'])
    }
    if isinstance(counts, int):
        return dict.fromkeys(categories, counts)
    return {
        number: counts[name]
        for number, name in categories.items()
        if isinstance(name, str) and name in counts
    }


def _with_ids(categories: list) -> List[dict]:
    return [
        category
        for category in categories
        if isinstance(category, dict) and is_id(category.get('id'))
    ]


def _named_joints(categories: List[dict]) -> Dict[int, int]:
    return {
        category['id']: len(category['keypoints'])
        for category in categories
        if isinstance(category.get('keypoints'), list)
    }


def _inspect_all(
    entries: List[dict],
    sizes: Dict[int, Tuple[int, int]],
    joints: Dict[int, int],
    problems: List[Problem],
) -> List[dict]:
    """Apply the rules for single instances; return those that are left."""
    kept = []
    for entry in entries:
        place = Place(*sizes[entry['image_id']], joints.get(entry['category_id']))
        ann, findings = inspect(entry, place)
        for finding in findings:
            _note(entry, finding, problems)
        if ann is not None:
            kept.append(without_nans(ann, problems, ann['image_id'], ann['id']))
    return kept


class _Links:
    """Ties annotations to the images and categories that are left."""

    def __init__(
        self, images: Dict[object, int], categories: Dict[object, int], problems: List[Problem]
    ) -> None:
        self.images = images
        self.categories = categories
        self.problems = problems

    def resolve(self, entries: list) -> List[dict]:
        """Those whose ids point somewhere, each with an id of its own."""
        seen: Dict[int, dict] = {}
        kept = []
        fresh = fresh_id(entries)
        for entry in entries:
            finding = self._link_fault(entry) or _own_id_fault(entry, seen, fresh)
            if finding:
                _note(entry, finding, self.problems)
                if finding.change is None:
                    continue
            if is_id(entry.get('id')):
                seen.setdefault(entry['id'], entry)
            if finding:
                entry = {**entry, **finding.change}
                fresh += 1
            kept.append(
                {
                    **entry,
                    'image_id': self.images[entry['image_id']],
                    'category_id': self.categories[entry['category_id']],
                }
            )
        return kept

    def _link_fault(self, entry: object) -> Optional[Finding]:
        if not isinstance(entry, dict):
            return Finding('entry', shorten(entry), 'an object')
        image_id, category_id = (entry.get('image_id'), entry.get('category_id'))
        if not _points_into(image_id, self.images):
            return Finding('dangling_image', shorten(image_id), 'the id of an image that is left')
        if not _points_into(category_id, self.categories):
            return Finding(
                'dangling_category', f'category_id {shorten(category_id)}', 'the id of a category'
            )
        return None


def _points_into(found: object, links: Dict[object, int]) -> bool:
    # 1.0 and true would be found as 1.
    return type(found) in (int, str) and found in links


def _note(entry: object, finding: Finding, problems: List[Problem]) -> None:
    ids = entry if isinstance(entry, dict) else {}
    problems.append(
        Problem(
            finding.rule,
            ids.get('image_id'),
            ids.get('id'),
            finding.found,
            finding.expected,
            finding.fix,
            finding.stops_test,
        )
    )


def _own_id_fault(entry: dict, seen: Dict[int, dict], fresh: int) -> Optional[Finding]:
    found = entry.get('id')
    if not is_id(found):
        return Finding(
            'annotation_id', shorten(found), 'an integer', f'given the id {fresh}', dict(id=fresh)
        )
    if found == 0 and found not in seen:
        return Finding(
            'annotation_id_0',
            '0',
            "another id than 0, which COCO's evaluation takes for no annotation",
            f'given the id {fresh}',
            dict(id=fresh),
            stops_test=False,
        )
    if found not in seen:
        return None
    expected = 'an id of its own'
    if entry == seen[found]:
        return Finding('annotation_id', 'the same annotation again', expected)
    return Finding(
        'annotation_id',
        'the id of another annotation',
        expected,
        f'given the id {fresh}',
        dict(id=fresh),
    )
