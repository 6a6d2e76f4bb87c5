"""Reading an image, with an error of its own where that fails."""

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from mmengine import fileio

from multitask_refine.datasets.validation.images import ImageError, find_truncation


@TRANSFORMS.register_module()
class CheckedLoadImageFromFile(LoadImageFromFile):
    """Load an image as mmcv does, but only if it is whole and of the size
    that its annotations say.

    Decoders fill what is missing of a picture with grey. And what was
    annotated on a picture of another size is somewhere else in this one.

    Args:
        to_float32 (bool): Defaults to False.
        color_type (str): Defaults to 'color'.
        imdecode_backend (str): Defaults to 'cv2'.
        backend_args (dict, optional): Where the files are, for MMEngine.

    All are those of mmcv's ``LoadImageFromFile``.

    Raises:
        ImageError: If the file cannot be read or decoded, ends too early,
            or has another size than ``width`` and ``height`` in the
            annotations, if those are there.
    """

    def __init__(
        self,
        to_float32: bool = False,
        color_type: str = 'color',
        imdecode_backend: str = 'cv2',
        backend_args: dict = None,
    ) -> None:
        super().__init__(to_float32, color_type, imdecode_backend, backend_args=backend_args)

    def transform(self, results: dict) -> dict:
        path = results['img_path']
        image = self._decode(path, self._read(path))
        height, width = image.shape[:2]
        expected = results.get('height', height), results.get('width', width)
        if (height, width) != expected:
            raise ImageError(
                path,
                f'expected {expected[1]} x {expected[0]} pixels as the '
                f'annotation file says, found {width} x {height}',
            )
        if self.to_float32:
            image = image.astype(np.float32)
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = (height, width)
        return results

    def _read(self, path: str) -> bytes:
        try:
            content = fileio.get(path, backend_args=self.backend_args)
        except OSError as error:
            raise ImageError(path, f'cannot be read ({error.strerror or error})') from None
        found = find_truncation(content)
        if found:
            raise ImageError(path, f'expected a whole picture, found {found}')
        return content

    def _decode(self, path: str, content: bytes) -> np.ndarray:
        try:
            image = mmcv.imfrombytes(content, flag=self.color_type, backend=self.imdecode_backend)
        # The decoders of many formats raise nearly anything.
        except Exception as error:
            raise ImageError(path, f'cannot be decoded ({error})') from None
        if image is None:
            raise ImageError(path, f'expected a picture, found {len(content)} bytes that are none')
        return image
