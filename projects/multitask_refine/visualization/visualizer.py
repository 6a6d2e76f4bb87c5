"""Pictures of people: boxes, masks and skeletons."""

import uuid
from typing import Dict, List, Optional

import numpy as np
from mmdet.registry import VISUALIZERS
from mmdet.structures.bbox import get_box_tensor
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from multitask_runtime.drawing import KPT_THR, MASK_ALPHA, draw_people

_FIELDS = ('scores', 'labels', 'keypoints', 'keypoint_scores', 'keypoints_visible', 'track_ids')


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

    def __init__(
        self,
        name: str = 'visualizer',
        kpt_thr: float = KPT_THR,
        mask_alpha: float = MASK_ALPHA,
        **kwargs,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.kpt_thr = kpt_thr
        self.mask_alpha = mask_alpha

    @classmethod
    def get_instance(cls, name: Optional[str] = None, **kwargs):
        """As in MMEngine, where a runner gives its own name. mmdet's tools
        give none: they get a new visualizer."""
        return super().get_instance(name or uuid.uuid4().hex, **kwargs)

    def _draw_instances(
        self,
        image: np.ndarray,
        instances: InstanceData,
        classes: Optional[List[str]],
        palette: Optional[List[tuple]],
    ) -> np.ndarray:
        """Draw all people of one image (RGB, (H, W, 3) uint8)."""
        image = draw_people(
            image, _to_arrays(instances), self.dataset_meta, self.kpt_thr, self.mask_alpha
        )
        self.set_image(image)
        return image


def _to_arrays(instances: InstanceData) -> Dict[str, np.ndarray]:
    """What is drawn of the people, as ``draw_people`` takes it."""
    people = {name: np.asarray(instances[name]) for name in _FIELDS if name in instances}
    people['bboxes'] = np.asarray(get_box_tensor(instances.bboxes))
    if 'masks' in instances:
        masks = instances.masks
        if isinstance(masks, (BitmapMasks, PolygonMasks)):
            masks = masks.to_ndarray()
        people['masks'] = np.asarray(masks).astype(bool)
    return people
