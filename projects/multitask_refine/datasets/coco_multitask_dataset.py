"""COCO-format annotations of boxes, masks and joints."""

from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Union

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.registry import DATASETS
from mmengine.logging import MMLogger

from multitask_refine.utils.errors import ConfigError
from multitask_runtime.utils.category_meta import category_meta

from .metainfo.category_keypoints import join_meta_files
from .metainfo.keypoint_mapping import KeypointMapping
from .metainfo.meta_file import load_meta_file
from .validation.annotations import count_keypoints, keep_classes, mend, read_annotations
from .validation.entries import is_id
from .validation.images import ImageError, list_missing
from .validation.issues import AnnotationError, Problem
from .validation.summary import format_table, log_labels, log_problems, log_unused, refuse


def require_files(*paths: str) -> None:
    """Say how to get the data if a file or folder of it is missing.

    Args:
        paths (str): Files and folders of a dataset.

    Raises:
        FileNotFoundError: Names what is missing and where it comes from.
    """
    for path in filter(None, paths):
        if not Path(path).exists():
            raise FileNotFoundError(
                f'{path}: there is no such part of the dataset. COCO 2017 is '
                'at https://cocodataset.org/#download (images, and '
                'annotations_trainval2017 or image_info_test2017); data/coco '
                'may be a link to it. Samples are drawn by python '
                'tools/dataset/make_sample.py FOLDER. For another place set '
                'data_root of the dataset and ann_file of the evaluator.'
            )


