"""Pictures of people: boxes, masks and skeletons."""
import colorsys
import uuid
from typing import List, Optional, Tuple

import cv2
import numpy as np
import torch
from mmdet.registry import VISUALIZERS
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

_SHIFT = 4  # OpenCV draws on a grid of 1/16 pixel
_GOLDEN = 0.618034  # steps of hue that stay far apart


@VISUALIZERS.register_module()
class MultitaskVisualizer(DetLocalVisualizer):
    """Draw each person's mask and box in its own colour, and its skeleton in
    the colours of the data set's meta file. With ``track_ids`` the colour goes
    by that number.

    Ground truth and predictions are drawn by the same code, side by side
    (``add_datasample``), from tensors or arrays; of the ground truth all labelled joints are drawn,
    the covered ones as rings.

    Args:
        name (str): As in MMEngine. Defaults to 'visualizer'.
        kpt_thr (float): Joints with a lower score are hidden, with their
            limbs. Defaults to 0.2.
        mask_alpha (float): Opacity of the masks. Defaults to 0.4.
        kwargs: As in mmdet's ``DetLocalVisualizer``.
    """

    def __init__(self,
                 name: str = 'visualizer',
                 kpt_thr: float = 0.2,
                 mask_alpha: float = 0.4,
                 **kwargs) -> None:
        super().__init__(name=name, **kwargs)
        self.kpt_thr = kpt_thr
        self.mask_alpha = mask_alpha

    @classmethod
    def get_instance(cls, name: Optional[str] = None, **kwargs):
        """As in MMEngine, where a runner gives its own name. mmdet's tools
        give none: they get a new visualizer."""
        return super().get_instance(name or uuid.uuid4().hex, **kwargs)

    def _draw_instances(self, image: np.ndarray, instances: InstanceData,
                        classes: Optional[List[str]],
                        palette: Optional[List[tuple]]) -> np.ndarray:
        """Draw all people of one image (RGB, (H, W, 3) uint8)."""
        image = np.ascontiguousarray(image).copy()
        colors = [_instance_color(i) for i in _numbers(instances)]
        # Small pictures get thin lines.
        unit = max(1, round(min(image.shape[:2]) / 320))
        if 'masks' in instances:
            for mask, color in zip(_to_arrays(instances.masks), colors):
                _draw_mask(image, mask, color, self.mask_alpha)
        for i, (box, color) in enumerate(zip(instances.bboxes, colors)):
            _draw_box(image, box.tolist(), color, unit)
            if 'scores' in instances:
                _draw_text(image, f'{float(instances.scores[i]):.2f}',
                           box[:2].tolist(), color, unit)
        if 'keypoints' in instances:
            for points, visible in zip(np.asarray(instances.keypoints),
                                       self._visibility(instances)):
                self._draw_skeleton(image, points, visible, unit)
        self.set_image(image)
        return image

    def _visibility(self, instances: InstanceData) -> np.ndarray:
        """0 hide, 1 ring, 2 dot; shape (N, K)."""
        if 'keypoint_scores' in instances:
            return 2 * (np.asarray(instances.keypoint_scores) >= self.kpt_thr)
        return np.asarray(instances.keypoints_visible)

    def _draw_skeleton(self, image: np.ndarray, points: np.ndarray,
                       visible: np.ndarray, unit: int) -> None:
        meta = self.dataset_meta
        for (start, end), color in zip(meta['skeleton_links'],
                                       meta['skeleton_link_colors']):
            if visible[start] and visible[end]:
                cv2.line(image, _grid(points[start]), _grid(points[end]),
                         _rgb(color), unit, cv2.LINE_AA, _SHIFT)
        for point, seen, color in zip(points, visible,
                                      meta['keypoint_colors']):
            if seen:
                radius = (unit + 1) << _SHIFT
                thickness = 1 if seen == 1 else cv2.FILLED
                cv2.circle(image, _grid(point), radius, _rgb(color), thickness,
                           cv2.LINE_AA, _SHIFT)


def _numbers(instances: InstanceData) -> List[int]:
    """A number for each person: the track's, else the place in the order."""
    order = range(len(instances))
    tracks = [int(i) for i in instances.get('track_ids', order)]
    return [i if track < 0 else track for i, track in zip(order, tracks)]


def _instance_color(index: int) -> Tuple[int, int, int]:
    rgb = colorsys.hsv_to_rgb(index * _GOLDEN % 1, 0.75, 1)
    return tuple(round(255 * channel) for channel in rgb)


def _rgb(color: np.ndarray) -> Tuple[int, int, int]:
    return tuple(int(channel) for channel in color)


def _grid(point: np.ndarray) -> Tuple[int, int]:
    """Image pixels to OpenCV's grid, where 0 is the first pixel's centre."""
    x, y = (np.asarray(point, dtype=float) - 0.5) * (1 << _SHIFT)
    return int(round(x)), int(round(y))


def _to_arrays(masks) -> np.ndarray:
    if isinstance(masks, (BitmapMasks, PolygonMasks)):
        return masks.to_ndarray().astype(bool)
    return torch.as_tensor(masks).numpy().astype(bool)


def _draw_mask(image: np.ndarray, mask: np.ndarray, color: tuple,
               alpha: float) -> None:
    blend = (1 - alpha) * image[mask] + alpha * np.array(color)
    image[mask] = blend.round().astype(np.uint8)


def _draw_box(image: np.ndarray, box: List[float], color: tuple,
              unit: int) -> None:
    cv2.rectangle(image, _grid(box[:2]), _grid(box[2:]), color, unit,
                  cv2.LINE_AA, _SHIFT)


def _draw_text(image: np.ndarray, text: str, corner: List[float],
               color: tuple, unit: int) -> None:
    """Write black on a label of the person's colour, inside the image."""
    scale = 0.3 + 0.1 * unit
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX,
                                            scale, 1)
    x = int(min(max(corner[0], 0), image.shape[1] - width))
    y = int(max(corner[1], height + base))
    cv2.rectangle(image, (x, y - height - base), (x + width, y), color,
                  cv2.FILLED)
    cv2.putText(image, text, (x, y - base // 2 - 1), cv2.FONT_HERSHEY_SIMPLEX,
                scale, (0, 0, 0), 1, cv2.LINE_AA)
