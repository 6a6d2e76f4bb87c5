"""COCO-format annotations of boxes, masks and joints."""
from pathlib import Path
from typing import List, Optional, Union

import mmpose
import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.registry import DATASETS
from mmpose.datasets.datasets.utils import parse_pose_metainfo

from .annotation_rules import (keep_classes, mend, read_annotations,
                               same_joints)
from .image_rules import ImageError, list_missing
from .problems import AnnotationError, Problem
from .startup import log_labels, log_problems, refuse


def find_meta_file(name: str) -> str:
    """Find a dataset meta file.

    Args:
        name (str): A path, or the file name of one that mmpose ships.

    Returns:
        str: The path of the file.

    Raises:
        FileNotFoundError: If there is no such file in either place.
    """
    if Path(name).is_file():
        return name
    shipped = Path(mmpose.__file__).parent / '.mim/configs/_base_/datasets'
    if (shipped / name).is_file():
        return str(shipped / name)
    raise FileNotFoundError(
        f'metainfo.from_file: there is no dataset meta file {name!r}, '
        f'neither at this path nor among those of mmpose in {shipped}')


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
                'data_root of the dataset and ann_file of the evaluator.')


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
            ``classes`` are the categories to keep. Defaults to COCO's
            persons (``coco.py``).

        strict (bool): Whether any problem of the annotations, or a missing
            image, is an error. Defaults to False.

    The other arguments are those of ``mmdet.datasets.CocoDataset``.

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
        AnnotationError: If the annotation file is none, all its annotations
            have another number of joints than the meta file, or it has
            problems and ``strict`` or ``test_mode`` do not allow them.
        ValueError: If the annotation file lacks the categories.
    """

    METAINFO = dict(
        classes=('person', ),
        palette=[(220, 20, 60)],
        from_file='coco.py')

    def __init__(self, *args, strict: bool = False, **kwargs) -> None:
        self.strict = strict
        self._problems: List[Problem] = []
        super().__init__(*args, **kwargs)

    @classmethod
    def _load_metainfo(cls, metainfo: Optional[dict] = None) -> dict:
        """Merge the classes with what the meta file says of the joints."""
        merged = {**cls.METAINFO, **(metainfo or {})}
        meta_file = find_meta_file(merged.pop('from_file'))
        return {**parse_pose_metainfo(dict(from_file=meta_file)), **merged}

    def load_data_list(self) -> List[dict]:
        if self.backend_args is None:
            require_files(self.ann_file, self.data_prefix['img'])
        data_list = super().load_data_list()
        if len(self.cat_ids) != len(self.metainfo['classes']):
            raise ValueError(
                f'{self.ann_file}: expected the categories '
                f'{list(self.metainfo["classes"])}, found '
                f'{len(self.cat_ids)} of them. Set metainfo.classes of the '
                'dataset to names in the file.')
        return data_list

    def COCOAPI(self, path: str) -> COCO:  # by this name mmdet calls it
        """The index of the file: mended, or in ``test_mode`` as it is."""
        content = keep_classes(read_annotations(path),
                               self.metainfo['classes'])
        mended, self._problems = mend(
            content, same_joints(content, self.metainfo['num_keypoints']))
        self._check_meta_file(content)
        refuse(self._problems, self.ann_file, self.data_prefix['img'],
               self.test_mode, self.strict)
        if not self.test_mode:
            log_labels(
                mended.get('annotations', ()), self.ann_file,
                any(
                    getattr(step, 'with_mask', False)
                    for step in self.pipeline.transforms))
        coco = COCO()
        coco.dataset = content if self.test_mode else mended
        coco.createIndex()
        coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs
        return coco

    def _check_meta_file(self, content: dict) -> None:
        """A fault of all annotations is none of theirs."""
        faults = [each for each in self._problems if each.rule == 'keypoints']
        counted = sum(
            isinstance(ann, dict) and ann.get('keypoints') is not None
            and ann['keypoints'] != []
            for ann in content.get('annotations', ()))
        if faults and len(faults) == counted:
            raise AnnotationError(
                f'{self.ann_file}: annotation {faults[0].annotation_id} has '
                f'{faults[0].found} in "keypoints", and so have the others; '
                'expected 3 for each of the '
                f'{self.metainfo["num_keypoints"]} joints of the meta file. '
                'Set metainfo.from_file to the meta file of this data set.')

    def filter_data(self) -> List[dict]:
        """The images to use; in training without those whose file is
        missing."""
        kept = used = super().filter_data()
        if self.test_mode and self._indices is not None:
            used = self._get_unserialized_subset(self._indices)
        folder = self.data_prefix['img']
        missing = set() if self.backend_args else list_missing(
            info['img_path'] for info in used)
        if missing and len(missing) == len(used):
            raise AnnotationError(
                f'{folder}: expected the images of {self.ann_file} in this '
                f'folder, found none of {len(used)}, such as '
                f'{used[0]["img_path"]}. Set data_prefix.img of the dataset.')
        problems = [
            Problem('image_missing', info['img_id'], None, 'no such file',
                    f'the file {info["img_path"]}', 'left out')
            for info in used if info['img_path'] in missing
        ]
        refuse(problems, self.ann_file, folder, self.test_mode, self.strict)
        log_problems(self._problems + problems, self.ann_file, folder,
                     self.test_mode)
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
                    'all images.')
            idx = self._rand_another()
        if replaced and 'data_samples' in data:
            data['data_samples'].set_metainfo(dict(replaced_images=replaced))
        return data

    def parse_data_info(self, raw_data_info: dict) -> Union[dict, List[dict]]:
        """Parse one image; each instance gets ``keypoints``, a (K, 3) array
        of x, y in continuous image pixels and COCO's visibility."""
        # mmdet drops degenerate annotations without saying which, so they
        # are parsed one at a time to keep joints and boxes together.
        data_info = super().parse_data_info(
            dict(raw_data_info, raw_ann_info=[]))
        data_info['flip_indices'] = self.metainfo['flip_indices']
        for ann in raw_data_info['raw_ann_info']:
            parsed = super().parse_data_info(
                dict(raw_data_info, raw_ann_info=[ann]))['instances']
            for instance in parsed:
                instance['keypoints'] = self._parse_keypoints(ann)
                data_info['instances'].append(instance)
        return data_info

    def _parse_keypoints(self, ann: dict) -> np.ndarray:
        num_keypoints = self.metainfo['num_keypoints']
        flat = ann.get('keypoints') or [0] * (3 * num_keypoints)
        joints = np.array(flat, dtype=np.float32).reshape(num_keypoints, 3)
        joints[:, :2] += 0.5
        return joints
