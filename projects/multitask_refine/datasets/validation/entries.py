"""What the entries of images and categories must be, and that no field of any
entry is NaN."""

import math
import re
from typing import Callable, Dict, List, Optional, Tuple

from .issues import Finding, Problem, shorten

# OpenCV reads no larger picture.
MAX_PIXELS = 1 << 30
_KNOWN = frozenset((
    'id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd',
    'segmentation', 'keypoints', 'num_keypoints', 'width', 'height',
    'file_name'))  # yapf: disable
_REMOVED = 'image and its annotations removed'
# Width and height of a picture by its file name, None if it cannot be read.
Measure = Callable[[str], Optional[Tuple[int, int]]]


def is_id(value: object) -> bool:
    """Whether it is an integer of 64 bits; true and false are none."""
    return type(value) is int and -(2**63) <= value < 2**63


def fresh_id(entries: list) -> int:
    """Return an id that no entry has, nor any after it.

    Args:
        entries (list): As in the file. Ids beyond 2**62 do not count, so
            that there is room after the others.
    """
    return 1 + max(
        (
            entry['id']
            for entry in entries
            if isinstance(entry, dict) and is_id(entry.get('id')) and 0 <= entry['id'] < 2**62
        ),
        default=0,
    )


def mend_categories(
    entries: list, problems: List[Problem]
) -> Tuple[List[dict], Dict[object, int]]:
    """Return the categories that stay, and for each id that an annotation may
    name the id of the category that it stands for.

    Args:
        entries (list): As in the file.
        problems (list[Problem]): Gets what is found.
    """
    kept: List[dict] = []
    links: Dict[object, int] = {}
    named: Dict[str, int] = {}
    fresh = fresh_id(entries)
    for entry in entries:
        name = entry.get('name') if isinstance(entry, dict) else None
        found = entry.get('id') if isinstance(entry, dict) else None
        if not isinstance(name, str) or not _is_key(found) or found in links:
            problems.append(
                Problem(
                    'category',
                    None,
                    None,
                    shorten(entry),
                    'an id of its own, an integer, and a name',
                    'category removed',
                )
            )
            continue
        if name in named:
            links[found] = named[name]
            problems.append(
                Problem(
                    'category_name',
                    None,
                    None,
                    f'the name {shorten(name)} again, with id {shorten(found)}',
                    f'a name of its own, not that of category {named[name]}',
                    f'its annotations given to category {named[name]}',
                )
            )
            continue
        if not is_id(found):
            entry = {**entry, 'id': fresh}
            problems.append(
                Problem(
                    'category',
                    None,
                    None,
                    f'id {shorten(found)}',
                    'an id of its own, an integer, and a name',
                    f'given the id {fresh}, and its annotations',
                )
            )
            fresh += 1
        links[found] = named[name] = entry['id']
        kept.append(without_nans(entry, problems))
    return kept, links


def mend_images(
    entries: list, problems: List[Problem], measure: Optional[Measure] = None
) -> Tuple[List[dict], Dict[object, int]]:
    """Return the images that stay, mended, and for each id that an annotation
    may name the id of the image that it stands for.

    Args:
        entries (list): As in the file.
        problems (list[Problem]): Gets what is found.
        measure (Measure, optional): Tells the size of images without one.
    """
    kept: List[dict] = []
    links: Dict[object, int] = {}
    files: Dict[str, int] = {}
    fresh = fresh_id(entries)
    for entry in entries:
        found = entry.get('id') if isinstance(entry, dict) else None
        image_id = found if is_id(found) else fresh
        for rule in (_entry_fault, _name_fault, _size_fault):
            finding = rule(entry, links, image_id, measure)
            if finding:
                problems.append(
                    Problem(
                        finding.rule,
                        found,
                        None,
                        finding.found,
                        finding.expected,
                        finding.fix,
                        finding.stops_test,
                    )
                )
                if finding.change is None:
                    break
                entry = {**entry, **finding.change}
        else:
            fresh += image_id == fresh
            first = files.setdefault(entry['file_name'], image_id)
            links[found] = first
            if first == image_id:
                kept.append(without_nans(entry, problems, image_id))
                continue
            problems.append(
                Problem(
                    'shared_file',
                    found,
                    None,
                    shorten(entry['file_name']),
                    f'a file of its own, not that of image {first}',
                    f'its annotations given to image {first}',
                    stops_test=False,
                )
            )
    return kept, links


def _is_key(found: object) -> bool:
    """Whether annotations can name an entry by it: an integer or a text."""
    return isinstance(found, (int, str)) and not isinstance(found, bool)


def _entry_fault(
    entry: object, links: dict, image_id: int, measure: Optional[Measure]
) -> Optional[Finding]:
    if not isinstance(entry, dict):
        return Finding('entry', shorten(entry), 'an object', 'image removed')
    found = entry.get('id')
    expected = 'an integer that no image before has'
    if not _is_key(found) or found in links:
        return Finding('image_id', shorten(found), expected, 'image removed')
    if is_id(found):
        return None
    return Finding(
        'image_id',
        shorten(found),
        expected,
        f'given the id {image_id}, and its annotations',
        dict(id=image_id),
    )


def _name_fault(
    entry: dict, links: dict, image_id: int, measure: Optional[Measure]
) -> Optional[Finding]:
    name = entry.get('file_name')
    expected = 'a path inside the folder of the images, with /'
    path = name.replace('\\', '/') if isinstance(name, str) else ''
    is_inside = (
        path.strip('/. ')
        and '\0' not in path
        and not re.match(r'/|[A-Za-z]:', path)
        and '..' not in path.split('/')
    )
    # JSON can hold halves of characters, of which no file name is made.
    is_inside = is_inside and path == path.encode(errors='ignore').decode()
    if not is_inside:
        return Finding('file_name', shorten(name), expected, _REMOVED)
    if path == name:
        return None
    return Finding('file_name', shorten(name), expected, 'written with /', dict(file_name=path))


def _size_fault(
    entry: dict, links: dict, image_id: int, measure: Optional[Measure]
) -> Optional[Finding]:
    width, height = entry.get('width'), entry.get('height')
    if (
        type(width) is int
        and type(height) is int
        and min(width, height) > 0
        and width * height <= MAX_PIXELS
    ):
        return None
    size = measure(entry['file_name']) if measure else None
    change = size and dict(width=size[0], height=size[1])
    return Finding(
        'image_size',
        shorten((width, height)),
        'a width and a height in pixels, positive integers',
        'taken from the picture' if size else _REMOVED,
        change,
    )


def without_nans(
    entry: dict, problems: List[Problem], image_id: object = None, annotation_id: object = None
) -> dict:
    """An entry with null for NaN in the fields that no rule knows.

    Args:
        entry (dict): Is not changed.
        problems (list[Problem]): Gets what is found.
        image_id: Named in the problem.
        annotation_id: Named in the problem.
    """
    bad = [name for name, value in entry.items() if name not in _KNOWN and not _is_finite(value)]
    if not bad:
        return entry
    problems.append(
        Problem(
            'not_finite',
            image_id,
            annotation_id,
            f'NaN or infinity in "{bad[0]}"',
            'finite numbers',
            'set to null',
            False,
        )
    )
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
