"""An exported model, from pixels to instances.

Shape letters: N instances, K keypoints.
"""

from pathlib import Path

import numpy as np

from multitask_runtime.utils.types import Array

from .masks import paste_masks
from .session import load_session


class OnnxModel:
    """Run an exported model on one image at a time.

    Args:
        path (str | Path): The ONNX file.
        device (str): As in :func:`load_session`. Defaults to 'cpu'.

    Attributes:
        metadata (dict): Metadata of the file, see ``read_metadata``.
        has_keypoints (bool): Whether the model has a keypoint head.

    Raises:
        FileNotFoundError: If the file does not exist.
        OnnxError: If the file cannot be used, see :func:`load_session`.
    """

    def __init__(self, path: str | Path, device: str = 'cpu') -> None:
        self._session, self.metadata = load_session(path, device)
        self._output_names = [output.name for output in self._session.get_outputs()]
        self.has_keypoints = 'keypoints' in self._output_names

    def __call__(
        self, image: Array, scale_factor: tuple[float, float], ori_shape: tuple[int, int]
    ) -> dict[str, Array]:
        """Detect the instances of one image.

        Args:
            image (np.ndarray): BGR, 0 to 255, resized as the metadata say, shape (3, H', W').
            scale_factor (tuple[float, float]): Width and height of the resized image
                over those of the original one.
            ori_shape (tuple[int, int]): Height and width of the original image.

        Returns:
            dict[str, np.ndarray]: ``bboxes`` (N, 4) xyxy, ``scores`` (N) and ``labels``
            (N), all 0; depending on the heads ``masks`` (N, H, W) bool, ``keypoints``
            (N, K, 2) and ``keypoint_scores`` (N, K), and the fields of the branches, as of
            PyTorch's predictions. In pixels of the original image.
        """
        # (3, H', W') -> (1, 3, H', W')
        feed = dict(image=np.ascontiguousarray(image[None], np.float32))
        outputs = dict(zip(self._output_names, self._session.run(None, feed), strict=True))
        scale = np.array(scale_factor, np.float32)  # (2): x, y
        instances = dict(
            bboxes=outputs['boxes'] / np.tile(scale, 2),
            scores=outputs['scores'],
            labels=np.zeros(len(outputs['scores']), np.int64),
        )
        if 'masks' in outputs:
            threshold = self.metadata['mask_threshold']
            boxes = instances['bboxes']
            instances['masks'] = paste_masks(outputs['masks'], boxes, ori_shape, threshold)
        if 'keypoints' in outputs:
            instances['keypoints'] = outputs['keypoints'] / scale
            instances['keypoint_scores'] = outputs['keypoint_scores']
        for name in {'mask_scores', 'pose_scores'} & outputs.keys():
            instances[name] = outputs[name]
        if 'keypoints_visible_probs' in outputs:
            probs = outputs['keypoints_visible_probs']  # (N, K, 3)
            instances.update(keypoints_visible_probs=probs, keypoints_visible=probs.argmax(-1))
        return instances
