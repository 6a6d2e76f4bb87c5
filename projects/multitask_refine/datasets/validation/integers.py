"""Parse the integers of annotation files: ids, sizes and counts."""

import re

from .issues import Issue, format_value

_INTEGER_FIELDS = dict(
    images=('id', 'width', 'height'),
    annotations=('id', 'image_id', 'category_id', 'iscrowd', 'num_keypoints'),
    categories=('id',),
)
_REFERENCED_LISTS = dict(image_id='images', category_id='categories')
_NULLABLE_FIELDS = ('keypoints', 'num_keypoints', 'segmentation')


def parse_integers(content: dict, issues: list[Issue]) -> dict:
    """Parse ids, sizes and counts that are strings or floats.

    Strings such as "000012" and "640.0" and floats such as 640.0 become integers. If two ids of
    images or categories would become equal, as "01" and "1", strings are kept. A null in place
    of keypoints or mask is removed.

    Args:
        content: Annotation file with valid or invalid entries; it is not changed.
        issues: Extended by one issue for each entry with another type.

    Returns:
        The content with integers.
    """
    keep_strings = set()
    for name in ('images', 'categories'):
        ids = {
            entry['id']
            for entry in content[name]
            if isinstance(entry, dict) and type(entry.get('id')) in (int, float, str)
        }
        integers = [parse_integer(each) for each in ids]
        if len(set(integers) - {None}) < len(integers) - integers.count(None):
            keep_strings.add(name)
    return content | {
        name: [_parse_entry(entry, name, keep_strings, issues) for entry in content[name]]
        for name in _INTEGER_FIELDS
        if name in content
    }


def parse_integer(value: object) -> int | None:
    """Return the integer that a JSON value represents, None if it represents none."""
    if type(value) is int:  # a bool is none
        return value
    if type(value) is float:
        # From 2**53 on not every integer is representable.
        return int(value) if value.is_integer() and abs(value) < 2**53 else None
    if type(value) is str and len(value) < 40:
        match = re.fullmatch(r'\s*([+-]?[0-9]+)(\.0*)?\s*', value)
        return int(match[1]) if match else None
    return None


def _parse_entry(entry: object, name: str, keep_strings: set[str], issues: list[Issue]) -> object:
    fields = _INTEGER_FIELDS[name]
    is_annotation = name == 'annotations'
    # Fast path: files are large, and almost all entries need no change.
    if not isinstance(entry, dict) or (
        all(type(entry.get(field, 0)) is int for field in fields)
        and not (is_annotation and any(entry.get(field, 0) is None for field in _NULLABLE_FIELDS))
    ):
        return entry
    if is_annotation:
        entry = {
            field: value
            for field, value in entry.items()
            if value is not None or field not in _NULLABLE_FIELDS
        }
    change = {}
    for field in fields:
        value = entry.get(field)
        id_list = name if field == 'id' else _REFERENCED_LISTS.get(field)
        if type(value) is int or (type(value) is str and id_list in keep_strings):
            continue
        integer = parse_integer(value)
        if integer is not None:
            change[field] = integer
    if not change:
        return entry
    field, integer = next(iter(change.items()))
    issues.append(
        Issue(
            'number',
            f'{field} {format_value(entry[field])}',
            'an integer',
            f'read as {integer}',
            change,
            fatal_in_test=False,
            image_id=entry.get('id' if name == 'images' else 'image_id'),
            annotation_id=entry.get('id') if is_annotation else None,
        )
    )
    return entry | change
