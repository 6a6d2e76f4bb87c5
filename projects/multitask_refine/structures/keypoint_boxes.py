"""Boxes that carry the keypoints of their instance.

mmdet's transforms move, crop, select and concatenate boxes through a few methods of the box class.
A box class that moves its keypoints in the same methods makes every mmdet transform a transform of
boxes, masks and keypoints.

Shape letters: N instances, K keypoints.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.structures.bbox import HorizontalBoxes
from torch import Tensor


class KeypointBoxes(HorizontalBoxes):
    """Boxes xyxy with keypoints, both in continuous image pixels.

    A keypoint that a transform moves out of the image (``clip_``) becomes unlabeled. A mirror
    image swaps left and right.

    Args:
        data (Tensor | np.ndarray | Sequence): Boxes, shape (N, 4).
        keypoints (Tensor): Keypoints x, y, shape (N, K, 2).
        keypoints_visible (Tensor): COCO's visibility: 0 unlabeled, 1 labeled but occluded,
            2 visible; -1 where the category of the instance has no such keypoint. Shape (N, K).
        flip_indices (Sequence[int]): For each keypoint the index of its counterpart in the mirror
            image. Length K.
        has_mask (Tensor, optional): Whether the mask of the instance is labeled, bool, shape (N).
            Defaults to all.
        clone (bool): Whether to copy the tensors. Defaults to True.

    Raises:
        ValueError: If the shapes do not match.
    """

    def __init__(
        self,
        data: Tensor | np.ndarray | Sequence[Sequence[float]],
        keypoints: Tensor,
        keypoints_visible: Tensor,
        flip_indices: Sequence[int],
        has_mask: Tensor | None = None,
        clone: bool = True,
    ) -> None:
        """Check the shapes and store the tensors."""
        super().__init__(data, clone=clone)
        if has_mask is None:
            has_mask = torch.ones(len(self), dtype=torch.bool, device=self.device)
        shape = (len(self), len(flip_indices), 2)
        found = [tuple(field.shape) for field in (keypoints, keypoints_visible, has_mask)]
        if found != [shape, shape[:2], shape[:1]]:
            raise ValueError(
                f'{len(self)} boxes with {len(flip_indices)} keypoints: expected keypoints of '
                f'shape {shape}, keypoints_visible of shape {shape[:2]} and has_mask of shape '
                f'{shape[:1]}, found {found[0]}, {found[1]} and {found[2]}'
            )
        self.keypoints = keypoints.clone() if clone else keypoints
        self.keypoints_visible = keypoints_visible.clone() if clone else keypoints_visible
        self.has_mask = has_mask.clone() if clone else has_mask
        self.flip_indices = list(flip_indices)

    # ---- methods of a container that mmdet's transforms use

    def __getitem__(self, index: Any) -> 'KeypointBoxes':
        """Select instances by an integer, a slice, a mask or indices; one instance stays 2D."""
        if isinstance(index, np.ndarray):
            index = torch.as_tensor(index, device=self.device)
        if isinstance(index, int):
            index = slice(index, index + 1 or None)  # -1 gives slice(-1, None)
        return type(self)(
            self.tensor[index],
            self.keypoints[index],
            self.keypoints_visible[index],
            self.flip_indices,
            self.has_mask[index],
            clone=False,
        )

    def __setitem__(self, index: Any, values: 'KeypointBoxes') -> None:
        """Replace instances."""
        super().__setitem__(index, values)
        self.keypoints[index] = values.keypoints
        self.keypoints_visible[index] = values.keypoints_visible
        self.has_mask[index] = values.has_mask

    def __deepcopy__(self, memo: dict[int, Any]) -> 'KeypointBoxes':
        """Return a copy."""
        return self.clone()

    def clone(self) -> 'KeypointBoxes':
        """Return a copy."""
        return type(self)(
            self.tensor,
            self.keypoints,
            self.keypoints_visible,
            self.flip_indices,
            self.has_mask,
            clone=True,
        )

    def empty_boxes(self, dtype: Any = None, device: Any = None) -> 'KeypointBoxes':
        """Return no boxes, with the same keypoint layout."""
        return self[:0].clone()

    @classmethod
    def cat(cls, box_list: Sequence['KeypointBoxes'], dim: int = 0) -> 'KeypointBoxes':
        """Concatenate the boxes of several objects along dimension 0."""
        if dim != 0:
            raise ValueError(f'boxes are concatenated along dim 0, not {dim}')
        return cls(
            torch.cat([boxes.tensor for boxes in box_list]),
            torch.cat([boxes.keypoints for boxes in box_list]),
            torch.cat([boxes.keypoints_visible for boxes in box_list]),
            box_list[0].flip_indices,
            torch.cat([boxes.has_mask for boxes in box_list]),
            clone=False,
        )

    # ---- geometric transforms, which move boxes and keypoints together

    def flip_(self, img_shape: tuple[int, int], direction: str = 'horizontal') -> None:
        """Flip within an image of shape (height, width), in place."""
        super().flip_(img_shape, direction)
        height, width = img_shape
        if direction in ('horizontal', 'diagonal'):
            # Continuous coordinates: not width - 1 - x, which is the rule of pixel indices
            self.keypoints[..., 0] = width - self.keypoints[..., 0]
        if direction in ('vertical', 'diagonal'):
            self.keypoints[..., 1] = height - self.keypoints[..., 1]
        if direction != 'diagonal':  # which is a rotation by 180 degrees, not a mirror image
            self._swap_left_and_right()

    def translate_(self, distances: tuple[float, float]) -> None:
        """Translate by (x, y) pixels, in place."""
        super().translate_(distances)
        self.keypoints = self.keypoints + self.keypoints.new_tensor(distances)

    def rescale_(self, scale_factor: tuple[float, float]) -> None:
        """Rescale by factors (x, y), in place."""
        super().rescale_(scale_factor)
        self.keypoints = self.keypoints * self.keypoints.new_tensor(scale_factor)

    def rotate_(self, center: tuple[float, float], angle: float) -> None:
        """Rotate clockwise by ``angle`` degrees about a point (x, y), in place."""
        super().rotate_(center, angle)
        # OpenCV's positive angles turn counterclockwise.
        affine = cv2.getRotationMatrix2D(center, -angle, 1)  # (2, 3)
        self._project_keypoints(np.vstack([affine, [0, 0, 1]]))

    def project_(self, homography_matrix: Tensor | np.ndarray) -> None:
        """Project by a 3x3 homography, in place."""
        super().project_(homography_matrix)
        self._project_keypoints(homography_matrix)

    def clip_(self, img_shape: tuple[int, int]) -> None:
        """Clip the boxes to an image of shape (height, width), in place.

        Keypoints outside the image become unlabeled.
        """
        super().clip_(img_shape)
        limit = self.keypoints.new_tensor([img_shape[1], img_shape[0]])  # x, y
        inside = ((self.keypoints >= 0) & (self.keypoints <= limit)).all(-1)
        visible = self.keypoints_visible
        # -1 stays: clamping unlabels a keypoint that exists, and leaves one that the category
        # lacks.
        self.keypoints_visible = torch.where(inside, visible, visible.clamp(max=0))

    def _project_keypoints(self, homography_matrix: Tensor | np.ndarray) -> None:
        matrix = torch.as_tensor(homography_matrix).to(self.keypoints)
        ones = self.keypoints.new_ones(*self.keypoints.shape[:-1], 1)
        homogeneous = torch.cat([self.keypoints, ones], -1) @ matrix.T  # (N, K, 3)
        self.keypoints = homogeneous[..., :2] / homogeneous[..., 2:]
        if torch.linalg.det(matrix) < 0:  # a mirror image
            self._swap_left_and_right()

    def _swap_left_and_right(self) -> None:
        # (N, K, 2); the left wrist of the image is the right wrist of its mirror image
        self.keypoints = self.keypoints[:, self.flip_indices]
        self.keypoints_visible = self.keypoints_visible[:, self.flip_indices]
