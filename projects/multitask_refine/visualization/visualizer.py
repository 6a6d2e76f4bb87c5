"""Visualizer of boxes, masks and skeletons."""

import uuid
from typing import Any

import numpy as np
from mmdet.registry import VISUALIZERS
from mmdet.structures.bbox import get_box_tensor
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from multitask_runtime.drawing import KPT_THR, MASK_ALPHA, draw_instances

_FIELDS = ('scores', 'labels', 'keypoints', 'keypoint_scores', 'keypoints_visible', 'track_ids')


@VISUALIZERS.register_module()
class MultitaskVisualizer(DetLocalVisualizer):
    """Draw mask and box of each instance in its own color, and its skeleton.

    The colors of the skeleton are those of the dataset meta; with ``track_ids`` the color
    of an instance follows from its id.

    Ground truth and predictions are drawn by the same code, side by side
    (``add_datasample``), from tensors or arrays; all labeled keypoints of the ground truth
    are drawn, occluded ones as rings.

    Args:
        name (str): As in MMEngine. Defaults to 'visualizer'.
        kpt_thr (float): Keypoints with a lower score are hidden, with their limbs.
            Defaults to 0.2.
        mask_alpha (float): Opacity of the masks. Defaults to 0.4.
        kwargs: As in MMDetection's ``DetLocalVisualizer``.
    """

    def __init__(
        self,
        name: str = 'visualizer',
        kpt_thr: float = KPT_THR,
        mask_alpha: float = MASK_ALPHA,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.kpt_thr = kpt_thr
        self.mask_alpha = mask_alpha

    @classmethod
    def get_instance(cls, name: str | None = None, **kwargs: Any) -> 'MultitaskVisualizer':
        """Get an instance by its name, as in MMEngine.

        MMDetection's tools give no name: they get a new visualizer.
        """
        return super().get_instance(name or uuid.uuid4().hex, **kwargs)

    def _draw_instances(
        self,
        image: np.ndarray,
        instances: InstanceData,
        classes: list[str] | None,
        palette: list[tuple] | None,
    ) -> np.ndarray:
        """Draw the instances of one image: RGB, uint8, shape (H, W, 3)."""
        arrays = {name: np.asarray(instances[name]) for name in _FIELDS if name in instances}
        arrays['bboxes'] = np.asarray(get_box_tensor(instances.bboxes))
        if 'masks' in instances:
            masks = instances.masks
            if isinstance(masks, (BitmapMasks, PolygonMasks)):
                masks = masks.to_ndarray()
            arrays['masks'] = np.asarray(masks).astype(bool)
        image = draw_instances(image, arrays, self.dataset_meta, self.kpt_thr, self.mask_alpha)
        self.set_image(image)
        return image
