"""Compare network, data, metrics and checkpoint once, before the first
iteration."""

import json
from pathlib import Path
from typing import Dict, Iterator, List, Optional

from mmdet.registry import HOOKS
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import Dataset

from multitask_refine.engine.runner.start_weights import check_start_weights
from multitask_refine.evaluation import TASKS, MultitaskCocoMetric
from multitask_refine.utils.errors import ConfigError

# The head of the RoI head that each task needs, and what its labels are.
HEADS = dict(bbox='bbox_head', segm='mask_head', keypoints='keypoint_head')
# Transforms of mmdet that change boxes and not masks, or lose keypoints.
_BOXES_ONLY = frozenset(
    (
        'Albu',
        'CachedMixUp',
        'CachedMosaic',
        'CopyPaste',
        'MixUp',
        'Mosaic',
        'RandomAffine',
        'RandomCenterCropPad',
        'RandomErasing',
    )
)
_LABELS = dict(bbox='a box', segm='a segmentation', keypoints='a keypoint with visibility 1 or 2')


def check_consistency(
    model: nn.Module,
    metas: Dict[str, dict],
    datasets: Optional[Dict[str, Dataset]] = None,
    evaluators: Optional[Dict[str, Evaluator]] = None,
    saved: Optional[dict] = None,
) -> None:
    """Refuse parts of a run that contradict each other.

    Training, ``tools/test.py``, the inferencers and the exporter call it,
    each with the parts that it has.

    Args:
        model (nn.Module): The network. One without the heads of
            ``MultitaskRoIHead`` is compared by its ``dataset_meta``, if it
            has one.
        metas (dict[str, dict]): By the setting of a data set, such as
            'test_dataloader.dataset', its classes and keypoints in mmpose's
            terms.
        datasets (dict[str, Dataset], optional): Data sets by their settings.
        evaluators (dict[str, Evaluator], optional): By 'val' or 'test'.
        saved (dict, optional): Classes and keypoints that the checkpoint was
            trained with.

    Raises:
        ConfigError: One sentence with the setting, what was expected, what
            was found and how to mend it.
        FileNotFoundError: If the annotation file of a metric is missing.
    """
    roi_head = find_roi_head(model)
    first, *others = metas
    for name in others:
        _compare_metas(metas[first], metas[name], first, name)
    if roi_head is not None:
        _compare_heads(roi_head, first, metas[first])
    saved = saved or getattr(model, 'dataset_meta', None)
    if saved:
        _compare_metas(saved, metas[first], 'the checkpoint', first)
    datasets = datasets or {}
    for name, dataset in datasets.items():
        if len(dataset) == 0:
            raise ConfigError(
                f'{name}: expected at least one image, found none. See '
                'whether its ann_file has annotations of its classes, and '
                'what its filter_cfg and indices leave of them.'
            )
    training = datasets.get('train_dataloader.dataset')
    if training is not None:
        check_transforms(training, 'train_dataloader.dataset')
    if roi_head is not None and training is not None:
        _compare_labels(roi_head, training)
    for split, evaluator in (evaluators or {}).items():
        dataset = datasets.get(f'{split}_dataloader.dataset')
        for metric in evaluator.metrics:
            if isinstance(metric, MultitaskCocoMetric):
                _compare_metric(metric, f'{split}_evaluator', roi_head, dataset)


def find_roi_head(model: nn.Module) -> Optional[nn.Module]:
    """The RoI head of a network, inside its wrappers too, if it has one."""
    while hasattr(model, 'module'):  # of distribution or augmentation
        model = model.module
    return getattr(model, 'roi_head', None)


def list_metas(dataset: Dataset, setting: str) -> Dict[str, dict]:
    """List the metainfo of a data set by its setting.

    mmdet's ``ConcatDataset`` of sets that differ has one of each of them.
    """
    meta = getattr(dataset, 'metainfo', {})
    metas = (
        {setting: meta}
        if isinstance(meta, dict)
        else {f'{setting}.datasets[{i}]': each for i, each in enumerate(meta)}
    )
    return {name: each for name, each in metas.items() if 'classes' in each}


def check_transforms(dataset: Dataset, setting: str) -> None:
    """Refuse transforms of mmdet that move boxes and not their masks, or lose
    their keypoints.

    Args:
        dataset (Dataset): The data set, with its wrappers.
        setting (str): Its setting, for the message.

    Raises:
        ConfigError: Names the transform.
    """
    steps = []
    while dataset is not None:
        pipeline = getattr(dataset, 'pipeline', ())
        steps += getattr(pipeline, 'transforms', pipeline)
        for part in getattr(dataset, 'datasets', ()):
            check_transforms(part, setting)
        dataset = getattr(dataset, 'dataset', None)
    for step in steps:
        if type(step).__name__ in _BOXES_ONLY:
            raise ConfigError(
                f'{setting}: pipeline: expected transforms that move masks '
                f'and keypoints with the boxes, found {type(step).__name__}. '
                'Use MultitaskCopyPaste, RandomCrop or another one that '
                'docs/dataset-validation.md lists.'
            )


