"""Boxes that carry the joints of their person.

mmdet's transforms move, cut, select and join boxes through a handful of
methods of the box class. A box class that moves its joints in the same
methods makes every mmdet transform a transform of boxes, masks and joints.

Shape letters: N persons, K keypoints.
"""

from typing import List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
import torch
from mmdet.structures.bbox import HorizontalBoxes
from torch import Tensor


class KeypointBoxes(HorizontalBoxes):
    """Boxes xyxy with joints, both in continuous image pixels.

    A joint that a transform moves out of the image (``clip_``) becomes
    unlabelled. A mirroring swaps left and right.

    Args:
        data (Tensor | np.ndarray | Sequence): Boxes, shape (N, 4).
        keypoints (Tensor): Joints x, y, shape (N, K, 2).
        visible (Tensor): COCO's visibility: 0 unlabelled, 1 labelled but
            covered, 2 visible; -1 where the category of the instance has no
            such keypoint. Shape (N, K).
        flip_indices (Sequence[int]): For each joint, the joint that it is in
            the mirror. Length K.
        has_mask (Tensor, optional): Whether the mask of the instance is
            labelled, bool, shape (N). Defaults to all.
        clone (bool): Copy ``data``. Defaults to True.

    Raises:
        ValueError: If the shapes do not belong together.
    """

    def __init__(
        self,
        data: Union[Tensor, np.ndarray, Sequence],
        keypoints: Tensor,
        visible: Tensor,
        flip_indices: Sequence[int],
        has_mask: Optional[Tensor] = None,
        clone: bool = True,
    ) -> None:
        super().__init__(data, clone=clone)
        if has_mask is None:
            has_mask = torch.ones(len(self), dtype=torch.bool, device=self.device)
        expected = (len(self), len(flip_indices), 2)
        shapes = [tuple(field.shape) for field in (keypoints, visible, has_mask)]
        if shapes != [expected, expected[:2], expected[:1]]:
            raise ValueError(
                f'{len(self)} boxes of {len(flip_indices)} joints need '
                f'keypoints of shape {expected}, visible of shape '
                f'{expected[:2]} and has_mask of shape {expected[:1]}, but '
                f'got {shapes[0]}, {shapes[1]} and {shapes[2]}'
            )
        self.keypoints = keypoints.clone() if clone else keypoints
        self.keypoints_visible = visible.clone() if clone else visible
        self.has_mask = has_mask.clone() if clone else has_mask
        self.flip_indices = list(flip_indices)

    def _like(
        self, boxes: Tensor, keypoints: Tensor, visible: Tensor, has_mask: Tensor
    ) -> 'KeypointBoxes':
        return type(self)(boxes, keypoints, visible, self.flip_indices, has_mask, clone=False)

    # ---- the containers' methods that mmdet's transforms use

    def __getitem__(self, index) -> 'KeypointBoxes':
        if isinstance(index, np.ndarray):
            index = torch.as_tensor(index, device=self.device)
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        return self._like(
            self.tensor[index], self.keypoints[index], self.keypoints_visible[index], self.has_mask[index]
        )

    def __setitem__(self, index, values: 'KeypointBoxes') -> None:
        super().__setitem__(index, values)
        self.keypoints[index] = values.keypoints
        self.keypoints_visible[index] = values.keypoints_visible
        self.has_mask[index] = values.has_mask

    def __deepcopy__(self, memo) -> 'KeypointBoxes':
        return self.clone()

    def clone(self) -> 'KeypointBoxes':
        return self._like(
            self.tensor.clone(),
            self.keypoints.clone(),
            self.keypoints_visible.clone(),
            self.has_mask.clone(),
        )

    def empty_boxes(self, dtype=None, device=None) -> 'KeypointBoxes':
        return self[:0].clone()

    @classmethod
    def cat(cls, box_list: List['KeypointBoxes'], dim: int = 0) -> 'KeypointBoxes':
        if dim != 0:
            raise ValueError(f'boxes are joined along dim 0, not {dim}')
        return cls(
            torch.cat([boxes.tensor for boxes in box_list]),
            torch.cat([boxes.keypoints for boxes in box_list]),
            torch.cat([boxes.keypoints_visible for boxes in box_list]),
            box_list[0].flip_indices,
            torch.cat([boxes.has_mask for boxes in box_list]),
            clone=False,
        )

    # ---- geometry: whatever moves the boxes moves the joints

    def flip_(self, img_shape: Tuple[int, int], direction: str = 'horizontal') -> None:
        """Mirror in an image of ``img_shape`` (height, width), in place."""
        super().flip_(img_shape, direction)
        height, width = img_shape
        if direction in ('horizontal', 'diagonal'):
            self.keypoints[..., 0] = width - self.keypoints[..., 0]
        if direction in ('vertical', 'diagonal'):
            self.keypoints[..., 1] = height - self.keypoints[..., 1]
        if direction != 'diagonal':  # a turn by 180 degrees is no mirror
            self._swap_sides()

    def translate_(self, distances: Tuple[float, float]) -> None:
        """Move by (x, y) pixels, in place."""
        super().translate_(distances)
        self.keypoints = self.keypoints + self.keypoints.new_tensor(distances)

    def rescale_(self, scale_factor: Tuple[float, float]) -> None:
        """Scale the image by (x, y) factors, in place."""
        super().rescale_(scale_factor)
        self.keypoints = self.keypoints * self.keypoints.new_tensor(scale_factor)

    def rotate_(self, center: Tuple[float, float], angle: float) -> None:
        """Rotate clockwise by ``angle`` degrees about a point, in place."""
        super().rotate_(center, angle)
        matrix = cv2.getRotationMatrix2D(center, -angle, 1)
        self._project_joints(np.vstack([matrix, [0, 0, 1]]))

    def project_(self, homography_matrix: Union[Tensor, np.ndarray]) -> None:
        """Apply a 3x3 homography, in place."""
        super().project_(homography_matrix)
        self._project_joints(np.asarray(homography_matrix))

    def clip_(self, img_shape: Tuple[int, int]) -> None:
        """Cut the boxes at the border; joints beyond it are unlabelled."""
        super().clip_(img_shape)
        limit = self.keypoints.new_tensor([img_shape[1], img_shape[0]])
        inside = ((self.keypoints >= 0) & (self.keypoints <= limit)).all(-1)
        self.keypoints_visible = torch.where(inside, self.keypoints_visible, self.keypoints_visible.clamp(max=0))

    def _project_joints(self, matrix: np.ndarray) -> None:
        matrix = self.keypoints.new_tensor(matrix)
        ones = self.keypoints.new_ones(*self.keypoints.shape[:-1], 1)
        points = torch.cat([self.keypoints, ones], -1) @ matrix.T
        self.keypoints = points[..., :2] / points[..., 2:]
        if torch.linalg.det(matrix) < 0:
            self._swap_sides()

    def _swap_sides(self) -> None:
        self.keypoints = self.keypoints[:, self.flip_indices]
        self.keypoints_visible = self.keypoints_visible[:, self.flip_indices]
