"""Loading of images and annotations."""

import mmcv
import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.registry import TRANSFORMS
from mmengine import fileio

from multitask_refine.datasets.validation.images import ImageError, find_truncation
from multitask_refine.structures import KeypointBoxes


@TRANSFORMS.register_module()
class CheckedLoadImageFromFile(LoadImageFromFile):
    """Load an image as mmcv does, if it is complete and of the annotated size.

    Decoders fill the missing part of a truncated image with gray, and annotations made on an
    image of another size are in the wrong place.

    Args:
        to_float32 (bool): Convert the image to float32. Defaults to False.
        color_type (str): Flag of ``mmcv.imfrombytes``. Defaults to 'color'.
        imdecode_backend (str): Decoder of mmcv. Defaults to 'cv2'.
        backend_args (dict, optional): File backend of MMEngine.

    Raises:
        ImageError: If the file cannot be read or decoded, is truncated, or differs from ``width``
            and ``height`` of the annotations, if they are given.
    """

    def __init__(
        self,
        to_float32: bool = False,
        color_type: str = 'color',
        imdecode_backend: str = 'cv2',
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(to_float32, color_type, imdecode_backend, backend_args=backend_args)

    def transform(self, results: dict) -> dict:
        """Set ``img``, ``img_shape`` and ``ori_shape``."""
        path = results['img_path']
        try:
            content = fileio.get(path, backend_args=self.backend_args)
        except OSError as error:
            raise ImageError(path, f'cannot be read ({error.strerror or error})') from None
        found = find_truncation(content)
        if found:
            raise ImageError(path, f'expected a complete image, found {found}')
        try:
            image = mmcv.imfrombytes(content, flag=self.color_type, backend=self.imdecode_backend)
        except Exception as error:  # decoders raise almost anything
            raise ImageError(path, f'cannot be decoded ({error})') from None
        if image is None:
            raise ImageError(path, f'expected an image, found {len(content)} bytes that are none')

        height, width = image.shape[:2]
        expected = results.get('height', height), results.get('width', width)
        if (height, width) != expected:
            raise ImageError(
                path,
                f'expected {expected[1]} x {expected[0]} pixels as the annotation file says, '
                f'found {width} x {height}',
            )
        if self.to_float32:
            image = image.astype(np.float32)
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = (height, width)
        return results


@TRANSFORMS.register_module()
class LoadMultitaskAnnotations(LoadAnnotations):
    """Load boxes, labels, masks (polygons and RLE) and keypoints.

    Keypoints are part of ``gt_bboxes``, a
    :class:`~multitask_refine.structures.KeypointBoxes`, so that each mmdet transform moves them
    together with boxes and masks. An instance without a mask gets an empty one, and
    ``gt_bboxes.has_mask`` is False.

    Args:
        with_mask (bool): Load the masks; otherwise no instance has one. Defaults to True.
        **kwargs: Arguments of mmdet's ``LoadAnnotations``. With ``poly2mask=False`` masks stay
            polygons, which a resize scales exactly, unless an instance of the image that is no
            crowd has an RLE: then all of them are bitmaps.
    """

    def __init__(self, with_mask: bool = True, **kwargs) -> None:
        super().__init__(with_mask=with_mask, **kwargs)

    def transform(self, results: dict) -> dict:
        """Set ``gt_bboxes``, ``gt_bboxes_labels``, ``gt_ignore_flags`` and ``gt_masks``."""
        results = super().transform(results)
        instances, flip_indices = results['instances'], results['flip_indices']
        keypoints = np.array([instance['keypoints'] for instance in instances], np.float32)
        keypoints = torch.from_numpy(keypoints.reshape(-1, len(flip_indices), 3))  # (N, K, 3)
        has_mask = [self.with_mask and 'mask' in instance for instance in instances]
        results['gt_bboxes'] = KeypointBoxes(
            results['gt_bboxes'].tensor,
            keypoints[..., :2],
            keypoints[..., 2],
            flip_indices,
            torch.tensor(has_mask, dtype=torch.bool),
        )
        return results

    def _load_masks(self, results: dict) -> None:
        poly2mask = self.poly2mask
        self.poly2mask = poly2mask or any(
            isinstance(each.get('mask'), dict) and not each['ignore_flag']
            for each in results['instances']
        )
        super()._load_masks(results)
        self.poly2mask = poly2mask

    def _process_masks(self, results: dict) -> list:
        """Collect the masks, with mmdet's empty polygon for instances without one.

        mmdet would set ``gt_ignore_flags`` of these instances.
        """
        instances = results['instances']
        with_mask = [instance for instance in instances if 'mask' in instance]
        # those with a mask, in order
        masks = iter(super()._process_masks(dict(instances=with_mask)))
        results['gt_ignore_flags'] = np.array(
            [instance['ignore_flag'] for instance in instances], dtype=bool
        )
        # Three equal corners: a polygon that PolygonMasks and BitmapMasks accept, without a pixel
        return [next(masks) if 'mask' in instance else [np.zeros(6)] for instance in instances]
