"""Picture files, read by the step of the config's pipeline."""

import numpy as np
from mmdet.registry import TRANSFORMS

from multitask_runtime.io import image_file


class ImageFile(image_file.ImageFile):
    """Reads picture files the way the config's pipeline does.

    Args:
        step (dict): The config of the pipeline's ``LoadImageFromFile``.
    """

    def __init__(self, step: dict) -> None:
        super().__init__(step.get('imdecode_backend', 'cv2'))
        self._step = dict(step, to_float32=False)

    def _read(self, path: str, backend: str) -> np.ndarray:
        step = TRANSFORMS.build(dict(self._step, imdecode_backend=backend))
        return step(dict(img_path=path))['img']
