"""Check that model, datasets, metrics and checkpoint of a run agree with each other."""

import json
from collections.abc import Iterator
from pathlib import Path

from mmengine.evaluator import Evaluator
from torch import nn
from torch.utils.data import Dataset

from multitask_refine.evaluation import TASKS, MultitaskCocoMetric
from multitask_refine.utils.errors import ConfigError

# Sub-head of the RoI head and required labels of each task.
HEADS = dict(bbox='bbox_head', segm='mask_head', keypoints='keypoint_head')
_LABELS = dict(bbox='a box', segm='a segmentation', keypoints='a keypoint with visibility 1 or 2')
# Transforms of mmdet that move boxes but not masks, or drop keypoints.
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


def check_consistency(
    model: nn.Module,
    metas: dict[str, dict],
    datasets: dict[str, Dataset] | None = None,
    evaluators: dict[str, Evaluator] | None = None,
    saved: dict | None = None,
) -> None:
    """Refuse parts of a run that contradict each other.

    Training, ``tools/test.py``, the inferencers and the exporter call it, each with the parts
    that it has.

    Args:
        model (nn.Module): The model. One without ``MultitaskRoIHead`` is checked by its
            ``dataset_meta``, if it has one.
        metas (dict[str, dict]): Classes and keypoints in MMPose's terms, by the setting of a
            dataset, such as 'test_dataloader.dataset'.
        datasets (dict[str, Dataset], optional): Datasets by their settings.
        evaluators (dict[str, Evaluator], optional): By 'val' or 'test'.
        saved (dict, optional): Classes and keypoints that the checkpoint was trained with.

    Raises:
        ConfigError: One sentence with setting, expected and found values and a remedy.
        FileNotFoundError: If the annotation file of a metric is missing.
    """
    roi_head = _find_roi_head(model)
    first, *others = metas
    for name in others:
        _compare_metas(metas[first], metas[name], first, name)
    if roi_head is not None:
        _check_head_sizes(roi_head, first, metas[first])
    saved = saved or getattr(model, 'dataset_meta', None)
    if saved:
        _compare_metas(saved, metas[first], 'the checkpoint', first)
    datasets = datasets or {}
    for name, dataset in datasets.items():
        if len(dataset) == 0:
            raise ConfigError(
                f'{name}: expected at least one image, found none. Check '
                'whether its ann_file has annotations of its classes, and '
                'what its filter_cfg and indices leave of them.'
            )
    training = datasets.get('train_dataloader.dataset')
    if training is not None:
        check_transforms(training, 'train_dataloader.dataset')
    if roi_head is not None and training is not None:
        _check_labels(roi_head, training)
    for split, evaluator in (evaluators or {}).items():
        dataset = datasets.get(f'{split}_dataloader.dataset')
        for metric in evaluator.metrics:
            if isinstance(metric, MultitaskCocoMetric):
                _check_metric(metric, f'{split}_evaluator', roi_head, dataset)
                for leaf in _iterate_leaves(training):
                    shift = getattr(leaf, 'keypoint_shift', metric.keypoint_shift)
                    if shift != metric.keypoint_shift:
                        raise ConfigError(
                            f'{split}_evaluator.keypoint_shift: expected {shift}, by which '
                            'train_dataloader.dataset shifts the keypoints to learn, found '
                            f'{metric.keypoint_shift}. Set keypoint_shift to the same number in '
                            'data sets and evaluators.'
                        )


def list_metas(dataset: Dataset, setting: str) -> dict[str, dict]:
    """List the metainfo of a dataset by its setting.

    mmdet's ``ConcatDataset`` of datasets that differ has one metainfo of each.
    """
    meta = getattr(dataset, 'metainfo', {})
    metas = (
        {setting: meta}
        if isinstance(meta, dict)
        else {f'{setting}.datasets[{i}]': each for i, each in enumerate(meta)}
    )
    return {name: each for name, each in metas.items() if 'classes' in each}


