"""COCO evaluation of a dataset, of single classes and keypoints, or of a subset."""

import contextlib
import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from faster_coco_eval import COCO as FastCOCO
from faster_coco_eval import COCOeval_faster
from pycocotools import mask as mask_codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from multitask_refine.datasets import KeypointMapping, read_annotations
from multitask_refine.datasets.validation.annotations import keypoints_by_category

TASKS = ('bbox', 'segm', 'keypoints')
# What labels an instance for a task. COCO's persons have all three, also those
# without a labeled keypoint.
_FIELDS = dict(bbox='bbox', segm='segmentation', keypoints='keypoints')
# Settings for CocoData.run where the figures of sizes are not needed.
ALL_SIZES = dict(areaRng=[[0, 1e10]], areaRngLbl=['all'])
# OKS from which a detection belongs to a person: low, because the question
# is what is wrong with it.
MATCH = 0.1
_BOX_NAMES = (
    'AP',
    'AP50',
    'AP75',
    'APS',
    'APM',
    'APL',
    'AR1',
    'AR10',
    'AR100',
    'ARS',
    'ARM',
    'ARL',
)
# Of each keypoint; by category id if categories have keypoints of their own.
Sigmas = Sequence[float] | Mapping[int, Sequence[float]]
_KEYPOINT_NAMES = ('AP', 'AP50', 'AP75', 'APM', 'APL', 'AR', 'AR50', 'AR75', 'ARM', 'ARL')


class CocoData(NamedTuple):
    """Ground truth and predictions of an evaluation.

    Attributes:
        truth: The annotations, from :func:`load_ground_truth`.
        entries: For each task COCO's result entries. Entry i of every task
            is of the same person.
        sigmas: OKS sigma of each of the K keypoints.
        categories: Ids of the categories that count.
        images: Ids of the images that were tested.
    """

    truth: COCO
    entries: dict[str, list[dict[str, Any]]]
    sigmas: Sequence[float]
    categories: Sequence[int]
    images: Sequence[int]

    def run(self, task: str, ignored: Collection[int] = (), **params: object) -> COCOeval:
        """Evaluate one task.

        Args:
            task (str): One of ``entries``.
            ignored (Collection[int]): Ids of annotations that are neither to
                be found nor false when they are, as COCO's crowds.
            params: Settings of ``COCOeval.params`` in place of COCO's.

        Returns:
            COCOeval: With ``evalImgs`` and ``eval``.
        """
        part = labeled_part(self.truth, task, self.categories, self.images)
        with contextlib.redirect_stdout(io.StringIO()):
            if self.entries[task]:
                # Copies, because pycocotools writes into them.
                found = part.truth.loadRes([dict(entry) for entry in self.entries[task]])
            else:  # which loadRes does not accept
                found = build_coco(dict(part.truth.dataset, annotations=[]))
            result = _RestrictedEval(part.truth, found, task)
            result.ignored = frozenset(ignored)
            result.params.catIds = list(self.categories)
            result.params.imgIds = part.images
            result.params.kpt_oks_sigmas = np.array(self.sigmas)
            for name, value in params.items():  # after COCO's own, which the constructor sets
                setattr(result.params, name, value)
            result.evaluate()
            result.accumulate()
        return result


class _RestrictedEval(COCOeval):
    """COCO evaluation in which annotations can be ignored by their id."""

    ignored: Collection[int] = ()

    def _prepare(self) -> None:
        super()._prepare()
        for people in self._gts.values():
            for person in people:
                # as its crowds: matched, but not counted
                person['ignore'] |= person['id'] in self.ignored


def load_ground_truth(
    path: str, num_keypoints: int | Mapping[str, int], mapping: KeypointMapping | None = None
) -> COCO:
    """Load an annotation file for pycocotools.

    With a ``mapping``, in the network's keypoints instead of the file's.
    ``num_keypoints`` is one number, or that of each category by its name.
    Instances without keypoints get none labeled, and ``num_keypoints`` is
    filled in where the file lacks it, because pycocotools insists on both. The
    tasks that the file labels an instance for stay in its ``labeled``.
    Annotations are counted from 1 unless all have ids that the libraries
    tell apart: they take 0 for no annotation, and keep ids as floats.
    """
    content = read_annotations(path)
    if 'annotations' not in content:
        return build_coco(content)
    if mapping:
        content['annotations'] = mapping.convert(content['annotations'])
    ids = [ann['id'] for ann in content['annotations']]
    are_fine = all(type(each) is int and 0 < each < 2**53 for each in ids) and len(
        set(ids)
    ) == len(ids)
    counts = {}
    if not isinstance(num_keypoints, int):
        counts = keypoints_by_category(content['categories'], num_keypoints)
    annotations = []
    for index, ann in enumerate(content['annotations'], 1):
        count = (
            num_keypoints if isinstance(num_keypoints, int) else counts.get(ann['category_id'], 0)
        )
        flat = ann.get('keypoints') or [0] * (3 * count)
        seen = sum(visibility > 0 for visibility in flat[2::3])
        annotations.append(
            {
                'num_keypoints': seen,
                **ann,
                'keypoints': flat,
                'id': ann['id'] if are_fine else index,
                'labeled': [task for task, field in _FIELDS.items() if ann.get(field)],
            }
        )
    return build_coco(dict(content, annotations=annotations))


