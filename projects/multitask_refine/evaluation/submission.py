"""Files for COCO's evaluation server, which alone knows test-dev's truth.

Named and zipped as https://cocodataset.org/#upload asks, with the fields of
https://cocodataset.org/#format-results.
"""

import json
import math
import zipfile
from pathlib import Path
from typing import Dict, List, Sequence

from pycocotools import mask as mask_api
from pycocotools.coco import COCO

# The server's names of the tasks. Boxes would have the name of the masks.
_TYPES = dict(segm='detections', keypoints='person_keypoints')


def write_submission(
    task: str, entries: Sequence[dict], images: COCO, ann_file: str, prefix: str
) -> Path:
    """Write one task's results, zip them and read them back.

    Joints are rounded to a hundredth of a pixel (COCO suggests a whole one)
    and their third number is 1 as COCO suggests; scores stay as they are,
    because rounding could change the ranking.

    Args:
        task (str): 'segm' or 'keypoints'.
        entries (Sequence[dict]): COCO result entries.
        images (COCO): Lists the images that may occur.
        ann_file (str): Its file; what follows the last '_' of its name is
            the split, e.g. 'test-dev2017'.
        prefix (str): Folder and name of the algorithm, 'folder/name'.

    Returns:
        Path: The zip file; the JSON file in it lies beside it.

    Raises:
        ValueError: If what was read back is not what the server takes.
    """
    split = Path(ann_file).stem.split('_')[-1]
    folder, algorithm = Path(prefix).parent, Path(prefix).name
    path = folder / f'{_TYPES[task]}_{split}_{algorithm}_results.json'
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([_plain(entry) for entry in entries]))
    archive = path.with_suffix('.zip')
    with zipfile.ZipFile(archive, 'w', zipfile.ZIP_DEFLATED) as file:
        file.write(path, path.name)  # without folders: the server needs that
    check_submission(archive, task, len(entries), images)
    return archive


def check_submission(archive: Path, task: str, count: int, images: COCO) -> None:
    """Read a zip file back and compare it with what COCO's server takes.

    Args:
        archive (Path): From :func:`write_submission`.
        task (str): 'segm' or 'keypoints'.
        count (int): Expected number of results.
        images (COCO): Lists the images and categories that may occur.

    Raises:
        ValueError: Says what is wrong.
    """
    with zipfile.ZipFile(archive) as file:
        expected = [archive.with_suffix('.json').name]
        if file.namelist() != expected:
            raise ValueError(f'{archive}: expected to hold {expected}, found {file.namelist()}')
        results = json.loads(file.read(expected[0]))
    if len(results) != count:
        raise ValueError(f'{archive}: expected {count} results, found {len(results)}')
    for index, result in enumerate(results):
        problem = _problem(result, task, images)
        if problem:
            raise ValueError(f'{archive}: result {index}: {problem}')


def _plain(entry: dict) -> dict:
    """One result in the server's terms."""
    entry = dict(entry)
    if 'keypoints' in entry:
        joints = [round(value, 2) for value in entry['keypoints']]
        joints[2::3] = [1] * len(joints[2::3])
        entry['keypoints'] = joints
    if 'segmentation' in entry:
        mask = entry['segmentation']
        entry['segmentation'] = dict(
            size=[int(side) for side in mask['size']],
            counts=mask['counts'].decode()
            if isinstance(mask['counts'], bytes)
            else mask['counts'],
        )
    return entry


def _problem(result: Dict[str, object], task: str, images: COCO) -> str:
    """What is wrong with a result; '' if nothing is."""
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
    if task == 'segm':
        return _mask_problem(result[field], image)
    return _joint_problem(result[field])


def _mask_problem(mask: dict, image: dict) -> str:
    size = [image['height'], image['width']]
    if mask['size'] != size:
        return f'mask of {mask["size"]}, image of {size}'
    area = int(mask_api.area(mask))  # reads the counts
    return '' if area <= size[0] * size[1] else f'mask of {area} pixels'


def _joint_problem(joints: List[float]) -> str:
    if not joints or len(joints) % 3:
        return f'{len(joints)} numbers for joints, expected 3 for each'
    return '' if all(map(math.isfinite, joints)) else 'a joint is not finite'
