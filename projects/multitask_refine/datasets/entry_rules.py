"""What the entries of images and categories must be, and that no field of any
entry is NaN."""
import math
import re
from typing import Dict, List, Optional, Tuple

from .problems import Finding, Problem, shorten

# OpenCV reads no larger picture.
MAX_PIXELS = 1 << 30
_KNOWN = frozenset((
    'id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd',
    'segmentation', 'keypoints', 'num_keypoints', 'width', 'height',
    'file_name'))  # yapf: disable


def is_id(value: object) -> bool:
    """Whether it is an integer; true and false are none."""
    return type(value) is int


def mend_categories(entries: list, problems: List[Problem]) -> List[dict]:
    """The categories that stay.

    Args:
        entries (list): As in the file.
        problems (list[Problem]): Gets what is found.
    """
    kept: Dict[int, dict] = {}
    for entry in entries:
        name = entry.get('name') if isinstance(entry, dict) else None
        is_whole = isinstance(name, str) and is_id(entry.get('id'))
        if is_whole and entry['id'] not in kept:
            kept[entry['id']] = without_nans(entry, problems)
            continue
        problems.append(Problem(
            'category', None, None, shorten(entry),
            'an id of its own, an integer, and a name', 'category removed'))
    return list(kept.values())


def mend_images(entries: list, problems: List[Problem]
                 ) -> Tuple[List[dict], Dict[int, int]]:
    """The images that stay, mended, and for those that share the file of an
    earlier one that one's id.

    Args:
        entries (list): As in the file.
        problems (list[Problem]): Gets what is found.
    """
    kept: Dict[int, dict] = {}
    files: Dict[str, int] = {}
    shared: Dict[int, int] = {}
    for entry in entries:
        finding = _image_fault(entry, kept, shared)
        image_id = entry.get('id') if isinstance(entry, dict) else None
        if finding:
            problems.append(_about_image(finding, image_id))
            if finding.change is None:
                continue
            entry = {**entry, **finding.change}
        first = files.setdefault(entry['file_name'], image_id)
        if first == image_id:
            kept[image_id] = without_nans(entry, problems, image_id)
            continue
        shared[image_id] = first
        problems.append(Problem(
            'shared_file', image_id, None, shorten(entry['file_name']),
            f'a file of its own, not that of image {first}',
            f'its annotations given to image {first}', stops_test=False))
    return list(kept.values()), shared


def _image_fault(entry: object, *taken: dict) -> Optional[Finding]:
    removed = 'image and its annotations removed'
    if not isinstance(entry, dict):
        return Finding('entry', shorten(entry), 'an object', 'image removed')
    if not is_id(entry.get('id')) or any(entry['id'] in ids
                                          for ids in taken):
        return Finding('image_id', shorten(entry.get('id')),
                       'an integer that no image before has',
                       'image removed')
    width, height = entry.get('width'), entry.get('height')
    if (type(width) is not int or type(height) is not int
            or min(width, height) <= 0 or width * height > MAX_PIXELS):
        return Finding('image_size', shorten((width, height)),
                       'a width and a height in pixels, positive integers',
                       removed)
    return _name_fault(entry.get('file_name'), removed)


def _name_fault(name: object, removed: str) -> Optional[Finding]:
    expected = 'a path inside the folder of the images, with /'
    path = name.replace('\\', '/') if isinstance(name, str) else ''
    is_inside = path.strip('/. ') and '\0' not in path and not re.match(
        r'/|[A-Za-z]:', path) and '..' not in path.split('/')
    if not is_inside:
        return Finding('file_name', shorten(name), expected, removed)
    if path == name:
        return None
    return Finding('file_name', shorten(name), expected, 'written with /',
                   dict(file_name=path))


def _about_image(finding: Finding, image_id: object) -> Problem:
    return Problem(finding.rule, image_id, None, finding.found,
                   finding.expected, finding.fix, finding.stops_test)


def without_nans(entry: dict,
                 problems: List[Problem],
                 image_id: object = None,
                 annotation_id: object = None) -> dict:
    """An entry with null for NaN in the fields that no rule knows.

    Args:
        entry (dict): Is not changed.
        problems (list[Problem]): Gets what is found.
        image_id: Named in the problem.
        annotation_id: Named in the problem.
    """
    bad = [
        name for name, value in entry.items()
        if name not in _KNOWN and not _is_finite(value)
    ]
    if not bad:
        return entry
    problems.append(Problem(
        'not_finite', image_id, annotation_id,
        f'NaN or infinity in "{bad[0]}"', 'finite numbers', 'set to null',
        False))
    return {**entry, **{name: _null_for_nan(entry[name]) for name in bad}}


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list) or all(map(_is_finite, value))


def _null_for_nan(value: object) -> object:
    if isinstance(value, dict):
        return {name: _null_for_nan(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_null_for_nan(each) for each in value]
    return value if _is_finite(value) else None