class Matches(NamedTuple):
    """Detections and the people that they belong to.

    Attributes:
        pairs: Result entry of the detection and annotation of the person.
        unmatched: Result entries of the detections that belong to nobody.
        people: Number of people that count.
    """

    pairs: list[tuple[dict[str, Any], dict[str, Any]]]
    unmatched: list[dict[str, Any]]
    people: int


def match_people(
    data: CocoData, ignored: Collection[int] = (), task: str = 'keypoints'
) -> Matches:
    """Match detections to people by OKS, or IoU.

    As COCO does, highest score first and at most 20 in an image (100 masks), but from an OKS or
    IoU of :data:`MATCH` on. Crowds, and for keypoints people without labeled ones, do not count.

    Args:
        data (CocoData): With the task.
        ignored (Collection[int]): Ids of annotations that do not count either.
        task (str): Defaults to 'keypoints'.
    """
    # one threshold: dtMatches (1, D)
    result = data.run(task, ignored, iouThrs=np.array([MATCH]), **ALL_SIZES)
    pairs, unmatched, people = [], [], 0
    for image in filter(None, result.evalImgs):
        people += int(np.sum(np.equal(image['gtIgnore'], 0)))
        for detection, person, is_ignored in zip(
            image['dtIds'], image['dtMatches'][0], image['dtIgnore'][0], strict=True
        ):
            if is_ignored:
                continue
            entry = result.cocoDt.anns[detection]
            if person:
                pairs.append((entry, result.cocoGt.anns[int(person)]))
            else:
                unmatched.append(entry)
    return Matches(pairs, unmatched, people)


class LabeledPart(NamedTuple):
    """Images and annotations that count in the evaluation of a task.

    Attributes:
        truth: The annotations, in which the instances that are not labeled
            for the task are crowds: their box is a region in which detections
            are neither right nor wrong.
        images: Ids of the images that count, sorted: not those whose
            instances are all unlabeled.
        labeled: Number of labeled instances in the tested images.
        instances: Number of all instances there; crowds count in neither.
    """

    truth: COCO
    images: list[int]
    labeled: int
    instances: int


def labeled_part(
    truth: COCO, task: str, categories: Sequence[int], images: Sequence[int]
) -> LabeledPart:
    """Restrict the ground truth to what is labeled for a task.

    A fully labeled file, as COCO's, stays as it is.

    Args:
        truth (COCO): From :func:`load_ground_truth`.
        task (str): One of :data:`TASKS`.
        categories (Sequence[int]): Ids of the categories that count.
        images (Sequence[int]): Ids of the images that were tested.
    """
    tested, kept = set(images), set(categories)
    labeled: Counter[int | str] = Counter()
    unlabeled: Counter[int | str] = Counter()
    annotations: list[dict[str, Any]] = []
    for ann in truth.dataset['annotations']:
        is_labeled = task in ann.get('labeled', TASKS)
        if is_labeled:
            annotations.append(ann)
        else:  # a crowd region that fills the box
            x, y, width, height = ann['bbox']
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            annotations.append(dict(ann, iscrowd=1, segmentation=[corners]))
        if ann['image_id'] in tested and ann['category_id'] in kept and not ann['iscrowd']:
            counter = labeled if is_labeled else unlabeled
            counter[ann['image_id']] += 1
    if any(
        new is not old for new, old in zip(annotations, truth.dataset['annotations'], strict=True)
    ):
        truth = build_coco(dict(truth.dataset, annotations=annotations))
    return LabeledPart(
        truth,
        # In an image where nothing is labeled, every detection would count as false.
        sorted(tested - (unlabeled.keys() - labeled.keys())),
        sum(labeled.values()),
        sum(labeled.values()) + sum(unlabeled.values()),
    )


