"""Read a predictions file, and say what is wrong with it if it is not one.

Nothing in the file is taken on trust: what is drawn, counted or given to
pycocotools is looked at first.
"""

import json
from pathlib import Path
from typing import Callable, List, Tuple

from pycocotools.coco import COCO

from multitask_refine.datasets.validation.masks import decompress_counts
from multitask_refine.utils.errors import ExplainedError

from .coco_scores import TASKS, CocoData
from .predictions import FORMAT, VERSION

_REMEDY = (
    'Predictions files are written by tools/test.py --predictions '
    'FILE.json, or by predictions_file of the MultitaskCocoMetric.'
)


class PredictionsFileError(ExplainedError, ValueError):
    """A file that is no predictions file; the message says why."""


def read_predictions(path: str) -> dict:
    """Read a predictions file and check all of its fields.

    Args:
        path (str): The file.

    Returns:
        dict: Its content, as :mod:`.predictions` describes it.

    Raises:
        PredictionsFileError: Names the file, the field, what was expected
            and what was found.
    """
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
    except OSError as error:
        raise PredictionsFileError(
            f'{path}: cannot be read ({error.strerror}). {_REMEDY}'
        ) from None
    except (ValueError, RecursionError):
        raise PredictionsFileError(
            f'{path}: expected JSON, found something else. {_REMEDY}'
        ) from None
    try:
        _check_head(content)
        _check_joints(_get(content, 'joints', (dict,), '', 'an object'), 'joints')
        if 'joints' in content['categories']:
            _check_joints_of_categories(content['categories'])
        for index, image in enumerate(content['images']):
            _check_image(image, f'images[{index}]', content)
    except _Unexpected as error:
        raise PredictionsFileError(f'{path}: {error}. {_REMEDY}') from None
    return content


def to_coco(path: str, content: dict, truth: COCO) -> CocoData:
    """Put predictions beside their ground truth.

    Args:
        path (str): The predictions file, for messages.
        content (dict): From :func:`read_predictions`.
        truth (COCO): Its annotations.

    Raises:
        PredictionsFileError: If images or categories are not in the
            annotations, or masks do not have the size of their image.
    """
    for index, image in enumerate(content['images']):
        known = truth.imgs.get(image['image_id'])
        try:
            _require(
                known,
                f'images[{index}].image_id',
                'an image of the annotation file',
                image['image_id'],
            )
            _check_masks(image, f'images[{index}]', known)
        except _Unexpected as error:
            raise PredictionsFileError(
                f'{path}: {error}. Name the annotations that the test was made with by --ann-file.'
            ) from None
    return CocoData(
        truth=truth,
        entries={
            task: [e for image in content['images'] for e in image[task]]
            for task in TASKS
            if task in content['tasks']
        },
        sigmas=content['joints']['sigmas'],
        categories=content['categories']['ids'],
        images=[image['image_id'] for image in content['images']],
    )


class _Unexpected(Exception):
    """Field, what was expected, what was found."""


def _require(ok: object, field: str, expected: str, found: object) -> None:
    if not ok:
        text = 'nothing' if found is None else repr(found)
        text = text if len(text) <= 60 else text[:57] + '...'
        raise _Unexpected(f'{field}: expected {expected}, found {text}')


def _get(owner: object, key: str, kind: Tuple[type, ...], field: str, expected: str) -> object:
    """A field of an object, if it is there and of one of the types."""
    _require(isinstance(owner, dict), field or 'the file', 'an object', owner)
    name = f'{field}.{key}' if field else key
    _require(key in owner, name, expected, None)
    value = owner[key]
    _require(isinstance(value, kind) and not isinstance(value, bool), name, expected, value)
    return value


def _check_head(content: object) -> None:
    found = _get(content, 'format', (str,), '', repr(FORMAT))
    _require(found == FORMAT, 'format', repr(FORMAT), found)
    found = _get(content, 'version', (int,), '', str(VERSION))
    _require(found == VERSION, 'version', str(VERSION), found)
    tasks = _get(content, 'tasks', (list,), '', f'some of {TASKS}')
    _require(tasks and all(task in TASKS for task in tasks), 'tasks', f'some of {TASKS}', tasks)
    _get(content, 'run', (dict, type(None)), '', 'an object or null')
    metrics = _get(content, 'metrics', (dict,), '', 'an object')
    for name, value in metrics.items():
        _require(value is None or _is_number(value), f'metrics.{name}', 'a number or null', value)
    annotations = _get(content, 'annotations', (dict,), '', 'an object')
    for key in ('file', 'sha256'):
        _get(annotations, key, (str,), 'annotations', 'a string')
    _get(content, 'image_folder', (str, type(None)), '', 'a path or null')
    categories = _get(content, 'categories', (dict,), '', 'an object')
    ids = _check_list(categories, 'ids', 'categories', 'integers', lambda x: isinstance(x, int))
    names = _check_list(categories, 'names', 'categories', 'strings', lambda x: isinstance(x, str))
    _require(len(names) == len(ids), 'categories.names', f'{len(ids)} strings', names)
    images = _get(content, 'images', (list,), '', 'a list of images')
    _require(images, 'images', 'at least one image', images)


