"""Result files for COCO's evaluation server.

Named and zipped as https://cocodataset.org/#upload asks, with the fields of
https://cocodataset.org/#format-results.
"""

import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pycocotools import mask as mask_api
from pycocotools.coco import COCO

from .predictions import encode_entry

# The server's names of the tasks. Boxes would have the name of the masks.
_TYPES = dict(segm='detections', keypoints='person_keypoints')
# Fields that the server knows; entries may have those of branches, too.
_FIELDS = ('image_id', 'category_id', 'score', 'segmentation', 'keypoints')


def write_submission(
    task: str, entries: Sequence[dict[str, Any]], images: COCO, ann_file: str, prefix: str
) -> Path:
    """Write the results of a task, zip them and read them back.

    Keypoints are rounded to a hundredth of a pixel (COCO suggests a whole one)
    and their third number is 1 as COCO suggests; scores stay as they are,
    because rounding could change the ranking.

    Args:
        task: 'segm' or 'keypoints'.
        entries: COCO result entries.
        images: Lists the images that may occur.
        ann_file: Its file; what follows the last '_' of its name is the split,
            e.g. 'test-dev2017'.
        prefix: Folder and name of the algorithm, 'folder/name'.

    Returns:
        The zip file; the JSON file in it lies beside it.

    Raises:
        ValueError: If the server would not accept what was read back.
    """
    split = Path(ann_file).stem.split('_')[-1]
    folder, algorithm = Path(prefix).parent, Path(prefix).name
    path = folder / f'{_TYPES[task]}_{split}_{algorithm}_results.json'
    folder.mkdir(parents=True, exist_ok=True)
    results = [
        {name: value for name, value in encode_entry(entry).items() if name in _FIELDS}
        for entry in entries
    ]
    for result in results if task == 'keypoints' else ():
        numbers = [round(value, 2) for value in result['keypoints']]
        numbers[2::3] = [1] * len(numbers[2::3])
        result['keypoints'] = numbers
    path.write_text(json.dumps(results))
    archive = path.with_suffix('.zip')
    with zipfile.ZipFile(archive, 'w', zipfile.ZIP_DEFLATED) as file:
        file.write(path, path.name)  # without folders: the server needs that
    check_submission(archive, task, len(entries), images)
    return archive


def check_submission(archive: Path, task: str, count: int, images: COCO) -> None:
    """Read a zip file back and check the requirements of COCO's server.

    Args:
        archive: From :func:`write_submission`.
        task: 'segm' or 'keypoints'.
        count: Expected number of results.
        images: Lists the images and categories that may occur.

    Raises:
        ValueError: Names the file, the result, what was expected and found.
    """
    with zipfile.ZipFile(archive) as file:
        expected = [archive.with_suffix('.json').name]
        if file.namelist() != expected:
            raise ValueError(f'{archive}: expected to hold {expected}, found {file.namelist()}')
        results = json.loads(file.read(expected[0]))
    if len(results) != count:
        raise ValueError(f'{archive}: expected {count} results, found {len(results)}')
    for index, result in enumerate(results):
        error = _find_error(result, task, images)
        if error:
            raise ValueError(f'{archive}: result {index}: {error}')


def _find_error(result: dict[str, Any], task: str, images: COCO) -> str:
    """Return why the server would not accept a result; '' if it would."""
    field = 'segmentation' if task == 'segm' else 'keypoints'
    fields = {'image_id', 'category_id', 'score', field}
    if set(result) != fields:
        return f'expected the fields {sorted(fields)}, found {sorted(result)}'
    image = images.imgs.get(result['image_id'])
    if image is None or result['category_id'] not in images.cats:
        return (
            f'image {result["image_id"]} or category '
            f'{result["category_id"]} is not in the annotation file'
        )
    if not math.isfinite(result['score']):
        return f'score {result["score"]}'
    if task == 'keypoints':
        numbers = result[field]
        if not numbers or len(numbers) % 3:
            return f'{len(numbers)} numbers for keypoints, expected 3 for each'
        return '' if all(map(math.isfinite, numbers)) else 'a keypoint is not finite'
    mask, size = result[field], [image['height'], image['width']]
    if mask['size'] != size:
        return f'mask of {mask["size"]}, image of {size}'
    area = int(mask_api.area(mask))  # reads the counts
    return '' if area <= size[0] * size[1] else f'mask of {area} pixels'
