"""Rules for the entries of images and categories, and for unknown fields."""

import math
import re
from collections.abc import Callable

from .issues import Issue, format_value

MAX_PIXELS = 1 << 30  # OpenCV decodes no larger image
_CHECKED_FIELDS = frozenset(
    ['id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd', 'segmentation']
    + ['keypoints', 'num_keypoints', 'width', 'height', 'file_name']
)
# Returns width and height of an image by its file name, None if it cannot be read.
MeasureImage = Callable[[str], tuple[int, int] | None]


def is_id(value: object) -> bool:
    """Check that a value is a 64-bit integer and no bool."""
    return type(value) is int and -(2**63) <= value < 2**63


def next_id(entries: list) -> int:
    """Return an id above those of all entries.

    Args:
        entries: List of the file. Ids from 2**62 on do not count, so that the result is a valid
            id.
    """
    return 1 + max(
        (
            entry['id']
            for entry in entries
            if isinstance(entry, dict) and is_id(entry.get('id')) and 0 <= entry['id'] < 2**62
        ),
        default=0,
    )


def repair_categories(entries: list, issues: list[Issue]) -> tuple[list[dict], dict[object, int]]:
    """Check the categories, and merge those of the same name.

    Args:
        entries: List of the file.
        issues: Extended by the issues found.

    Returns:
        Valid categories, and the id of one of them by each ``category_id`` that annotations may
        refer to.
    """
    kept: list[dict] = []
    ids: dict[object, int] = {}
    ids_by_name: dict[str, int] = {}
    new_id = next_id(entries)
    expected = 'an id of its own, an integer, and a name'
    for entry in entries:
        name = entry.get('name') if isinstance(entry, dict) else None
        found = entry.get('id') if isinstance(entry, dict) else None
        if not isinstance(name, str) or not _can_be_referred_to(found) or found in ids:
            issues.append(Issue('category', format_value(entry), expected, 'category removed'))
            continue
        if name in ids_by_name:
            ids[found] = first = ids_by_name[name]
            issues.append(
                Issue(
                    'category_name',
                    f'the name {format_value(name)} again, with id {format_value(found)}',
                    f'a name of its own, not that of category {first}',
                    f'its annotations given to category {first}',
                )
            )
            continue
        if not is_id(found):
            fix = f'given the id {new_id}, and its annotations'
            issue = Issue('category', f'id {format_value(found)}', expected, fix, dict(id=new_id))
            issues.append(issue)
            entry = entry | issue.change
            new_id += 1
        ids[found] = ids_by_name[name] = entry['id']
        kept.append(replace_nan(entry, issues))
    return kept, ids


def repair_images(
    entries: list, issues: list[Issue], measure: MeasureImage | None = None
) -> tuple[list[dict], dict[object, int]]:
    """Check the image entries, and merge those of the same file.

    Args:
        entries: List of the file.
        issues: Extended by the issues found.
        measure: Measures images without a size.

    Returns:
        Valid entries, and the id of one of them by each ``image_id`` that annotations may refer
        to.
    """
    kept: list[dict] = []
    ids: dict[object, int] = {}
    ids_by_file: dict[str, int] = {}
    new_id = next_id(entries)
    for entry in entries:
        found = entry.get('id') if isinstance(entry, dict) else None
        repaired, own_issues = _repair_image(entry, ids, new_id, measure)
        issues += [issue._replace(image_id=found) for issue in own_issues]
        if repaired is None:
            continue
        image_id = repaired['id']
        new_id += image_id == new_id  # if it was given to this image
        # Annotations of a further entry of the same file refer to the first.
        ids[found] = first = ids_by_file.setdefault(repaired['file_name'], image_id)
        if first == image_id:
            kept.append(replace_nan(repaired, issues, image_id))
            continue
        issues.append(
            Issue(
                'shared_file',
                format_value(repaired['file_name']),
                f'a file of its own, not that of image {first}',
                f'its annotations given to image {first}',
                fatal_in_test=False,
                image_id=found,
            )
        )
    return kept, ids


def replace_nan(
    entry: dict, issues: list[Issue], image_id: object = None, annotation_id: object = None
) -> dict:
    """Replace NaN and infinity by null in the fields that no other rule checks.

    Args:
        entry: Entry; it is not changed.
        issues: Extended by one issue if a field is not finite.
        image_id: For the issue.
        annotation_id: For the issue.
    """
    change = {
        name: _replace_nan(value)
        for name, value in entry.items()
        if name not in _CHECKED_FIELDS and not _is_finite(value)
    }
    if not change:
        return entry
    issues.append(
        Issue(
            'not_finite',
            f'NaN or infinity in "{next(iter(change))}"',
            'finite numbers',
            'set to null',
            change,
            fatal_in_test=False,
            image_id=image_id,
            annotation_id=annotation_id,
        )
    )
    return entry | change


def _can_be_referred_to(found: object) -> bool:
    return isinstance(found, (int, str)) and not isinstance(found, bool)


def _repair_image(
    entry: object, ids: dict[object, int], new_id: int, measure: MeasureImage | None
) -> tuple[dict | None, list[Issue]]:
    """Check id, file name and size of an image entry; None if it is to be removed."""
    if not isinstance(entry, dict):
        return None, [Issue('entry', format_value(entry), 'an object', 'image removed')]
    issues = []
    removed = 'image and its annotations removed'

    found, expected = entry.get('id'), 'an integer that no image before has'
    if not _can_be_referred_to(found) or found in ids:
        return None, [Issue('image_id', format_value(found), expected, 'image removed')]
    if not is_id(found):
        fix = f'given the id {new_id}, and its annotations'
        issues.append(Issue('image_id', format_value(found), expected, fix, dict(id=new_id)))
        entry = entry | dict(id=new_id)

    name, expected = entry.get('file_name'), 'a path inside the folder of the images, with /'
    path = name.replace('\\', '/') if isinstance(name, str) else ''
    if (
        not path.strip('/. ')
        or '\0' in path
        or re.match(r'/|[A-Za-z]:', path)
        or '..' in path.split('/')
        # JSON can hold lone surrogates, which no file name has.
        or path != path.encode(errors='ignore').decode()
    ):
        return None, [*issues, Issue('file_name', format_value(name), expected, removed)]
    if path != name:
        issues.append(
            Issue(
                'file_name', format_value(name), expected, 'written with /', dict(file_name=path)
            )
        )
        entry = entry | dict(file_name=path)

    width, height = entry.get('width'), entry.get('height')
    if (
        type(width) is not int
        or type(height) is not int
        or min(width, height) <= 0
        or width * height > MAX_PIXELS
    ):
        size = measure(path) if measure else None
        change = dict(width=size[0], height=size[1]) if size else None
        fix = 'taken from the image' if size else removed
        expected = 'a width and a height in pixels, positive integers'
        issues.append(Issue('image_size', format_value((width, height)), expected, fix, change))
        entry = entry | change if change else None
    return entry, issues


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list) or all(map(_is_finite, value))


def _replace_nan(value: object) -> object:
    if isinstance(value, dict):
        return {name: _replace_nan(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_replace_nan(each) for each in value]
    return value if _is_finite(value) else None