def _check_list(
    owner: object, key: str, field: str, what: str, fits: Callable[[object], bool]
) -> List[object]:
    values = _get(owner, key, (list,), field, f'a list of {what}')
    for index, value in enumerate(values):
        _require(fits(value), f'{field}.{key}[{index}]', f'one of {what}', value)
    return values


def _check_joints_of_categories(categories: dict) -> None:
    """Check the joints of categories that have joints of their own."""
    joints = _check_list(
        categories, 'joints', 'categories', 'objects', lambda x: isinstance(x, dict)
    )
    count = len(categories['ids'])
    _require(len(joints) == count, 'categories.joints', f'{count} objects', joints)
    for index, each in enumerate(joints):
        _check_joints(each, f'categories.joints[{index}]', least=0)


def _check_joints(joints: object, field: str, least: int = 1) -> None:
    names = _check_list(joints, 'names', field, 'strings', lambda x: isinstance(x, str))
    count = len(names)
    _require(count >= least, f'{field}.names', 'at least one joint', names)

    def is_joint(x: object) -> bool:
        return isinstance(x, int) and 0 <= x < count

    def is_color(x: object) -> bool:
        return _is_list(x, 3) and all(isinstance(c, int) and 0 <= c < 256 for c in x)

    lists = dict(
        sigmas=(f'{count} numbers above 0', lambda x: _is_number(x) and x > 0),
        mirror=(f'{count} joints', is_joint),
        colors=(f'{count} colours', is_color),
        skeleton=('pairs of joints', lambda x: _is_list(x, 2) and all(map(is_joint, x))),
        skeleton_colors=('a colour for each pair', is_color),
    )
    for key, (what, fits) in lists.items():
        values = _check_list(joints, key, field, what, fits)
        length = len(joints['skeleton']) if 'skeleton' in key else count
        _require(len(values) == length, f'{field}.{key}', f'{length} values', len(values))


def _check_image(image: object, field: str, content: dict) -> None:
    image_id = _get(image, 'image_id', (int, str), field, 'an id')
    _get(image, 'file_name', (str,), field, 'a string')
    lengths = set()
    for task in content['tasks']:
        entries = _get(image, task, (list,), field, 'a list of entries')
        lengths.add(len(entries))
        for index, entry in enumerate(entries):
            name = f'{field}.{task}[{index}]'
            _check_entry(entry, name, task, image_id, content)
    _require(len(lengths) == 1, field, 'as many entries for each task', sorted(lengths))


def _check_entry(entry: object, field: str, task: str, image_id: object, content: dict) -> None:
    found = _get(entry, 'image_id', (int, str), field, str(image_id))
    _require(found == image_id, f'{field}.image_id', str(image_id), found)
    ids = content['categories']['ids']
    found = _get(entry, 'category_id', (int,), field, f'one of {ids}')
    _require(found in ids, f'{field}.category_id', f'one of {ids}', found)
    score = _get(entry, 'score', (int, float), field, 'a number')
    _require(_is_number(score), f'{field}.score', 'a number', score)
    if task == 'segm':
        mask = _get(entry, 'segmentation', (dict,), field, 'RLE')
        counts = _get(mask, 'counts', (str,), f'{field}.segmentation', 'RLE')
        _require(counts and counts.isascii(), f'{field}.segmentation.counts', 'RLE', counts)
        return
    joints = content['joints']
    if 'joints' in content['categories']:
        joints = content['categories']['joints'][ids.index(entry['category_id'])]
    count = 4 if task == 'bbox' else 3 * len(joints['names'])
    values = _get(entry, task, (list,), field, f'{count} numbers')
    _require(
        _is_list(values, count) and all(map(_is_number, values)),
        f'{field}.{task}',
        f'{count} numbers',
        values,
    )


def _check_masks(image: dict, field: str, known: dict) -> None:
    size = [known['height'], known['width']]
    for index, entry in enumerate(image.get('segm', ())):
        mask = entry['segmentation']
        name = f'{field}.segm[{index}].segmentation'
        _require(mask.get('size') == size, f'{name}.size', str(size), mask.get('size'))
        runs = decompress_counts(mask['counts'])
        _require(
            runs and min(runs) >= 0 and sum(runs) == size[0] * size[1],
            f'{name}.counts',
            f'runs of {size[0] * size[1]} pixels',
            mask['counts'],
        )


def _is_number(value: object) -> bool:
    """No bool, NaN, infinity or anything as large."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9


def _is_list(value: object, length: int) -> bool:
    return isinstance(value, list) and len(value) == length