def check_transforms(dataset: Dataset, setting: str) -> None:
    """Refuse transforms of mmdet that move boxes without their masks, or drop keypoints.

    Args:
        dataset (Dataset): The dataset, with its wrappers.
        setting (str): Its setting, for the message.

    Raises:
        ConfigError: If a pipeline has such a transform.
    """
    transforms = []
    while dataset is not None:
        pipeline = getattr(dataset, 'pipeline', ())
        transforms += getattr(pipeline, 'transforms', pipeline)  # of wrappers: a plain list
        for part in getattr(dataset, 'datasets', ()):
            check_transforms(part, setting)
        dataset = getattr(dataset, 'dataset', None)
    for transform in transforms:
        # By the name: subclasses may move masks and keypoints, too.
        if type(transform).__name__ in _BOXES_ONLY:
            raise ConfigError(
                f'{setting}: pipeline: expected transforms that move masks '
                f'and keypoints with the boxes, found {type(transform).__name__}. '
                'Use MultitaskCopyPaste, RandomCrop or another one that '
                'docs/dataset-preparation.md lists.'
            )


def _find_roi_head(model: nn.Module) -> nn.Module | None:
    while hasattr(model, 'module'):  # wrappers for distribution and augmentation
        model = model.module
    return getattr(model, 'roi_head', None)


def _compare_metas(one: dict, other: dict, here: str, there: str) -> None:
    """Compare classes and keypoints of two parts, as far as both define them."""
    fields = dict(
        classes=('metainfo.classes', lambda meta: list(meta['classes'])),
        keypoint_id2name=('keypoints', lambda meta: list(meta['keypoint_id2name'].values())),
        flip_indices=(
            'flip_indices (from swap of the meta file)',
            lambda meta: [int(i) for i in meta['flip_indices']],
        ),
        sigmas=('sigmas', lambda meta: [round(float(s), 5) for s in meta['sigmas']]),
    )
    category_metas = [meta.get('category_metas') for meta in (one, other)]
    if any(category_metas):
        fields['keypoint_id2name'] = 'keypoints', _list_keypoints_by_class
        if all(category_metas):
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
                f'{there}: {name}: expected those of {here}, {expected}, '
                f'found {found}. Give both the same metainfo (classes and '
                'from_file); a dataset whose file has other keypoints takes '
                'its meta file as keypoints_from.'
            )


def _list_keypoints_by_class(meta: dict) -> dict[str, list[str]]:
    names = meta['keypoint_id2name']
    metas = meta.get('category_metas') or [dict(indices=range(len(names)))] * len(meta['classes'])
    return {
        category: [names[index] for index in own['indices']]
        for category, own in zip(meta['classes'], metas, strict=False)
    }


def _check_head_sizes(roi_head: nn.Module, setting: str, meta: dict) -> None:
    """Compare the output channels of the heads with the numbers of classes and keypoints."""
    classes = list(meta['classes'])
    for name in ('bbox_head', 'mask_head'):
        head = getattr(roi_head, name, None)
        found = getattr(head, 'num_classes', len(classes))
        if found != len(classes) and not getattr(head, 'class_agnostic', False):
            raise ConfigError(
                f'model.roi_head.{name}.num_classes: expected {len(classes)}, '
                f'the number of classes of {setting} ({classes}), found '
                f'{found}. Change it, or metainfo.classes of the datasets.'
            )
    head = getattr(roi_head, 'keypoint_head', None)
    if head is not None and head.num_keypoints != meta.get('num_keypoints'):
        union = (
            f's, {", ".join(meta["keypoint_id2name"].values())},'
            if 'category_metas' in meta
            else ''
        )
        raise ConfigError(
            'model.roi_head.keypoint_head.num_keypoints: expected '
            f'{meta.get("num_keypoints")}, the number of keypoints in the '
            f'meta file{union} of {setting}, found {head.num_keypoints}. '
            'Change it, or metainfo.from_file of the datasets.'
        )
    for name, branch in getattr(roi_head, 'branches', {}).items():
        found = [round(float(each), 5) for each in getattr(branch, 'sigmas', ())]
        expected = [round(float(each), 5) for each in meta.get('sigmas', ())]
        if found and found != expected:
            raise ConfigError(
                f'model.roi_head.branches.{name}.sigmas: expected those of the meta file of '
                f'{setting}, {expected}, found {found}. Change them, or metainfo.from_file of the '
                'datasets.'
            )


