"""Data set for COCO annotations of boxes, masks and keypoints."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.registry import DATASETS
from mmengine.logging import MMLogger

from multitask_refine.utils.errors import ConfigError
from multitask_runtime.utils.category_meta import category_meta

from .annotation_file import filter_classes, read_annotations
from .metainfo.category_keypoints import join_meta_files
from .metainfo.keypoint_mapping import KeypointMapping
from .metainfo.meta_file import load_meta_file
from .validation.annotations import repair
from .validation.entries import is_id
from .validation.images import ImageError, list_missing
from .validation.issues import AnnotationError, Issue, format_issues
from .validation.summary import log_filtered_images, log_issues, log_label_counts, raise_if_fatal


@DATASETS.register_module()
class CocoMultitaskDataset(CocoDataset):
    """COCO data set whose instances have a box, a mask and K keypoints.

    Names, skeleton, colors, flip pairs and sigmas of the keypoints come from a dataset meta file
    in mmpose's format, so that other keypoints or categories are a change of ``metainfo`` only.

    COCO annotates a keypoint by the index of its pixel. Here, as for boxes, pixel ``i`` covers
    [i, i + 1): half a pixel is added on loading, and the metric subtracts it, as in Detectron2.

    In training, annotations that break a rule are repaired or left out, images whose file is
    missing are left out, and the log has a table of both. An image that cannot be read is
    replaced by another one. An instance without ``segmentation`` or ``keypoints`` is kept, not
    labeled for that task. In ``test_mode`` nothing is changed, because the evaluation reads the
    file itself: issues that would make it fail or give wrong numbers are errors.

    Args:
        metainfo (dict): ``from_file`` names the meta file, a path or the name of one that mmpose
            ships, such as ``crowdpose.py``; ``classes`` names the categories: label i is the
            i-th of them, whatever the order in the file. Categories with keypoints of their own
            have a meta file each, ``from_file=dict(person='coco.py', dog='dog.py')``, see
            :func:`join_meta_files`. Defaults to COCO's persons (``coco.py``).
        keypoints_from (str | dict, optional): Meta file of the annotation file if it has other
            keypoints than ``metainfo``; they are mapped by name, see :class:`KeypointMapping`.
        strict (bool): Raise an error for every issue of the annotations and every missing image.
            Defaults to False.
        keypoint_shift (float): Added to the keypoints of the file, in pixels. 0 leaves them as
            they are, as torchvision trains; then the metric's ``keypoint_shift`` is 0, too.
            Defaults to 0.5.
        filter_cfg (dict, optional): As in mmdet, and ``min_keypoints``: minimal number of
            labeled keypoints (visibility 1 or 2) of an image over all its instances, as
            ``MIN_KEYPOINTS_PER_IMAGE`` of Detectron2. Defaults to 0.
        *args: Arguments of ``mmdet.datasets.CocoDataset``.
        **kwargs: Arguments of ``mmdet.datasets.CocoDataset``.

    Attributes:
        labeled_tasks (frozenset[str]): Those of 'bbox', 'segm' and 'keypoints' for which at least
            one instance is labeled.

    Raises:
        FileNotFoundError: If the annotation file or the folder of the images is missing.
        AnnotationError: If the file is no COCO annotation file, lacks a class, has other
            keypoints than the meta file, or has issues that ``strict`` or ``test_mode`` do not
            allow.
        ConfigError: If ``classes``, ``from_file``, ``keypoints_from`` or ``min_keypoints`` are
            invalid.
    """

    METAINFO = dict(classes=('person',), palette=[(220, 20, 60)], from_file='coco.py')

    def __init__(
        self,
        *args,
        keypoints_from: str | dict | None = None,
        strict: bool = False,
        keypoint_shift: float = 0.5,
        **kwargs,
    ) -> None:
        self.keypoints_from = keypoints_from
        self.strict = strict
        self.keypoint_shift = keypoint_shift
        self._issues: list[Issue] = []
        self.labeled_tasks = frozenset()
        super().__init__(*args, **kwargs)

    @classmethod
    def _load_metainfo(cls, metainfo: dict | None = None) -> dict:
        merged = {**cls.METAINFO, **(metainfo or {})}
        classes = merged['classes']
        if isinstance(classes, str) or not classes or len(set(classes)) != len(classes):
            raise ConfigError(
                "metainfo.classes: expected names of distinct categories, such as ('person', ), "
                f'found {classes!r}. Write a list or tuple, also for a single name.'
            )
        from_file = merged.pop('from_file')
        meta = (
            join_meta_files(from_file, classes)
            if isinstance(from_file, dict)
            else load_meta_file(from_file)
        )
        return {**meta, **merged}

    def load_data_list(self) -> list[dict]:
        """Load the annotation file; raise FileNotFoundError if a part of the data is missing."""
        paths = (self.ann_file, self.data_prefix['img']) if self.backend_args is None else ()
        for path in filter(None, paths):
            if not Path(path).exists():
                raise FileNotFoundError(
                    f'{path}: expected a part of the data set, found no such file or folder. '
                    'COCO 2017 is at https://cocodataset.org/#download (images, and '
                    'annotations_trainval2017 or image_info_test2017); data/coco may be a link '
                    'to it. Samples are drawn by python tools/dataset/make_sample.py FOLDER. For '
                    'another place set data_root of the data set and ann_file of the evaluator.'
                )
        return super().load_data_list()

    def COCOAPI(self, path: str) -> COCO:
        """Index the annotation file, repaired unless in ``test_mode``; called by mmdet."""
        classes = self.metainfo['classes']
        self._issues = []
        content = filter_classes(read_annotations(path, self._issues), classes)
        mapping = self.keypoints_from and KeypointMapping(self.keypoints_from, self.metainfo)
        meta = mapping.meta if mapping else self.metainfo
        self._unlabeled_keypoints = (
            [i for i, source in enumerate(mapping.sources) if source < 0] if mapping else []
        )
        repaired, issues = repair(content, keypoints_per_class(meta, classes))
        self._issues += issues
        # mmdet numbers the labels in the order of the categories of the file.
        categories = order_categories(repaired['categories'], classes, self.ann_file)
        self._check_keypoint_names(categories, meta)
        self._check_keypoint_counts(content, categories, meta)
        raise_if_fatal(
            self._issues, self.ann_file, self.data_prefix['img'], self.test_mode, self.strict
        )
        if not self.test_mode:
            if content.get('annotations') and not repaired['annotations']:
                raise AnnotationError(
                    f'{self.ann_file}: annotations: expected some to learn from, found that none '
                    f'of {len(content["annotations"])} can be used:\n'
                    f'{format_issues(self._issues)}\nCorrect the file; '
                    'docs/dataset-validation.md lists what each rule expects.'
                )
            log_label_counts(repaired.get('annotations', ()), self.ann_file)
        coco = COCO()
        coco.dataset = dict(content if self.test_mode else repaired, categories=categories)
        if mapping and 'annotations' in content:
            coco.dataset['annotations'] = mapping.convert(coco.dataset['annotations'])
            mapping.log(self.ann_file)

        instances = [ann for ann in coco.dataset.get('annotations', ()) if not ann.get('iscrowd')]
        is_labeled = dict(
            bbox=any(ann.get('bbox') for ann in instances),
            segm=any(ann.get('segmentation') for ann in instances),
            keypoints=any(any(ann.get('keypoints', ())[2::3]) for ann in instances),
        )
        self.labeled_tasks = frozenset(task for task, is_any in is_labeled.items() if is_any)
        coco.createIndex()
        # mmdet's COCO class has pycocotools' indices under these names, too.
        coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs
        return coco

    def _check_keypoint_names(self, categories: Sequence[dict], meta: dict) -> None:
        """Compare names and order of the keypoints in the file with its meta file."""
        for label, category in enumerate(categories):
            names = list(category_meta(meta, label)['keypoint_id2name'].values())
            own = category.get('keypoints')
            if (
                not isinstance(own, list)
                or own == names
                or not all(isinstance(name, str) for name in own)
            ):
                continue
            field = f'{self.ann_file}: category {category["name"]!r}: keypoints'
            lists = f'expected, by metainfo.from_file of the data set, {names}, found {own}'
            if any(names.index(name) != own.index(name) for name in set(names) & set(own)):
                raise AnnotationError(
                    f'{field}: {lists}: the same names in another order. Flips would exchange '
                    'the wrong keypoints: write a meta file whose keypoint_info has the order of '
                    'the annotation file.'
                )
            if len(own) == len(names):
                MMLogger.get_current_instance().warning(
                    f'{field}: {lists}. They are matched by position, not by name.'
                )

    def _check_keypoint_counts(
        self, content: dict, categories: Sequence[dict], meta: dict
    ) -> None:
        """Raise an error if all annotations, or all of a category, have another K."""
        annotated = [
            ann
            for ann in content.get('annotations', ())
            if isinstance(ann, dict) and ann.get('keypoints') not in (None, [])
        ]
        wrong = [issue for issue in self._issues if issue.rule == 'keypoints']
        groups = [(wrong, len(annotated), meta, 'all others')]
        if 'category_metas' in meta:
            groups = []
            for label, category in enumerate(categories):
                ids = {
                    ann['id']
                    for ann in annotated
                    if is_id(ann.get('id')) and ann.get('category_id') == category['id']
                }
                own = [issue for issue in wrong if issue.annotation_id in ids]
                others = f'all others of {category["name"]!r}'
                groups.append((own, len(ids), category_meta(meta, label), others))
        for issues, count, own_meta, others in groups:
            if issues and len(issues) == count:
                raise AnnotationError(
                    f'{self.ann_file}: annotation {issues[0].annotation_id} has '
                    f'{issues[0].found} in "keypoints", and so have {others}; expected 3 for each '
                    f'of the {own_meta["num_keypoints"]} keypoints of the meta file. Set '
                    'metainfo.from_file to the meta file of this data set, or keypoints_from if '
                    'the network has other keypoints.'
                )

    def filter_data(self) -> list[dict]:
        """Apply ``filter_cfg``, and in training leave out images whose file is missing."""
        min_keypoints = (self.filter_cfg or {}).get('min_keypoints', 0)
        if (
            isinstance(min_keypoints, bool)
            or not isinstance(min_keypoints, int)
            or min_keypoints < 0
        ):
            raise ConfigError(
                'filter_cfg.min_keypoints of the data set: expected a number of keypoints, 0 or '
                f'more, found {min_keypoints!r}. With 1, images without a labeled keypoint are '
                'left out of the training.'
            )
        kept = super().filter_data()
        num_few_keypoints = 0
        if min_keypoints and not self.test_mode:
            num_images = len(kept)
            kept = [
                info
                for info in kept
                if sum((instance['keypoints'][:, 2] > 0).sum() for instance in info['instances'])
                >= min_keypoints
            ]
            num_few_keypoints = num_images - len(kept)
        log_filtered_images(
            self.data_list, kept, self.filter_cfg, self.ann_file, self.test_mode, num_few_keypoints
        )

        used = kept
        if self.test_mode and self._indices is not None:
            used = self._get_unserialized_subset(self._indices)
        folder = self.data_prefix['img']
        missing = set() if self.backend_args else list_missing(info['img_path'] for info in used)
        if missing and len(missing) == len(used):
            raise AnnotationError(
                f'{folder}: expected the images of {self.ann_file} in this folder, found none of '
                f'{len(used)}, such as {used[0]["img_path"]}. Set data_prefix.img of the data set.'
            )
        issues = [
            Issue(
                'image_missing',
                'no such file',
                f'the file {info["img_path"]}',
                'left out',
                image_id=info['img_id'],
            )
            for info in used
            if info['img_path'] in missing
        ]
        raise_if_fatal(issues, self.ann_file, folder, self.test_mode, self.strict)
        log_issues(self._issues + issues, self.ann_file, folder, self.test_mode)
        self._issues = []
        return [info for info in kept if info['img_path'] not in missing]

    def __getitem__(self, idx: int) -> dict:
        """Load an image; in training, replace one that cannot be read by another.

        The data sample then has ``replaced_images``, path and reason of each replaced image.

        Raises:
            ImageError: If an image cannot be read in ``test_mode``, or ``max_refetch`` further
                ones in training.
        """
        replaced = []
        while True:
            try:
                data = super().__getitem__(idx)
                break
            except ImageError as error:
                if self.test_mode:
                    raise
                replaced.append((error.path, error.reason))
            if len(replaced) > self.max_refetch:
                path, reason = replaced[-1]
                raise ImageError(
                    path,
                    f'{reason}. It is the last of {len(replaced)} images in a row that could not '
                    'be read. Check the storage; tools/dataset/check_coco.py --images reads all '
                    'images.',
                )
            idx = self._rand_another()
        if replaced and 'data_samples' in data:
            data['data_samples'].set_metainfo(dict(replaced_images=replaced))
        elif replaced:  # a wrapper such as MultiImageMixDataset packs later
            data['replaced_images'] = replaced
        return data

    def parse_data_info(self, raw_data_info: dict) -> dict | list[dict]:
        """Parse one image as mmdet does, with keypoints.

        Each instance gets ``keypoints``, a (K, 3) array of x and y in continuous image pixels and
        COCO's visibility. It is -1 for keypoints that its category does not have or that, by
        ``keypoints_from``, the file does not label.
        """
        # mmdet drops invalid annotations silently; parsed one by one, keypoints and boxes stay
        # together.
        data_info = super().parse_data_info(dict(raw_data_info, raw_ann_info=[]))
        data_info['flip_indices'] = self.metainfo['flip_indices']
        for ann in raw_data_info['raw_ann_info']:
            parsed = super().parse_data_info(dict(raw_data_info, raw_ann_info=[ann]))['instances']
            for instance in parsed:
                instance['keypoints'] = self._parse_keypoints(ann)
                data_info['instances'].append(instance)
        return data_info

    def _parse_keypoints(self, ann: dict) -> np.ndarray:
        own_meta = category_meta(self.metainfo, self.cat2label[ann['category_id']])
        count = own_meta['num_keypoints']
        # COCO's flat list x, y, visibility of each keypoint; without one, none is labeled
        flat = (count and ann.get('keypoints')) or [0] * (3 * count)
        keypoints = np.zeros((self.metainfo['num_keypoints'], 3), np.float32)  # (K, 3)
        keypoints[:, 2] = -1  # of other categories, until the category's own are filled in
        # The category's own keypoints at their places in the union of all categories
        keypoints[own_meta.get('indices', slice(None))] = np.reshape(flat, (count, 3))
        keypoints[self._unlabeled_keypoints, 2] = -1
        keypoints[:, :2] += self.keypoint_shift  # pixel index to continuous coordinate
        return keypoints


def keypoints_per_class(meta: dict, classes: Sequence[str]) -> int | Mapping[str, int]:
    """Return the number of keypoints of an annotation, one for all or one for each class.

    Args:
        meta: Metainfo of the annotation file.
        classes: Names of its categories, in label order.
    """
    if 'category_metas' not in meta:
        return len(meta['sigmas'])
    return {
        name: own['num_keypoints']
        for name, own in zip(classes, meta['category_metas'], strict=True)
    }


def order_categories(
    categories: Sequence[dict], classes: Sequence[str], ann_file: str
) -> list[dict]:
    """Return the category of each class.

    Args:
        categories: Categories of an annotation file, in any order.
        classes: Names of the classes, in label order.
        ann_file: Annotation file, for the message.

    Raises:
        AnnotationError: If a class has no category, or two.
    """
    by_name: dict[str, list[dict]] = {}
    for category in categories:
        if isinstance(category, dict):
            by_name.setdefault(str(category.get('name')), []).append(category)
    for name in classes:
        if len(by_name.get(name, ())) != 1:
            raise AnnotationError(
                f'{ann_file}: categories: expected one for each of {list(classes)}, found '
                f'{len(by_name.get(name, ()))} named {name!r} among {list(by_name)}. Set '
                'metainfo.classes of the data set to names in the file.'
            )
    return [by_name[name][0] for name in classes]
