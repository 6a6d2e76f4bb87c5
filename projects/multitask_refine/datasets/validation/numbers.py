"""Whole numbers that are written in another way than as JSON's integers."""

import re
from typing import List, Optional

from .issues import Problem, shorten

_FIELDS = dict(
    images=('id', 'width', 'height'),
    annotations=('id', 'image_id', 'category_id', 'iscrowd', 'num_keypoints'),
    categories=('id',),
)
# What these fields refer to: the list whose ids they name.
_REFERENCES = dict(image_id='images', category_id='categories')
_NULLABLE = ('keypoints', 'num_keypoints', 'segmentation')


def read_numbers(content: dict, problems: List[Problem]) -> dict:
    """Read ids, sizes and counts as integers.

    Texts ("000012", "640.0") and floats (640.0) that are whole numbers are
    read as such. Where two ids of images or categories would become one, as
    "01" and "1", texts stay ids of their own. A null in place of keypoints
    or a mask is read as none.

    Args:
        content (dict): With lists of entries, of which any may be spoilt; is
            not changed.
        problems (list[Problem]): Gets one for each entry that is written
            otherwise; none of them stops a test.

    Returns:
        dict: The content with integers.
    """
    texts = {name: _are_distinct(content[name]) for name in ('images', 'categories')}
    lists = {}
    for name, fields in _FIELDS.items():
        if name not in content:
            continue
        lists[name] = [
            _read_entry(entry, name, fields, texts, problems) for entry in content[name]
        ]
    return dict(content, **lists)


def _are_distinct(entries: list) -> bool:
    """Whether ids that are written as texts are distinct integers."""
    ids = {
        entry['id']
        for entry in entries
        if isinstance(entry, dict) and type(entry.get('id')) in (int, float, str)
    }
    numbers = [whole_number(each) for each in ids]
    return len(set(numbers) - {None}) == len(numbers) - numbers.count(None)


def _read_entry(
    entry: object, name: str, fields: tuple, texts: dict, problems: List[Problem]
) -> object:
    # Nearly all entries leave here: files are large.
    if not isinstance(entry, dict) or (
        all(type(entry.get(field, 0)) is int for field in fields)
        and (name != 'annotations' or all(entry.get(field, 0) is not None for field in _NULLABLE))
    ):
        return entry
    if name == 'annotations':
        entry = {
            field: value
            for field, value in entry.items()
            if value is not None or field not in _NULLABLE
        }
    change = {}
    for field in fields:
        value = entry.get(field)
        owner = name if field == 'id' else _REFERENCES.get(field)
        if type(value) is str and not texts.get(owner, True):
            continue
        number = whole_number(value)
        if number is not None and type(value) is not int:
            change[field] = number
    if not change:
        return entry
    field, number = next(iter(change.items()))
    is_image = name == 'images'
    problems.append(
        Problem(
            'number',
            entry.get('id' if is_image else 'image_id'),
            entry.get('id') if name == 'annotations' else None,
            f'{field} {shorten(entry[field])}',
            'an integer',
            f'read as {number}',
            stops_test=False,
        )
    )
    return {**entry, **change}


def whole_number(value: object) -> Optional[int]:
    """Return the whole number that a JSON value stands for, or None.

    Args:
        value: Anything; true and false are no numbers.
    """
    if type(value) is int:
        return value
    if type(value) is float:
        # Beyond, not every integer is a float of its own.
        return int(value) if value.is_integer() and abs(value) < 2**53 else None
    if type(value) is str and len(value) < 40:
        match = re.fullmatch(r'\s*([+-]?[0-9]+)(\.0*)?\s*', value)
        return int(match[1]) if match else None
    return None
