"""An exported model, from pixels to instances.

Shape letters: N instances, K keypoints.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from multitask_runtime.utils.types import Array

from .masks import paste_masks
from .session import Outputs, load_session


class ResizedImage(NamedTuple):
    """An image as the model takes it.

    Attributes:
        pixels (np.ndarray): BGR, 0 to 255, resized as the metadata say, shape (3, H', W').
        scale_factor (tuple[float, float]): Width and height of the resized image over those of
            the original one.
        ori_shape (tuple[int, int]): Height and width of the original image.
    """

    pixels: Array
    scale_factor: tuple[float, float]
    ori_shape: tuple[int, int]


class OnnxModel:
    """Run an exported model on images.

    Args:
        path (str | Path): The file.
        device (str): As in :func:`load_session`. Defaults to 'cpu'.
        options: ``backend``, ``precision`` and ``threads`` of :func:`load_session`.

    Attributes:
        metadata (dict): Metadata of the file, see ``read_metadata``.
        has_keypoints (bool): Whether the model has a keypoint head.
        runtime (str): Backend, its version and the precision.

    Raises:
        FileNotFoundError: If the file does not exist.
        OnnxError: If the file cannot be used, see :func:`load_session`.
    """

    def __init__(self, path: str | Path, device: str = 'cpu', **options: Any) -> None:
        self._session = load_session(path, device, **options)
        self.metadata, self.runtime = self._session.metadata, self._session.runtime
        self.has_keypoints = 'keypoints' in self._session.output_names

    def __call__(self, images: Sequence[ResizedImage]) -> list[dict[str, Array]]:
        """Detect the instances of some images, which run in parallel.

        Args:
            images (Sequence[ResizedImage]): The images; the sizes may differ.

        Returns:
            list[dict[str, np.ndarray]]: Of each image ``bboxes`` (N, 4) xyxy, ``scores`` (N)
            and ``labels`` (N), all 0; depending on the heads ``masks`` (N, H, W) bool,
            ``keypoints`` (N, K, 2) and ``keypoint_scores`` (N, K), and the fields of the
            branches, as of PyTorch's predictions. In pixels of the original images.
        """
        # (3, H', W') -> (1, 3, H', W')
        pixels = [np.ascontiguousarray(image.pixels[None], np.float32) for image in images]
        return [
            self._to_instances(outputs, image)
            for outputs, image in zip(self._session.run(pixels), images, strict=True)
        ]

    def _to_instances(self, outputs: Outputs, image: ResizedImage) -> dict[str, Array]:
        """Convert the outputs of the graph to pixels of the original image."""
        scale = np.array(image.scale_factor, np.float32)  # (2): x, y
        instances = dict(
            bboxes=outputs['boxes'] / np.tile(scale, 2),
            scores=outputs['scores'],
            labels=np.zeros(len(outputs['scores']), np.int64),
        )
        if 'masks' in outputs:
            threshold = self.metadata['mask_threshold']
            boxes = instances['bboxes']
            instances['masks'] = paste_masks(outputs['masks'], boxes, image.ori_shape, threshold)
        if 'keypoints' in outputs:
            instances['keypoints'] = outputs['keypoints'] / scale
            instances['keypoint_scores'] = outputs['keypoint_scores']
        for name in {'mask_scores', 'pose_scores'} & outputs.keys():
            instances[name] = outputs[name]
        if 'keypoints_visible_probs' in outputs:
            probs = outputs['keypoints_visible_probs']  # (N, K, 3)
            instances.update(keypoints_visible_probs=probs, keypoints_visible=probs.argmax(-1))
        return instances
