"""Check and repair COCO annotations.

The data set applies these rules at its start, and ``tools/dataset/check_coco.py`` on demand. The
rules for images and categories are in :mod:`.entries`, those for one instance in
:mod:`.instances`.
"""

from collections.abc import Mapping

from .coordinates import repair_coordinates
from .entries import MeasureImage, is_id, next_id, repair_categories, repair_images, replace_nan
from .instances import repair_instance
from .issues import Issue, format_value


def repair(
    content: dict,
    num_keypoints: int | Mapping[str, int] | None = None,
    measure: MeasureImage | None = None,
) -> tuple[dict, list[Issue]]:
    """Check annotations against all rules, and repair or remove what breaks one.

    Valid ids, the order of entries, and unknown fields are kept.

    Args:
        content: From :func:`~multitask_refine.datasets.annotation_file.read_annotations`; it is
            not changed.
        num_keypoints: Number of keypoints of all categories, or by the name of the category. By
            default, and for other categories, it is the length of their list of keypoints.
        measure: Measures images without a size.

    Returns:
        The repaired content, which breaks no rule, and the issues in order of the file.
    """
    issues: list[Issue] = []
    categories, category_ids = repair_categories(content['categories'], issues)
    images, image_ids = repair_images(content['images'], issues, measure)
    lists = dict(images=images, categories=categories)
    if 'annotations' in content:
        counts = {
            category['id']: len(category['keypoints'])
            for category in categories
            if isinstance(category.get('keypoints'), list)
        } | keypoints_by_category(categories, num_keypoints or {})
        sizes = {image['id']: (image['width'], image['height']) for image in images}
        annotations = _repair_links(content['annotations'], image_ids, category_ids, issues)
        # before the rules of one instance, which expect x, y, width and height in pixels
        annotations = repair_coordinates(annotations, sizes, issues)
        lists['annotations'] = []
        for ann in annotations:
            image_id, count = ann['image_id'], counts.get(ann['category_id'])
            repaired, own_issues = repair_instance(ann, sizes[image_id], count)
            issues += [
                issue._replace(image_id=image_id, annotation_id=ann['id']) for issue in own_issues
            ]
            if repaired is not None:
                lists['annotations'].append(replace_nan(repaired, issues, image_id, ann['id']))
    others = replace_nan(
        {name: value for name, value in content.items() if name not in lists}, issues
    )
    return content | lists | others, issues


def keypoints_by_category(
    categories: list, num_keypoints: int | Mapping[str, int]
) -> dict[int, int]:
    """Return the number of keypoints by category id.

    Args:
        categories: List of the file; invalid entries are skipped.
        num_keypoints: Number of keypoints of all categories, or by the name of the category.
    """
    names = {
        category['id']: category.get('name')
        for category in categories
        if isinstance(category, dict) and is_id(category.get('id'))
    }
    if isinstance(num_keypoints, int):
        return dict.fromkeys(names, num_keypoints)
    return {
        category_id: num_keypoints[name]
        for category_id, name in names.items()
        if isinstance(name, str) and name in num_keypoints
    }


def _repair_links(
    entries: list,
    image_ids: dict[object, int],
    category_ids: dict[object, int],
    issues: list[Issue],
) -> list[dict]:
    """Resolve image and category of each annotation, and give it an id of its own."""
    seen: dict[int, dict] = {}
    kept = []
    new_id = next_id(entries)
    for entry in entries:
        issue = _check_links(entry, image_ids, category_ids) or _check_id(entry, seen, new_id)
        if issue:
            own = entry if isinstance(entry, dict) else {}
            issue = issue._replace(image_id=own.get('image_id'), annotation_id=own.get('id'))
            issues.append(issue)
            if issue.change is None:
                continue
        if is_id(entry.get('id')):
            seen.setdefault(entry['id'], entry)  # the first with an id keeps it
        if issue:
            entry = entry | issue.change
            new_id += 1
        kept.append(
            entry
            | dict(
                image_id=image_ids[entry['image_id']],
                category_id=category_ids[entry['category_id']],
            )
        )
    return kept


def _check_links(
    entry: object, image_ids: dict[object, int], category_ids: dict[object, int]
) -> Issue | None:
    """Check that an annotation refers to an image and a category."""
    if not isinstance(entry, dict):
        return Issue('entry', format_value(entry), 'an object')
    image_id, category_id = entry.get('image_id'), entry.get('category_id')
    # 1.0 and true would be found as 1.
    if type(image_id) not in (int, str) or image_id not in image_ids:
        expected = 'the id of an image that is left'
        return Issue('dangling_image', format_value(image_id), expected)
    if type(category_id) not in (int, str) or category_id not in category_ids:
        found = f'category_id {format_value(category_id)}'
        return Issue('dangling_category', found, 'the id of a category')
    return None


def _check_id(entry: dict, seen: dict[int, dict], new_id: int) -> Issue | None:
    """Check that an annotation has an id of its own, and not 0."""
    found, expected = entry.get('id'), 'an id of its own'
    repair_id = f'given the id {new_id}', dict(id=new_id)
    if not is_id(found):
        return Issue('annotation_id', format_value(found), 'an integer', *repair_id)
    if found in seen:
        if entry == seen[found]:
            return Issue('annotation_id', 'the same annotation again', expected)
        return Issue('annotation_id', 'the id of another annotation', expected, *repair_id)
    if found == 0:
        expected = "another id than 0, which COCO's evaluation takes for no annotation"
        return Issue('annotation_id_0', '0', expected, *repair_id, fatal_in_test=False)
    return None