@DATASETS.register_module()
class CocoMultitaskDataset(CocoDataset):
    """People with a box, a mask and K joints, from a COCO keypoint file.

    The joints' names, skeleton, colours, mirror pairs and sigmas come from a
    dataset meta file in mmpose's format, so another K or another animal is a
    change of ``metainfo`` only.

    COCO writes a joint by the index of its pixel. Here, as for boxes, pixel
    ``i`` covers [i, i + 1), so half a pixel is added on reading and the
    metric takes it away again (Detectron2 does the same).

    Args:
        metainfo (dict): ``from_file`` names the meta file, either a path or
            the name of one of mmpose's own, such as ``crowdpose.py``;
            ``classes`` are the names of the categories to keep: label i is
            the i-th of them, whatever the order of the file. Categories with
            keypoints of their own have a meta file each,
            ``from_file=dict(person='coco.py', dog='dog.py')``, see
            :func:`join_meta_files`. Defaults to COCO's persons
            (``coco.py``).

        keypoints_from (str | dict, optional): The meta file of the annotation
            file, if that is not the one of ``metainfo``: its keypoints are
            mapped to those of ``metainfo`` by their names, see
            :class:`KeypointMapping`.
        strict (bool): Whether any problem of the annotations, or a missing
            image, is an error. Defaults to False.

        filter_cfg (dict, optional): As in ``mmdet.datasets.CocoDataset``,
            and ``min_keypoints``: the fewest labelled keypoints (visibility
            1 or 2) of an image, all its instances together, as Detectron2's
            ``MIN_KEYPOINTS_PER_IMAGE`` counts them. Defaults to 0: images
            without keypoints are used, too.

    The other arguments are those of ``mmdet.datasets.CocoDataset``.

    Attributes:
        labelled_tasks (frozenset[str]): Those of 'bbox', 'segm' and
            'keypoints' that at least one instance of the file is labelled
            for.

    In training, annotations that break a rule are mended or left out, images
    whose file is missing are left out, and the log has a table of them. An
    image that cannot be read when its turn comes is replaced by another. An
    instance that lacks ``segmentation`` or ``keypoints`` stays: it is not
    labelled for that task, and the log says how many are. In
    ``test_mode`` nothing is changed, because the evaluation reads the file
    itself: what it would stumble over is an error.

    Raises:
        FileNotFoundError: If the annotation file or the folder of the images
            is missing.
        AnnotationError: If the annotation file is none, lacks the
            categories, lists their keypoints in another order than the meta
            file, all its annotations have another number of keypoints, or it
            has problems and ``strict`` or ``test_mode`` do not allow them.
        ConfigError: If ``classes`` are no names that differ, a meta file
            contradicts itself or that of another category,
            ``keypoints_from`` is given for categories with keypoints of
            their own, or ``filter_cfg.min_keypoints`` is no count.
    """

    METAINFO = dict(classes=('person',), palette=[(220, 20, 60)], from_file='coco.py')

    def __init__(
        self, *args, keypoints_from: Union[str, dict, None] = None, strict: bool = False, **kwargs
    ) -> None:
        self.keypoints_from = keypoints_from
        self.strict = strict
        self._problems: List[Problem] = []
        self.labelled_tasks = frozenset()
        super().__init__(*args, **kwargs)

    @classmethod
    def _load_metainfo(cls, metainfo: Optional[dict] = None) -> dict:
        """Merge the classes with what the meta file says of the joints."""
        merged = {**cls.METAINFO, **(metainfo or {})}
        classes = merged['classes']
        if isinstance(classes, str) or not classes or len(set(classes)) != len(classes):
            raise ConfigError(
                'metainfo.classes: expected names of categories that differ, '
                f"such as ('person', ), found {classes!r}. Write a list or "
                'tuple, also of one name.'
            )
        from_file = merged.pop('from_file')
        meta = (
            join_meta_files(from_file, classes)
            if isinstance(from_file, dict)
            else load_meta_file(from_file)
        )
        return {**meta, **merged}

    def load_data_list(self) -> List[dict]:
        if self.backend_args is None:
            require_files(self.ann_file, self.data_prefix['img'])
        return super().load_data_list()

    def COCOAPI(self, path: str) -> COCO:  # by this name mmdet calls it
        """The index of the file: mended, or in ``test_mode`` as it is."""
        numbers: List[Problem] = []
        content = keep_classes(read_annotations(path, numbers), self.metainfo['classes'])
        mapping = self.keypoints_from and KeypointMapping(self.keypoints_from, self.metainfo)
        meta = mapping.meta if mapping else self.metainfo
        self._unlabelled = (
            [i for i, source in enumerate(mapping.sources) if source < 0] if mapping else []
        )
        mended, problems = mend(
            content, count_keypoints(content, keypoint_counts(meta, self.metainfo['classes']))
        )
        self._problems = numbers + problems
        # mmdet numbers the labels in the order of the file's categories.
        categories = order_categories(
            mended['categories'], self.metainfo['classes'], self.ann_file
        )
        self._check_meta_file(content, categories, meta)
        refuse(self._problems, self.ann_file, self.data_prefix['img'], self.test_mode, self.strict)
        if not self.test_mode:
            if content.get('annotations') and not mended['annotations']:
                raise AnnotationError(
                    f'{self.ann_file}: annotations: expected some to learn '
                    'from, found that none of '
                    f'{len(content["annotations"])} can be used:\n'
                    f'{format_table(self._problems)}\nCorrect the file; '
                    'docs/dataset-validation.md says what each rule expects.'
                )
            log_labels(mended.get('annotations', ()), self.ann_file)
        coco = COCO()
        coco.dataset = dict(content if self.test_mode else mended, categories=categories)
        if mapping and 'annotations' in content:
            coco.dataset['annotations'] = mapping.convert(coco.dataset['annotations'])
            mapping.log(self.ann_file)
        self.labelled_tasks = _labelled_tasks(coco.dataset.get('annotations', ()))
        coco.createIndex()
        coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs
        return coco

    def _check_meta_file(self, content: dict, categories: Sequence[dict], meta: dict) -> None:
        """Compare the keypoints of the file and of its meta file: names,
        order and number."""
        for label, category in enumerate(categories):
            names = list(category_meta(meta, label)['keypoint_id2name'].values())
            own = category.get('keypoints')
            if (
                not isinstance(own, list)
                or own == names
                or not all(isinstance(name, str) for name in own)
            ):
                continue
            where = f'{self.ann_file}: category {category["name"]!r}: keypoints'
            lists = f'expected, by metainfo.from_file of the dataset, {names}, found {own}'
            if any(names.index(name) != own.index(name) for name in set(names) & set(own)):
                raise AnnotationError(
                    f'{where}: {lists}: the same names in other places. '
                    'Flips would exchange the wrong keypoints: write a meta '
                    'file whose keypoint_info has the order of the '
                    'annotation file.'
                )
            if len(own) == len(names):
                MMLogger.get_current_instance().warning(
                    f'{where}: {lists}. They are taken by their place, whatever their names.'
                )
        annotated = [
            ann
            for ann in content.get('annotations', ())
            if isinstance(ann, dict)
            and ann.get('keypoints') is not None
            and ann['keypoints'] != []
        ]
        faults = [each for each in self._problems if each.rule == 'keypoints']
        if 'category_metas' not in meta:
            self._require_numbers(faults, len(annotated), meta, 'the others')
            return
        for label, category in enumerate(categories):
            own = {
                ann['id']
                for ann in annotated
                if is_id(ann.get('id')) and ann.get('category_id') == category['id']
            }
            self._require_numbers(
                [each for each in faults if each.annotation_id in own],
                len(own),
                category_meta(meta, label),
                f'the others of {category["name"]!r}',
            )

    def _require_numbers(
        self, faults: Sequence[Problem], count: int, meta: dict, others: str
    ) -> None:
        """Refuse a file in which all of ``count`` annotations have another
        number of keypoints than the meta file."""
        if faults and len(faults) == count:
            raise AnnotationError(
                f'{self.ann_file}: annotation {faults[0].annotation_id} has '
                f'{faults[0].found} in "keypoints", and so have {others}; '
                'expected 3 for each of the '
                f'{meta["num_keypoints"]} joints of the meta file. '
                'Set metainfo.from_file to the meta file of this data set, or '
                'keypoints_from if the network has other keypoints.'
            )

    def filter_data(self) -> List[dict]:
        """The images to use; in training without those whose file is
        missing."""
        least = (self.filter_cfg or {}).get('min_keypoints', 0)
        if isinstance(least, bool) or not isinstance(least, int) or least < 0:
            raise ConfigError(
                'filter_cfg.min_keypoints of the data set: expected a number '
                f'of keypoints, 0 or more, found {least!r}. With 1, images '
                'without a labelled keypoint are left out of the training.'
            )
        kept = super().filter_data()
        few = 0
        if least and not self.test_mode:
            before = len(kept)
            kept = [
                info
                for info in kept
                if sum((instance['keypoints'][:, 2] > 0).sum() for instance in info['instances'])
                >= least
            ]
            few = before - len(kept)
        used = kept
        log_unused(self.data_list, kept, self.filter_cfg, self.ann_file, self.test_mode, few)
        if self.test_mode and self._indices is not None:
            used = self._get_unserialized_subset(self._indices)
        folder = self.data_prefix['img']
        missing = set() if self.backend_args else list_missing(info['img_path'] for info in used)
        if missing and len(missing) == len(used):
            raise AnnotationError(
                f'{folder}: expected the images of {self.ann_file} in this '
                f'folder, found none of {len(used)}, such as '
                f'{used[0]["img_path"]}. Set data_prefix.img of the dataset.'
            )
        problems = [
            Problem(
                'image_missing',
                info['img_id'],
                None,
                'no such file',
                f'the file {info["img_path"]}',
                'left out',
            )
            for info in used
            if info['img_path'] in missing
        ]
        refuse(problems, self.ann_file, folder, self.test_mode, self.strict)
        log_problems(self._problems + problems, self.ann_file, folder, self.test_mode)
        self._problems = []
        return [info for info in kept if info['img_path'] not in missing]

    def __getitem__(self, idx: int) -> dict:
        """Load an image; in training, in place of one that cannot be read,
        another one.

        The data sample then has ``replaced_images``, the path and the reason
        of each that was replaced.

        Raises:
            ImageError: If an image cannot be read in ``test_mode``, or none
                of ``max_refetch`` others in training.
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
                raise ImageError(
                    replaced[-1][0],
                    f'{replaced[-1][1]}. It is the last of {len(replaced)} '
                    'images in a row that could not be read. See to the '
                    'storage; tools/dataset/check_coco.py --images looks at '
                    'all images.',
                )
            idx = self._rand_another()
        if replaced and 'data_samples' in data:
            data['data_samples'].set_metainfo(dict(replaced_images=replaced))
        elif replaced:  # a wrapper packs, as MultiImageMixDataset
            data['replaced_images'] = replaced
        return data

    def parse_data_info(self, raw_data_info: dict) -> Union[dict, List[dict]]:
        """Parse one image; each instance gets ``keypoints``, a (K, 3) array
        of x, y in continuous image pixels and COCO's visibility, which is -1
        for keypoints that its category does not have or, by
        ``keypoints_from``, the whole file does not label."""
        # mmdet drops degenerate annotations without saying which, so they
        # are parsed one at a time to keep joints and boxes together.
        data_info = super().parse_data_info(dict(raw_data_info, raw_ann_info=[]))
        data_info['flip_indices'] = self.metainfo['flip_indices']
        for ann in raw_data_info['raw_ann_info']:
            parsed = super().parse_data_info(dict(raw_data_info, raw_ann_info=[ann]))['instances']
            for instance in parsed:
                instance['keypoints'] = self._parse_keypoints(ann)
                data_info['instances'].append(instance)
        return data_info

    def _parse_keypoints(self, ann: dict) -> np.ndarray:
        own = category_meta(self.metainfo, self.cat2label[ann['category_id']])
        count = own['num_keypoints']
        flat = count and ann.get('keypoints') or [0] * (3 * count)
        joints = np.zeros((self.metainfo['num_keypoints'], 3), np.float32)
        joints[:, 2] = -1
        joints[own.get('indices', slice(None))] = np.reshape(flat, (count, 3))
        joints[self._unlabelled, 2] = -1
        joints[:, :2] += 0.5
        return joints


def keypoint_counts(meta: dict, classes: Sequence[str]) -> Union[int, Mapping[str, int]]:
    """Return the number of keypoints of an annotation: one for all
    categories, or by the name of the category.

    Args:
        meta (dict): The metainfo of the annotation file.
        classes (Sequence[str]): Names of its categories, in label order.
    """
    if 'category_metas' not in meta:
        return len(meta['sigmas'])
    return {name: own['num_keypoints'] for name, own in zip(classes, meta['category_metas'])}


def order_categories(
    categories: Sequence[dict], classes: Sequence[str], ann_file: str
) -> List[dict]:
    """Find the categories of an annotation file that are classes.

    Args:
        categories (Sequence[dict]): Of the file, in any order.
        classes (Sequence[str]): Names of the classes, in label order.
        ann_file (str): The file, for messages.

    Returns:
        list[dict]: The category of each label.

    Raises:
        AnnotationError: If a class has no category, or two.
    """
    by_name: Dict[str, List[dict]] = {}
    for category in categories:
        if isinstance(category, dict):
            by_name.setdefault(str(category.get('name')), []).append(category)
    for name in classes:
        if len(by_name.get(name, ())) != 1:
            raise AnnotationError(
                f'{ann_file}: categories: expected one for each of '
                f'{list(classes)}, found {len(by_name.get(name, ()))} named '
                f'{name!r} among {list(by_name)}. Set metainfo.classes of the '
                'dataset to names in the file.'
            )
    return [by_name[name][0] for name in classes]


def _labelled_tasks(annotations: Sequence[dict]) -> frozenset:
    """Tasks that some annotation other than a crowd is labelled for."""
    people = [ann for ann in annotations if not ann.get('iscrowd')]
    labelled = dict(
        bbox=any(ann.get('bbox') for ann in people),
        segm=any(ann.get('segmentation') for ann in people),
        keypoints=any(any(ann.get('keypoints', ())[2::3]) for ann in people),
    )
    return frozenset(task for task, there in labelled.items() if there)