def _compare_metas(one: dict, other: dict, here: str, there: str) -> None:
    """Compare what two parts say of classes and keypoints, as far as both do.

    Raises:
        ConfigError: If they differ.
    """
    fields = dict(
        classes=('metainfo.classes', lambda meta: list(meta['classes'])),
        keypoint_id2name=('keypoints', lambda meta: list(meta['keypoint_id2name'].values())),
        flip_indices=(
            'flip_indices (from swap of the meta file)',
            lambda meta: [int(i) for i in meta['flip_indices']],
        ),
        sigmas=('sigmas', lambda meta: [round(float(s), 5) for s in meta['sigmas']]),
    )
    own = [meta.get('category_metas') for meta in (one, other)]
    if any(own):
        fields['keypoint_id2name'] = 'keypoints', _name_keypoints
        if all(own):
            fields['category_metas'] = (
                'sigmas and skeletons of the categories',
                lambda meta: [
                    (each['sigmas'], [tuple(link) for link in each['skeleton_links']])
                    for each in meta['category_metas']
                ],
            )
    for key, (name, values) in fields.items():
        if one.get(key) is None or other.get(key) is None:
            continue
        expected, found = values(one), values(other)
        if expected != found:
            raise ConfigError(
                f'{there}: {name}: expected what {here} has, {expected}, '
                f'found {found}. Give both the same metainfo (classes and '
                'from_file); a data set whose file has other keypoints gets '
                'its meta file as keypoints_from.'
            )


def _name_keypoints(meta: dict) -> Dict[str, List[str]]:
    """Name the keypoints of each class, in its order."""
    names = meta['keypoint_id2name']
    metas = meta.get('category_metas') or [dict(indices=range(len(names)))] * len(meta['classes'])
    return {
        category: [names[index] for index in own['indices']]
        for category, own in zip(meta['classes'], metas)
    }


def _compare_heads(roi_head: nn.Module, setting: str, meta: dict) -> None:
    """Compare the sizes of the heads with the classes and keypoints.

    Raises:
        ConfigError: If a head has another number of them.
    """
    classes = list(meta['classes'])
    for name in ('bbox_head', 'mask_head'):
        head = getattr(roi_head, name, None)
        found = getattr(head, 'num_classes', len(classes))
        if found != len(classes) and not getattr(head, 'class_agnostic', False):
            raise ConfigError(
                f'model.roi_head.{name}.num_classes: expected {len(classes)}, '
                f'the number of classes of {setting} ({classes}), found '
                f'{found}. Change it, or metainfo.classes of the data sets.'
            )
    head = getattr(roi_head, 'keypoint_head', None)
    if head is not None and head.num_keypoints != meta.get('num_keypoints'):
        raise ConfigError(
            'model.roi_head.keypoint_head.num_keypoints: expected '
            f'{meta.get("num_keypoints")}, the number of keypoints in the '
            f'meta file{_union(meta)} of {setting}, found '
            f'{head.num_keypoints}. Change it, '
            'or metainfo.from_file of the data sets.'
        )


def _union(meta: dict) -> str:
    """Name the union of the keypoints, if there are several meta files."""
    if 'category_metas' not in meta:
        return ''
    return f's, {", ".join(meta["keypoint_id2name"].values())},'


def _compare_labels(roi_head: nn.Module, dataset: Dataset) -> None:
    """Compare the heads that are trained with what there is to train on.

    Raises:
        ConfigError: If nothing is labelled for a head.
    """
    leaves = list(_leaves(dataset))
    for task, name in HEADS.items():
        head = getattr(roi_head, name, None)
        # A frozen head needs no labels; other data sets do not tell.
        if (
            head is None
            or not any(each.requires_grad for each in head.parameters())
            or not all(hasattr(leaf, 'labeled_tasks') for leaf in leaves)
        ):
            continue
        if not any(task in leaf.labeled_tasks for leaf in leaves):
            files = ', '.join(str(leaf.ann_file) for leaf in leaves)
            cure = (
                'Give the boxes.'
                if task == 'bbox'
                else 'Train without this head: --cfg-options '
                f'model.roi_head.{name}=None, or label some.'
            )
            raise ConfigError(
                f'{files}: annotations: expected {_LABELS[task]} of at least '
                f'one instance, for model.roi_head.{name} to learn from, '
                f'found none. {cure}'
            )