def _check_labels(roi_head: nn.Module, dataset: Dataset) -> None:
    """Refuse a trainable head without any labels in the training set."""
    leaves = list(_iterate_leaves(dataset))
    if not all(hasattr(leaf, 'labeled_tasks') for leaf in leaves):
        return  # other dataset classes do not list what is labeled
    for task, name in HEADS.items():
        head = getattr(roi_head, name, None)
        # A frozen head needs no labels.
        if head is None or not any(each.requires_grad for each in head.parameters()):
            continue
        if not any(task in leaf.labeled_tasks for leaf in leaves):
            files = ', '.join(str(leaf.ann_file) for leaf in leaves)
            remedy = (
                'Add the boxes.'
                if task == 'bbox'
                else 'Train without this head: --cfg-options '
                f'model.roi_head.{name}=None, or label some instances.'
            )
            raise ConfigError(
                f'{files}: annotations: expected {_LABELS[task]} of at least '
                f'one instance to train model.roi_head.{name}, found none. {remedy}'
            )


def _check_metric(
    metric: MultitaskCocoMetric, setting: str, roi_head: nn.Module | None, dataset: Dataset | None
) -> None:
    """Compare a metric with the heads, and with labels and images of its dataset."""
    if roi_head is not None:
        able = [task for task, head in HEADS.items() if getattr(roi_head, head, None) is not None]
        if any(task not in able for task in metric.tasks or ()):
            raise ConfigError(
                f'{setting}.tasks: expected some of {able}, for which the '
                f'model has heads, found {metric.tasks}. Leave tasks out '
                'to evaluate those that the model has heads for.'
            )
        if metric.format_only and able == ['bbox']:
            raise ConfigError(
                f'{setting}.format_only: expected a model with a mask or '
                "keypoint head, whose results COCO's server takes, found "
                'one with a box head alone.'
            )
    leaves = [leaf for leaf in _iterate_leaves(dataset) if hasattr(leaf, 'labeled_tasks')]
    if not leaves or metric.format_only:
        return
    # in any of the data sets
    labeled = frozenset().union(*(leaf.labeled_tasks for leaf in leaves))
    missing = [task for task in metric.tasks or () if task not in labeled]
    if missing and labeled:
        raise ConfigError(
            f'{setting}.tasks: expected some of '
            f'{[task for task in TASKS if task in labeled]}, for which '
            f'{leaves[0].ann_file} has labels, found {metric.tasks}. Leave '
            f'{", ".join(missing)} out.'
        )
    if '://' in str(metric.ann_file):  # on a file server
        return
    if not Path(metric.ann_file).is_file():
        raise FileNotFoundError(
            f'{setting}.ann_file: there is no such file {metric.ann_file}. Set it '
            f'to the annotation file of the dataset, {leaves[0].ann_file}'
        )
    path = Path(metric.ann_file).resolve()
    if len(leaves) > 1 or Path(leaves[0].ann_file).resolve() == path:
        return  # each of several datasets has a metric of its own
    known = {image['id'] for image in json.loads(path.read_text())['images']}
    # after filtering
    images = {leaves[0].get_data_info(i)['img_id'] for i in range(len(leaves[0]))}
    if not images <= known:
        raise ConfigError(
            f'{setting}.ann_file: expected the images of '
            f'{leaves[0].ann_file}, found {metric.ann_file} without '
            f'{len(images - known)} of {len(images)} of them. Use the '
            'annotation file of the dataset in both places.'
        )


def _iterate_leaves(dataset: Dataset | None) -> Iterator[Dataset]:
    """Yield the datasets inside wrappers such as ConcatDataset."""
    inner = getattr(dataset, 'datasets', None) or [
        part for part in [getattr(dataset, 'dataset', None)] if part is not None
    ]
    for part in inner:
        yield from _iterate_leaves(part)
    if dataset is not None and not inner:
        yield dataset
