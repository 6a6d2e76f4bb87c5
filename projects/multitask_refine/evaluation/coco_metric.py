"""COCO metric of boxes, masks and keypoints."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmdet.registry import METRICS
from mmdet.structures.mask import encode_mask_results
from mmengine.evaluator import BaseMetric
from mmengine.fileio import get_local_path
from mmengine.logging import MMLogger
from pycocotools.coco import COCO

from multitask_refine.datasets import (
    AnnotationError,
    KeypointMapping,
    keypoints_per_class,
    order_categories,
)
from multitask_refine.utils.errors import ConfigError
from multitask_runtime.utils.category_meta import category_meta

from .coco_scores import (
    TASKS,
    CocoData,
    Sigmas,
    evaluate,
    evaluate_classes,
    evaluate_each_keypoint,
    labeled_part,
    load_ground_truth,
    result_entries,
    with_keypoints,
)
from .predictions import collect_predictions, file_sha256, write_predictions
from .submission import write_submission
from .table import ROWS, format_rows, format_table
from .visibility import LEVELS, evaluate_visibility, has_visibility

# Field of the predicted instances by task.
FIELDS = dict(bbox='bboxes', segm='masks', keypoints='keypoints')
KEYPOINT_RANKINGS = ('bbox', 'bbox_keypoint', 'bbox_oks')
MASK_RANKINGS = ('bbox', 'bbox_iou')


@METRICS.register_module()
class MultitaskCocoMetric(BaseMetric):
    """Evaluate boxes, masks and keypoints by COCO's average precision.

    The metrics are ``<prefix>/<task>_<name>`` in percent, e.g.
    ``coco/keypoints_AP50``; a value for which the data has no ground truth
    is NaN. A table of the three tasks goes to the log. Images of the file
    that were not tested, of a dataset with ``indices`` say, do not count.
    Each task counts the images and instances that are labeled for it, and
    the log says how many if that is not all.

    Boxes are ranked by the box score. Keypoints are ranked by
    ``keypoint_ranking``: ``'bbox'`` takes the box score, ``'bbox_keypoint'``
    multiplies it by the mean score of the instance's keypoints, as MMPose's
    ``score_mode`` of that name, and ``'bbox_oks'`` by the predicted OKS of a
    ``KeypointScoreBranch``. Masks are ranked by ``mask_ranking``: ``'bbox'``,
    or ``'bbox_iou'``, times the predicted IoU of a ``MaskScoreBranch``.

    Categories that have keypoints of their own (``category_metas`` of the
    metainfo) are evaluated with these, in their order and with their sigmas;
    keypoint metrics are averages over the categories that have keypoints.

    If the network predicts the visibility of keypoints, there are metrics of it, too:
    ``visibility_<name>`` with average precision, accuracy and calibration error in
    percent, see :func:`evaluate_visibility`.

    With ``format_only`` nothing is evaluated and no ground truth is needed:
    masks and keypoints are written as the files that COCO's evaluation server
    takes, see :func:`write_submission`.

    Args:
        ann_file (str): The COCO-format annotation file. Its 'annotations'
            may be missing with ``format_only``.
        tasks (Sequence[str], optional): Any of 'bbox', 'segm' and
            'keypoints'. Defaults to those that the network predicts: boxes,
            and what it has a head for.
        keypoint_ranking (str): See above. Defaults to 'bbox_keypoint'.
        mask_ranking (str): See above. Defaults to 'bbox'.
        keypoint_shift (float): Offset of the network's keypoint coordinates from
            the file's, in pixels. The default 0.5 is the offset of a pixel's
            center from its index; 0 is for networks that were trained on
            the file's coordinates as they are, such as torchvision's.
        collect_device (str): As in MMEngine. Defaults to 'cpu'.
        prefix (str, optional): Defaults to 'coco'.
        format_only (bool): See above. Defaults to False.
        outfile_prefix (str, optional): With ``format_only``, the folder and
            the name of the algorithm, 'folder/name'.
        keypoints_from (str | dict, optional): The meta file of ``ann_file``,
            if the data set maps its keypoints to the network's; the same
            value as there. Then the keypoints that both have are evaluated,
            with the network's sigmas.
        predictions_file (str, optional): Also write all predictions to this
            .json file, in the format that ``predictions.py`` describes.
        classwise (bool): Also give the AP of each class,
            ``<task>_AP_<class>``, with a table. Defaults to False.
        keypointwise (bool): Also give the AP of each keypoint by its own
            OKS, ``keypoints_AP_<keypoint>``, with a table, see
            :func:`evaluate_each_keypoint`. Defaults to False.
        joint_shift (float, optional): What configs of earlier versions call ``keypoint_shift``.

    Raises:
        ConfigError: If a task or a ranking is unknown, or if ``format_only``
            lacks its ``outfile_prefix`` or a task to write.
    """

    default_prefix = 'coco'

    def __init__(
        self,
        ann_file: str,
        tasks: Sequence[str] | None = None,
        keypoint_ranking: str = 'bbox_keypoint',
        keypoint_shift: float = 0.5,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        keypoints_from: str | dict[str, Any] | None = None,
        predictions_file: str | None = None,
        classwise: bool = False,
        keypointwise: bool = False,
        joint_shift: float | None = None,
        mask_ranking: str = 'bbox',
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        unknown = sorted(set(tasks or ()) - set(TASKS))
        if unknown:
            raise ConfigError(f'tasks: expected some of {TASKS}, got {unknown}')
        for name, value, known in (
            ('keypoint_ranking', keypoint_ranking, KEYPOINT_RANKINGS),
            ('mask_ranking', mask_ranking, MASK_RANKINGS),
        ):
            if value not in known:
                raise ConfigError(
                    f'{name}: expected {" or ".join(map(repr, known))}, got {value!r}'
                )
        if format_only and not outfile_prefix:
            raise ConfigError(
                "format_only needs outfile_prefix='folder/name': "
                "where the files go and the algorithm's name"
            )
        if format_only and tasks and set(tasks) <= {'bbox'}:
            raise ConfigError(
                f"format_only writes 'segm' and 'keypoints'; tasks has neither: {list(tasks)}"
            )
        self.ann_file = ann_file
        self.tasks = tasks and list(tasks)
        self.keypoint_ranking = keypoint_ranking
        self.mask_ranking = mask_ranking
        self.keypoint_shift = keypoint_shift if joint_shift is None else joint_shift
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self.keypoints_from = keypoints_from
        self.predictions_file = predictions_file
        self.classwise = classwise
        self.keypointwise = keypointwise

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[dict[str, Any]]) -> None:
        """Collect the predictions of a batch as COCO result entries."""
        for sample in data_samples:
            self.results.append(self._encode(sample))

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Evaluate the predictions of all ranks, or write them.

        Args:
            results (list[dict]): Per image ``img_id``, ``img_path``,
                ``labels`` and for each task a list of COCO result entries.

        Returns:
            dict[str, float]: ``<task>_<name>`` in percent; nothing with
            ``format_only``.

        Raises:
            AnnotationError: If there is no ground truth to evaluate with, or
                a class has no category in the file.
        """
        with get_local_path(self.ann_file) as path:
            mapping = None
            if self.keypoints_from:
                mapping = KeypointMapping(self.keypoints_from, self.dataset_meta)
            coco = load_ground_truth(
                path, keypoints_per_class(self.dataset_meta, self.dataset_meta['classes']), mapping
            )
            # The predictions file names the annotations that it belongs to.
            annotations = dict(file=self.ann_file, sha256=file_sha256(path))
        categories = [
            category['id']
            for category in order_categories(
                coco.dataset['categories'], self.dataset_meta['classes'], self.ann_file
            )
        ]
        tasks = self.tasks or [task for task in TASKS if not results or task in results[0]]
        entries = {task: result_entries(results, task, categories) for task in tasks}
        if self.format_only:
            metrics = self._write(entries, coco, len(results))
        else:
            metrics = self._evaluate(entries, coco, categories, results, mapping)
        if self.predictions_file:
            content = collect_predictions(
                results, tasks, categories, self.dataset_meta, annotations
            )
            write_predictions(self.predictions_file, content, metrics, None)
        return metrics

    def _evaluate(
        self,
        entries: dict[str, list[dict[str, Any]]],
        coco: COCO,
        categories: list[int],
        results: list[dict[str, Any]],
        mapping: KeypointMapping | None,
    ) -> dict[str, Any]:
        """Compute the metrics of all tasks and log their tables."""
        if not coco.dataset.get('annotations'):
            raise AnnotationError(
                f'{self.ann_file}: has no "annotations" to evaluate with. '
                "Write the files for COCO's server instead: "
                'tools/test.py --format-only'
            )
        images = [result['img_id'] for result in results]
        names = self.dataset_meta.get('keypoint_id2name')
        sigmas = self.dataset_meta['sigmas']
        # a dict by index, in any order
        names = names and [names[index] for index in range(len(names))]
        if 'category_metas' in self.dataset_meta:
            metas = dict(zip(categories, self.dataset_meta['category_metas'], strict=True))
            sigmas = {each: own['sigmas'] for each, own in metas.items()}
            names = {
                each: [names[index] for index in own['indices']] for each, own in metas.items()
            }
        logger = MMLogger.get_current_instance()
        for task in entries:
            part = labeled_part(coco, task, with_keypoints(task, sigmas, categories), images)
            if part.labeled < part.instances:
                logger.info(
                    f'{ROWS[task]}: {part.labeled} of {part.instances} '
                    f'instances are labeled; {len(part.images)} of '
                    f'{len(images)} images count'
                )
        found = evaluate(coco, entries, sigmas, categories, images)
        metrics = {
            f'{task}_{name}': value
            for task, figures in found.items()
            for name, value in figures.items()
        }
        tables = [format_table(metrics)]
        if has_visibility(entries.get('keypoints', ())):
            visibility = self._evaluate_visibility(
                entries['keypoints'], coco, sigmas, categories, images, mapping
            )
            tables.append(
                format_rows(
                    'keypoints that are',
                    {name: {'AP': visibility[f'AP_{name}']} for name in LEVELS},
                )
            )
            metrics.update({f'visibility_{name}': value for name, value in visibility.items()})
        details = {}
        if self.classwise:
            details['class'] = evaluate_classes(coco, entries, sigmas, categories, images)
        if self.keypointwise and 'keypoints' in entries:
            details['keypoint'] = evaluate_each_keypoint(
                coco, entries['keypoints'], sigmas, names, categories, images
            )
        for title, rows in details.items():
            tables.append(format_rows(title, rows))
            metrics.update(
                {
                    f'{metric}_{name}': value
                    for name, row in rows.items()
                    for metric, value in row.items()
                }
            )
        logger.info(f'{self.ann_file}:\n' + '\n\n'.join(tables))
        return metrics

    @staticmethod
    def _evaluate_visibility(
        entries: list[dict[str, Any]],
        coco: COCO,
        sigmas: Sigmas,
        categories: list[int],
        images: list[int],
        mapping: KeypointMapping | None,
    ) -> dict[str, float]:
        """Compute the metrics of the visibility over the categories that have keypoints."""
        own = sigmas if isinstance(sigmas, Mapping) else dict.fromkeys(categories, sigmas)
        parts = [
            CocoData(
                coco,
                dict(keypoints=[each for each in entries if each['category_id'] == category]),
                own[category],
                [category],
                images,
            )
            for category in with_keypoints('keypoints', sigmas, categories)
        ]
        unlabeled = (
            [i for i, source in enumerate(mapping.sources) if source < 0] if mapping else []
        )
        return evaluate_visibility(parts, unlabeled).metrics

    def _write(
        self, entries: dict[str, list[dict[str, Any]]], coco: COCO, num_images: int
    ) -> dict[str, Any]:
        """Write the files for COCO's evaluation server; there are no metrics."""
        logger = MMLogger.get_current_instance()
        logger.info(f'{num_images} of the {len(coco.imgs)} images of {self.ann_file} were tested')
        for task in (t for t in entries if t != 'bbox'):
            # Not those of categories without keypoints.
            results = [each for each in entries[task] if each.get('keypoints') != []]
            path = write_submission(task, results, coco, self.ann_file, str(self.outfile_prefix))
            logger.info(f'{task}: {len(results)} results, read back without fault: {path}')
        return {}

    def _encode(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Return the predictions of an image as COCO result entries of each task."""
        pred = sample['pred_instances']
        tasks = self.tasks or [task for task, field in FIELDS.items() if field in pred]
        scores = pred['scores'].cpu().numpy().astype(float)
        labels = pred['labels'].cpu().tolist()
        result = dict(img_id=sample['img_id'], img_path=sample.get('img_path'), labels=labels)
        if 'bbox' in tasks:
            boxes = pred['bboxes'].cpu().numpy().astype(float)  # (N, 4)
            boxes[:, 2:] -= boxes[:, :2]  # xyxy to xywh
            result['bbox'] = [
                dict(bbox=box.tolist(), score=score)
                for box, score in zip(boxes, scores, strict=True)
            ]
        if 'segm' in tasks:
            masks = encode_mask_results(pred['masks'].cpu().numpy())  # RLE of (H, W) each
            mask_scores = self._get_scores(pred, 'mask_scores', self.mask_ranking == 'bbox_iou')
            result['segm'] = []
            for i, (mask, score) in enumerate(zip(masks, scores, strict=True)):
                entry = dict(segmentation=mask, score=score)
                if mask_scores is not None:
                    entry['mask_score'] = float(mask_scores[i])
                    if self.mask_ranking == 'bbox_iou':
                        entry['score'] = float(score * mask_scores[i])
                result['segm'].append(entry)
        if 'keypoints' in tasks:
            points = pred['keypoints'].cpu().numpy().astype(float) - self.keypoint_shift
            visibility = pred['keypoint_scores'].cpu().numpy().astype(float)
            keypoints = np.concatenate([points, visibility[..., None]], -1)  # (N, K, 3)
            pose_scores = self._get_scores(
                pred, 'pose_scores', self.keypoint_ranking == 'bbox_oks'
            )
            result['keypoints'] = []
            for i, (own, label, score) in enumerate(zip(keypoints, labels, scores, strict=True)):
                # of the union only those that the category has, in its order
                indices = category_meta(self.dataset_meta, label).get('indices', slice(None))
                own = own[indices]
                if self.keypoint_ranking == 'bbox_keypoint' and len(own):
                    # COCO sorts by one score: that of box and keypoints
                    score = score * own[:, 2].mean()
                entry = dict(keypoints=own.flatten().tolist(), score=float(score))
                if pose_scores is not None:
                    entry['pose_score'] = float(pose_scores[i])
                    if self.keypoint_ranking == 'bbox_oks':
                        entry['score'] = float(score * pose_scores[i])
                if 'keypoints_visible_probs' in pred:
                    probs = pred['keypoints_visible_probs'][i].cpu().numpy()  # (K, 3)
                    entry['keypoints_visible_probs'] = (
                        probs[indices].astype(float).round(4).tolist()
                    )
                result['keypoints'].append(entry)
        return result

    @staticmethod
    def _get_scores(pred: dict[str, Any], field: str, required: bool) -> np.ndarray | None:
        """Return the scores of a branch, (N); None where the network has no such branch."""
        if field in pred:
            scores: np.ndarray = pred[field].cpu().numpy().astype(float)
            return scores
        if not required:
            return None
        name, ranking, branch = (
            ('keypoint_ranking', 'bbox_oks', 'KeypointScoreBranch')
            if field == 'pose_scores'
            else ('mask_ranking', 'bbox_iou', 'MaskScoreBranch')
        )
        raise ConfigError(
            f'test_evaluator.{name}={ranking!r}: expected a network that predicts {field}, found '
            f'one that does not. Test one with a {branch} (docs/branches.md), or rank otherwise.'
        )
