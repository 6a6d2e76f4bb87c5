"""Read image files with the loading transform of a pipeline."""

import numpy as np
from mmdet.registry import TRANSFORMS

from multitask_runtime.io import image_file


class ImageFile(image_file.ImageFile):
    """Reader of image files that applies the pipeline's loading transform.

    Args:
        transform (dict): Config of the pipeline's ``LoadImageFromFile``.
    """

    def __init__(self, transform: dict) -> None:
        super().__init__(transform.get('imdecode_backend', 'cv2'))
        self._transform = dict(transform, to_float32=False)

    def _read(self, path: str, backend: str) -> np.ndarray:
        load = TRANSFORMS.build(dict(self._transform, imdecode_backend=backend))
        return load(dict(img_path=path))['img']
