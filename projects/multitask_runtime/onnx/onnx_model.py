"""An exported network: from pixels to people.

N people, K joints, masks of M x M cells.
"""

from pathlib import Path
from typing import Dict, Tuple, Union

import numpy as np

from .masks import paste_masks
from .session import load_session


class OnnxModel:
    """Runs an ONNX file of this project.

    Args:
        path (str | Path): The file.
        device (str): As in :func:`load_session`. Defaults to 'cpu'.

    Attributes:
        metadata (dict): Metadata of the file, see ``read_metadata``.
        has_keypoints (bool): Whether the network has a keypoint head.

    Raises:
        FileNotFoundError, OnnxError: As :func:`load_session`.
    """

    def __init__(self, path: Union[str, Path], device: str = 'cpu') -> None:
        self._session, self.metadata = load_session(path, device)
        self._names = [output.name for output in self._session.get_outputs()]
        self.has_keypoints = 'keypoints' in self._names

    def __call__(
        self, pixels: np.ndarray, scale_factor: Tuple[float, float], shape: Tuple[int, int]
    ) -> Dict[str, np.ndarray]:
        """Find the people of one picture.

        Args:
            pixels (np.ndarray): (3, H', W') BGR, 0 to 255, resized as the
                metadata say.
            scale_factor (tuple[float, float]): How many times wider and
                higher it is than the original picture.
            shape (tuple[int, int]): The original's height and width.

        Returns:
            dict: ``bboxes`` (N, 4) xyxy, ``scores`` (N) and ``labels`` (N),
            all 0; of the heads that are there ``masks`` (N, H, W) bool,
            ``keypoints`` (N, K, 2) and ``keypoint_scores`` (N, K). In pixels
            of the original picture.
        """
        pixels = np.ascontiguousarray(pixels[None], np.float32)
        found = dict(zip(self._names, self._session.run(None, dict(image=pixels))))
        factor = np.array(scale_factor, np.float32)
        people = dict(
            bboxes=found['boxes'] / np.tile(factor, 2),
            scores=found['scores'],
            labels=np.zeros(len(found['scores']), np.int64),
        )
        if 'masks' in found:
            people['masks'] = paste_masks(
                found['masks'], people['bboxes'], shape, self.metadata['mask_threshold']
            )
        if 'keypoints' in found:
            people['keypoints'] = found['keypoints'] / factor
            people['keypoint_scores'] = found['keypoint_scores']
        return people
