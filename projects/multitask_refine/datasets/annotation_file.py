"""Read, write and filter COCO annotation files."""

import json
import os
from collections.abc import Container
from pathlib import Path

from .validation.entries import is_id
from .validation.integers import parse_integers
from .validation.issues import AnnotationError, Issue


def read_annotations(path: str, issues: list[Issue] | None = None) -> dict:
    """Read an annotation file and check its structure.

    The file may be in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Args:
        path: Annotation file.
        issues: Extended by an issue for each entry whose ids or sizes are not written as
            integers.

    Returns:
        The content with the lists 'images', 'categories' and, unless the file lacks it as those
        of COCO's test images do, 'annotations'. Ids and sizes are integers wherever they
        represent one.

    Raises:
        AnnotationError: If the file cannot be read or is no COCO annotation file.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise AnnotationError(f'{path}: cannot be read ({error.strerror})') from None
    if text.startswith(b'\x1f\x8b'):
        raise AnnotationError(
            f'{path}: expected a COCO annotation file in JSON, found one compressed with gzip. '
            'Decompress it (gunzip --keep) and name the result.'
        )
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise AnnotationError(
            f'{path}: expected a COCO annotation file in JSON, found invalid or truncated JSON. '
            'Copy or write the file again.'
        ) from None
    if not isinstance(content, dict):
        raise AnnotationError(
            f'{path}: expected an object with "images", "annotations" and "categories", found a '
            f'{type(content).__name__}. Write it in COCO format.'
        )
    for name in ('images', 'annotations', 'categories'):
        found = content.get(name, [] if name == 'annotations' else None)
        if not isinstance(found, list):
            kind = 'nothing' if found is None else type(found).__name__
            raise AnnotationError(
                f'{path}: {name}: expected a list, found {kind}. Write the file in COCO format.'
            )
    return parse_integers(content, [] if issues is None else issues)


def write_json(path: Path, content: object) -> None:
    """Write a JSON file atomically.

    Args:
        path: File to write.
        content: JSON-serializable object without NaN.
    """
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        temporary.write_text(json.dumps(content, allow_nan=False))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def select_images(content: dict, ids: Container) -> dict:
    """Return the content with only the images of some ids, and their annotations."""
    selected = content | dict(images=[each for each in content['images'] if each['id'] in ids])
    if 'annotations' in content:
        selected['annotations'] = [
            each for each in content['annotations'] if each['image_id'] in ids
        ]
    return selected


def filter_classes(content: dict, classes: Container[str]) -> dict:
    """Return the content without the annotations of other categories.

    Annotations of unknown categories are kept: they are issues.

    Args:
        content: From :func:`read_annotations`.
        classes: Names of the categories to keep.
    """
    if 'annotations' not in content:
        return content
    others = {
        category['id']
        for category in content['categories']
        if isinstance(category, dict)
        and is_id(category.get('id'))
        and category.get('name') not in classes
    }
    return content | dict(
        annotations=[
            ann
            for ann in content['annotations']
            if not isinstance(ann, dict)
            or not is_id(ann.get('category_id'))
            or ann['category_id'] not in others
        ]
    )
