"""COCO-format annotations of boxes, masks and joints."""
from pathlib import Path
from typing import List, Optional, Union

import mmpose
import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmpose.datasets.datasets.utils import parse_pose_metainfo


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

    The other arguments are those of ``mmdet.datasets.CocoDataset``.

    Raises:
        FileNotFoundError: If the annotation file or the folder of the images
            is missing.
        ValueError: If the annotation file lacks the categories, or an
            annotation has another number of joints than the meta file.
    """

    METAINFO = dict(
        classes=('person', ),
        palette=[(220, 20, 60)],
        from_file='coco.py')

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
        flat = ann.get('keypoints', [0] * (3 * num_keypoints))
        if len(flat) != 3 * num_keypoints:
            raise ValueError(
                f'{self.ann_file}: annotation {ann["id"]} has '
                f'{len(flat)} numbers in "keypoints", expected 3 for each of '
                f'the {num_keypoints} joints of the meta file. Set '
                'metainfo.from_file to the meta file of this data set.')
        joints = np.array(flat, dtype=np.float32).reshape(num_keypoints, 3)
        joints[:, :2] += 0.5
        return joints
