"""Load one or two predictions files and work out what the page shows."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from multitask_refine.analysis import (
    Group,
    ImageScore,
    KeypointErrors,
    Ranking,
    by_occlusion,
    by_people,
    by_size,
    by_visibility,
    compare_rankings,
    find_keypoint_errors,
    find_uncrowded,
    image_scores,
    precision_curves,
)
from multitask_refine.datasets.validation.instances import repair_instance
from multitask_refine.evaluation import (
    CocoData,
    PredictionsFileError,
    Visibility,
    evaluate_visibility,
    file_sha256,
    has_visibility,
    load_ground_truth,
    read_predictions,
    to_coco,
)

_FIELDS = dict(
    images=('id', 'file_name', 'height', 'width'),
    annotations=('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd'),
    categories=('id', 'name'),
)


class Run(NamedTuple):
    """A predictions file with its ground truth.

    Attributes:
        name: 'A' and 'B' where there are two runs, else ''.
        path: The file.
        content: What it holds, checked.
        data: The same for pycocotools.
    """

    name: str
    path: str
    content: dict
    data: CocoData


class Analysis(NamedTuple):
    """Results of the analysis of a run.

    Attributes:
        run: The run.
        curves: By task, from ``precision_curves``.
        groups: By kind of breakdown.
        errors: None without keypoints.
        crowded_errors: The same of the people whose box holds keypoints of somebody else.
        rankings: By task and score, from ``compare_rankings``.
        visibility: None without a predicted visibility of the keypoints.
        scores: By image, from ``image_scores``.
    """

    run: Run
    curves: dict[str, dict[str, list[float]] | None]
    groups: dict[str, list[Group]]
    errors: KeypointErrors | None
    crowded_errors: KeypointErrors | None
    rankings: dict[str, dict[str, Ranking]]
    visibility: Visibility | None
    scores: dict[int, ImageScore]


def load_runs(paths: Sequence[str], ann_file: str | None) -> list[Run]:
    """Read predictions files and the annotations that they share.

    Args:
        paths (Sequence[str]): One or two files.
        ann_file (str, optional): Where the annotations are now; None where
            the test found them.

    Raises:
        PredictionsFileError: Says which file and field, what was expected,
            what was found and what to do.
    """
    contents = [read_predictions(path) for path in paths]
    for path, content in zip(paths, contents, strict=True):
        if 'keypoints' in content['categories']:
            raise PredictionsFileError(
                f'{path}: categories: expected the same keypoints for all, '
                f'found other keypoints for each of '
                f'{content["categories"]["names"]}, of which there is no such '
                'page. AP of each class and keypoint: classwise=True and '
                'keypointwise=True of the MultitaskCocoMetric.'
            )
    if len(paths) > 1:
        _require_same(paths, contents)
    truth = _load_truth(ann_file or contents[0]['annotations']['file'], paths[0], contents[0])
    names = 'AB' if len(paths) > 1 else ['']
    return [
        Run(name, path, content, to_coco(path, content, truth))
        for name, path, content in zip(names, paths, contents, strict=True)
    ]


def _require_same(paths: Sequence[str], contents: Sequence[dict]) -> None:
    """Raise an error unless two runs were tested on the same data."""
    first, second = (
        {
            'annotations.sha256': f'{c["annotations"]["sha256"][:16]} '
            f'({c["annotations"]["file"]})',
            'images': f'{len(c["images"])} images',
            'keypoints.names': c['keypoints']['names'],
            'keypoints.sigmas': c['keypoints']['sigmas'],
            'categories.ids': c['categories']['ids'],
        }
        for c in contents
    )
    for field, expected in first.items():
        if second[field] != expected:
            raise PredictionsFileError(
                f'{paths[1]}: {field}: expected {expected} as in {paths[0]}, '
                f'found {second[field]}. Two runs are compared on the same '
                'annotations and images: test both on the same data.'
            )
    ids = [{image['image_id'] for image in c['images']} for c in contents]
    if ids[0] != ids[1]:
        raise PredictionsFileError(
            f'{paths[1]}: images: expected the images of {paths[0]}, found '
            f'{len(ids[1] - ids[0])} others. Test both on the same images.'
        )


def _load_truth(path: str, predictions: str, content: dict) -> COCO:
    """Load the annotations of the test, identified by their checksum."""
    if not Path(path).is_file():
        raise PredictionsFileError(
            f'{path}: there is no such annotation file, which {predictions} '
            'names in annotations.file. Say where it is now by --ann-file.'
        )
    found, expected = file_sha256(path), content['annotations']['sha256']
    if found != expected:
        raise PredictionsFileError(
            f'{path}: expected the annotations that {predictions} was made '
            f'with (SHA-256 {expected[:16]}), found others ({found[:16]}). '
            'Test again, or name the old file by --ann-file.'
        )
    try:
        truth = load_ground_truth(path, len(content['keypoints']['names']))
        _check_truth(truth, path, len(content['keypoints']['names']))
    except PredictionsFileError:
        raise
    except Exception as error:  # pycocotools raises nearly anything
        raise PredictionsFileError(
            f"{path}: expected annotations in COCO's format, found "
            f'something else ({type(error).__name__}: {error}). Name the '
            'annotations of the test by --ann-file.'
        ) from None
    return truth


def _check_truth(truth: COCO, path: str, num_keypoints: int) -> None:
    if 'annotations' not in truth.dataset:
        raise PredictionsFileError(
            f'{path}: expected "annotations", found none: without ground '
            'truth there is nothing to analyze. Test on val2017, say.'
        )
    for part, fields in _FIELDS.items():
        for item in truth.dataset[part]:
            missing = [name for name in fields if name not in item]
            if missing:
                raise PredictionsFileError(
                    f'{path}: {part}: expected {list(fields)} in each, found '
                    f'none of {missing} in {part[:-1]} {item.get("id")}. '
                    'Add them to the file and test again.'
                )
    for image in truth.dataset['images']:
        size = [image['width'], image['height']]
        if not all(type(side) is int and 0 < side < 1e5 for side in size):
            raise PredictionsFileError(
                f'{path}: image {image["id"]}: expected a width and height in '
                f'pixels, found {size}. Repair the file and test again.'
            )
    for ann in truth.dataset['annotations']:
        _check_annotation(ann, truth, path, num_keypoints)


def _check_annotation(ann: dict, truth: COCO, path: str, num_keypoints: int) -> None:
    """Check an annotation: pycocotools reads beyond the end of invalid masks."""
    title = f'{path}: annotation {str(ann["id"])[:20]}'
    if type(ann['id']) is not int or ann['image_id'] not in truth.imgs:
        raise PredictionsFileError(
            f'{title}: expected a number, and an image of the file, found '
            f'image {str(ann["image_id"])[:20]}. Repair it and test again.'
        )
    if len(ann['keypoints']) != 3 * num_keypoints:
        raise PredictionsFileError(
            f'{title}: expected 3 numbers for each of {num_keypoints} keypoints, '
            f'found {len(ann["keypoints"])}. Test again with the meta file '
            'of these keypoints.'
        )
    image = truth.imgs[ann['image_id']]
    _, issues = repair_instance(ann, (image['width'], image['height']), num_keypoints)
    for issue in issues:
        if issue.fatal_in_test:
            raise PredictionsFileError(
                f'{title}: {issue.rule}: expected {issue.expected}, found '
                f'{issue.found}. Repair the file and test again.'
            )


def analyze(run: Run, threshold: float) -> Analysis:
    """Compute the analysis of a run.

    Args:
        run (Run): From :func:`load_runs`.
        threshold (float): People with a lower score do not count in the
            score of an image.
    """
    data = run.data
    results: dict[str, COCOeval] = {task: data.run(task) for task in data.entries}
    groups = dict(
        size=by_size(data, results), people=by_people(data), occlusion=by_occlusion(data)
    )
    errors = crowded_errors = visibility = None
    if 'keypoints' in data.entries:
        groups['visibility'] = by_visibility(data)
        mirror = run.content['keypoints']['flip_indices']
        errors = find_keypoint_errors(data, mirror)
        crowded_errors = find_keypoint_errors(data, mirror, find_uncrowded(data))
        if has_visibility(data.entries['keypoints']):
            visibility = evaluate_visibility([data])
    curves = {t: precision_curves(result) for t, result in results.items()}
    return Analysis(
        run,
        curves,
        groups,
        errors,
        crowded_errors,
        compare_rankings(data),
        visibility,
        image_scores(data, threshold),
    )