def _compare_metric(
    metric: MultitaskCocoMetric,
    setting: str,
    roi_head: Optional[nn.Module],
    dataset: Optional[Dataset],
) -> None:
    """Compare a metric with the heads and with the images of its data set.

    Raises:
        ConfigError: If it asks for what is not there.
        FileNotFoundError: If its annotation file is missing.
    """
    if roi_head is not None:
        able = [task for task, head in HEADS.items() if getattr(roi_head, head, None) is not None]
        lacking = [t for t in metric.tasks or () if t not in able]
        if lacking:
            raise ConfigError(
                f'{setting}.tasks: expected some of {able}, for which the '
                f'network has heads, found {metric.tasks}. Leave tasks out '
                'to evaluate what the network has heads for.'
            )
        if metric.format_only and able == ['bbox']:
            raise ConfigError(
                f'{setting}.format_only: expected a network with a mask or '
                "keypoint head, whose results COCO's server takes, found "
                'one with a box head alone.'
            )
    leaves = [leaf for leaf in _leaves(dataset) if hasattr(leaf, 'labeled_tasks')]
    if not leaves or metric.format_only:
        return
    there = frozenset().union(*(leaf.labeled_tasks for leaf in leaves))
    lacking = [task for task in metric.tasks or () if task not in there]
    if lacking and there:
        raise ConfigError(
            f'{setting}.tasks: expected some of '
            f'{[task for task in TASKS if task in there]}, for which '
            f'{leaves[0].ann_file} has labels, found {metric.tasks}. Leave '
            f'{", ".join(lacking)} out.'
        )
    _compare_images(metric.ann_file, setting, leaves)


def _compare_images(ann_file: str, setting: str, leaves: List[Dataset]) -> None:
    """Compare the images of a metric's file with those of the data set.

    Raises:
        ConfigError: If the file lacks one of the images.
        FileNotFoundError: If there is no such file.
    """
    if '://' in str(ann_file):  # of a file server
        return
    if not Path(ann_file).is_file():
        raise FileNotFoundError(
            f'{setting}.ann_file: there is no such file {ann_file}. Set it '
            f'to the annotation file of the data set, {leaves[0].ann_file}'
        )
    path = Path(ann_file).resolve()
    others = [leaf for leaf in leaves if Path(leaf.ann_file).resolve() != path]
    if len(leaves) > 1 or not others:
        return  # several sets have metrics of their own
    known = {image['id'] for image in json.loads(path.read_text())['images']}
    images = {others[0].get_data_info(i)['img_id'] for i in range(len(others[0]))}
    if not images <= known:
        raise ConfigError(
            f'{setting}.ann_file: expected the images of '
            f'{others[0].ann_file}, found {ann_file} without '
            f'{len(images - known)} of {len(images)} of them. Name the '
            'annotation file of the data set in both places.'
        )


def _leaves(dataset: Optional[Dataset]) -> Iterator[Dataset]:
    """The data sets inside wrappers such as ConcatDataset."""
    inner = getattr(dataset, 'datasets', None) or [
        part for part in [getattr(dataset, 'dataset', None)] if part is not None
    ]
    for part in inner:
        yield from _leaves(part)
    if dataset is not None and not inner:
        yield dataset


@HOOKS.register_module()
class ConsistencyHook(Hook):
    """Call :func:`check_consistency` before the first iteration, of a
    training, a validation or a test, whatever tool runs it.

    A checkpoint that a test or a resumed training loads must have been
    trained with the same classes and keypoints. One to start from
    (``load_from`` of a training) may differ in them, and the log says so, but
    not in the architecture (:func:`check_start_weights`).

    Raises:
        ConfigError: See there.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._saved: Optional[dict] = None

    def before_run(self, runner: Runner) -> None:
        loops = {split: loop for split, loop in self._loops(runner)}
        self._datasets = {
            f'{split}_dataloader.dataset': loop.dataloader.dataset for split, loop in loops.items()
        }
        self._metas = {}
        for name, dataset in self._datasets.items():
            self._metas.update(list_metas(dataset, name))
        if self._metas:
            check_consistency(
                runner.model,
                self._metas,
                self._datasets,
                {split: loop.evaluator for split, loop in loops.items() if split != 'train'},
            )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._saved = checkpoint.get('meta', {}).get('dataset_meta')
        if isinstance(runner._train_loop, BaseLoop) and not runner._resume:
            check_start_weights(runner.model, checkpoint)

    def before_train(self, runner: Runner) -> None:
        try:
            self._compare_checkpoint(runner)
        except ConfigError as error:
            if runner._resume:
                raise
            MMLogger.get_current_instance().warning(
                f'{error} The training starts from these weights nevertheless.'
            )

    def before_val(self, runner: Runner) -> None:
        if not isinstance(runner._train_loop, BaseLoop):
            self._compare_checkpoint(runner)

    def before_test(self, runner: Runner) -> None:
        self._compare_checkpoint(runner)

    def _compare_checkpoint(self, runner: Runner) -> None:
        if self._saved and self._metas:
            check_consistency(runner.model, self._metas, saved=self._saved)

    @staticmethod
    def _loops(runner: Runner) -> Iterator:
        # The runner's own properties would build the loops that do not run.
        for split in ('train', 'val', 'test'):
            loop = getattr(runner, f'_{split}_loop')
            if isinstance(loop, BaseLoop):
                yield split, loop