def build_coco(dataset: dict[str, Any]) -> COCO:
    """Build pycocotools' index of the content of an annotation file."""
    coco = COCO()
    coco.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def result_entries(
    results: Sequence[dict[str, Any]], task: str, categories: Sequence[int]
) -> list[dict[str, Any]]:
    """Collect the COCO result entries of a task over all images.

    Args:
        results (Sequence[dict]): Of each image ``img_id``, ``labels`` and
            for each task its entries.
        task (str): The task.
        categories (Sequence[int]): Category id of each label.
    """
    return [
        dict(entry, image_id=result['img_id'], category_id=categories[label])
        for result in results
        for entry, label in zip(result[task], result['labels'], strict=True)
    ]


def figures(result: COCOeval) -> dict[str, float]:
    """Summarize an evaluation with COCO's settings.

    Args:
        result (COCOeval): From :meth:`CocoData.run`.

    Returns:
        dict[str, float]: By COCO's names in percent, NaN without ground
        truth.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        result.summarize()
    # COCO summarizes keypoints without small instances: ten figures, not twelve.
    names = _KEYPOINT_NAMES if result.params.iouType == 'keypoints' else _BOX_NAMES
    return {
        name: float(value) * 100 if value >= 0 else float('nan')  # COCO's -1: no ground truth
        for name, value in zip(names, result.stats, strict=True)
    }


def evaluate(
    ground_truth: COCO,
    entries: dict[str, list[dict[str, Any]]],
    sigmas: Sigmas,
    categories: Sequence[int],
    images: Sequence[int],
) -> dict[str, dict[str, float]]:
    """Evaluate tasks by faster-coco-eval, pycocotools' procedure in C++.

    Its numbers are those of pycocotools, which stays the reference: the
    tests compare them. Each task counts what is labeled for it, see
    :func:`labeled_part`.

    Args:
        ground_truth (COCO): The annotations.
        entries (dict[str, list[dict]]): COCO result entries by task.
        sigmas (Sequence[float] | Mapping[int, Sequence[float]]): OKS sigma
            of each keypoint; of categories that have keypoints of their own by
            their ids. Then each category is evaluated by itself, and the
            figures are averaged, as COCO averages over categories.
        categories (Sequence[int]): Category ids to evaluate.
        images (Sequence[int]): Image ids to evaluate.

    Returns:
        dict[str, dict[str, float]]: By task COCO's figures in percent, NaN
        without ground truth.
    """
    found: dict[str, dict[str, float]] = {}
    whole = FastCOCO(ground_truth.dataset)  # shared by all tasks that are labeled completely
    for task in entries:
        counted = with_keypoints(task, sigmas, categories)
        part = labeled_part(ground_truth, task, counted, images)
        truth = whole if part.truth is ground_truth else FastCOCO(part.truth.dataset)
        if not isinstance(sigmas, Mapping) or task != 'keypoints':
            detections = _detections(truth, entries[task], task)
            # boxes and masks have no use for the sigmas
            of_task = [] if isinstance(sigmas, Mapping) else sigmas
            result = _run_fast(truth, detections, task, of_task, categories, part.images)
            found[task] = figures(result)
            continue
        # each category by itself, because only its own keypoints are equally many
        rows = []
        for category in counted:
            own = [
                [each for each in everything if each['category_id'] == category]
                for everything in (truth.dataset['annotations'], entries[task])
            ]
            own_truth = FastCOCO(dict(truth.dataset, annotations=own[0]))
            detections = _detections(own_truth, own[1], task)
            result = _run_fast(
                own_truth, detections, task, sigmas[category], [category], part.images
            )
            rows.append(figures(result))
        found[task] = _mean(rows, _KEYPOINT_NAMES)
    return found


def with_keypoints(task: str, sigmas: Sigmas, categories: Sequence[int]) -> list[int]:
    """Select the categories that a task evaluates: for keypoints, those with keypoints."""
    if task != 'keypoints' or not isinstance(sigmas, Mapping):
        return list(categories)
    return [each for each in categories if len(sigmas[each])]


def _mean(figures: Sequence[dict[str, float]], names: Sequence[str]) -> dict[str, float]:
    """Average each figure over the categories that have ground truth."""
    averaged = {}
    for name in names:
        values = [each[name] for each in figures if not np.isnan(each[name])]
        averaged[name] = float(np.mean(values)) if values else float('nan')
    return averaged


def evaluate_classes(
    ground_truth: COCO,
    entries: dict[str, list[dict[str, Any]]],
    sigmas: Sigmas,
    categories: Sequence[int],
    images: Sequence[int],
) -> dict[str, dict[str, float]]:
    """Evaluate each category alone.

    Args:
        ground_truth (COCO): See :func:`evaluate`, as for all arguments.
        entries (dict[str, list[dict]]): COCO result entries by task.
        sigmas (Sequence[float] | Mapping[int, Sequence[float]]): Of the keypoints.
        categories (Sequence[int]): Ids of the categories.
        images (Sequence[int]): Ids of the images.

    Returns:
        dict[str, dict[str, float]]: By the category's name ``<task>_AP`` in
        percent, NaN without ground truth.
    """
    rows = {}
    for category in categories:
        tasks = evaluate(ground_truth, entries, sigmas, [category], images)
        rows[ground_truth.cats[category]['name']] = {
            f'{task}_AP': found['AP'] for task, found in tasks.items()
        }
    return rows


def evaluate_each_keypoint(
    ground_truth: COCO,
    entries: list[dict[str, Any]],
    sigmas: Sigmas,
    names: Sequence[str] | Mapping[int, Sequence[str]],
    categories: Sequence[int],
    images: Sequence[int],
) -> dict[str, dict[str, float]]:
    """Evaluate each keypoint as if it were the only one that is labeled.

    OKS is then that keypoint's own, exp(-d^2 / (2 area (2 sigma)^2)).
    Predictions keep their score, and an instance without the keypoint is
    ignored, as COCO does with one without any. Of categories that have
    keypoints of their own, the AP of a name is averaged over those that have
    it.

    Args:
        ground_truth (COCO): The annotations.
        entries (list[dict]): COCO result entries of keypoints.
        sigmas (Sequence[float] | Mapping[int, Sequence[float]]): As in
            :func:`evaluate`.
        names (Sequence[str] | Mapping[int, Sequence[str]]): The names of
            these keypoints.
        categories (Sequence[int]): Ids of the categories.
        images (Sequence[int]): Ids of the images.

    Returns:
        dict[str, dict[str, float]]: By the keypoint's name ``keypoints_AP``
        in percent, NaN where it is never labeled.
    """
    rows: dict[str, Any] = {}
    if isinstance(sigmas, Mapping):
        for category in with_keypoints('keypoints', sigmas, categories):
            truth = build_coco(
                dict(
                    ground_truth.dataset,
                    annotations=[
                        ann
                        for ann in ground_truth.dataset['annotations']
                        if ann['category_id'] == category
                    ],
                )
            )
            own = evaluate_each_keypoint(
                truth,
                [each for each in entries if each['category_id'] == category],
                sigmas[category],
                names[category],
                [category],
                images,
            )
            for name, row in own.items():
                rows.setdefault(name, []).append(row)
        return {name: _mean(each, ['keypoints_AP']) for name, each in rows.items()}
    for index, name in enumerate(map(str, names)):
        annotations = []
        for ann in ground_truth.dataset['annotations']:
            visible = ann['keypoints'][3 * index + 2]
            keypoints = list(ann['keypoints'])
            keypoints[2::3] = [0] * len(names)  # unlabel all but the one
            keypoints[3 * index + 2] = visible
            annotations.append(dict(ann, keypoints=keypoints, num_keypoints=int(visible > 0)))
        alone = build_coco(dict(ground_truth.dataset, annotations=annotations))
        found = evaluate(alone, dict(keypoints=entries), sigmas, categories, images)
        rows[name] = dict(keypoints_AP=found['keypoints']['AP'])
    return rows


def _run_fast(
    truth: FastCOCO,
    detections: FastCOCO,
    task: str,
    sigmas: Sequence[float],
    categories: Sequence[int],
    images: Sequence[int],
) -> COCOeval_faster:
    result = COCOeval_faster(truth, detections, task)
    result.params.catIds = list(categories)
    result.params.imgIds = sorted(images)
    result.params.kpt_oks_sigmas = np.array(sigmas)
    result.evaluate()
    result.accumulate()
    return result


def _detections(truth: FastCOCO, entries: list[dict[str, Any]], task: str) -> FastCOCO:
    """Load result entries, as pycocotools' ``loadRes`` does.

    Their areas are those by which COCO sorts detections into small to large.
    """
    areas: list[float] = []
    if task == 'segm':
        # One by one: a list of them overflows in pycocotools under numpy 2.
        areas = [float(mask_codec.area(entry['segmentation'])) for entry in entries]
    elif task == 'bbox' and entries:
        areas = np.array([entry['bbox'] for entry in entries])[:, 2:].prod(1).tolist()
    elif entries:
        keypoints = np.array([entry['keypoints'] for entry in entries])  # (N, 3K)
        points = keypoints.reshape(len(entries), -1, 3)[..., :2]  # (N, K, 2)
        areas = (points.max(1) - points.min(1)).prod(1).tolist()
    annotations = [
        dict(entry, id=i + 1, iscrowd=0, area=area)
        for i, (entry, area) in enumerate(zip(entries, areas, strict=True))
    ]
    return FastCOCO(dict(truth.dataset, annotations=annotations))
