"""Draw what the learned offsets of a model do to one instance of an image."""

from collections.abc import Sequence

import numpy as np
from mmengine.dataset import pseudo_collate

from multitask_refine.utils.errors import ConfigError
from multitask_refine.visualization import analyze_offsets
from multitask_refine.visualization.offset_analysis import OffsetAnalysis
from multitask_refine.visualization.offset_figures import Panel, make_panels

from .inferencer import MultitaskInferencer


def analyze_image(
    inferencer: MultitaskInferencer,
    image: np.ndarray,
    instance: int = 1,
    point: Sequence[float] | None = None,
    keypoint: str | None = None,
) -> tuple[OffsetAnalysis, list[Panel]]:
    """Analyze the offsets of an inferencer's model for one instance.

    Args:
        inferencer (MultitaskInferencer): Has the model.
        image (np.ndarray): BGR, uint8, shape (H, W, 3).
        instance (int): Rank of the instance by its score, from 1. Defaults to 1.
        point (Sequence[float], optional): Point in image pixels at which conv3 to conv5 are
            analyzed. Defaults to the center of the box.
        keypoint (str, optional): Name of the keypoint. Defaults to the one with the highest
            score.

    Returns:
        tuple[OffsetAnalysis, list[Panel]]: The offsets, and a plot of each part of the model.

    Raises:
        ConfigError: If the model has no offsets, or there is no such instance or keypoint.
    """
    name2id = inferencer.dataset_meta.get('keypoint_name2id', {})
    if keypoint and keypoint not in name2id:
        raise ConfigError(f'keypoint: expected one of {", ".join(name2id)}, got {keypoint!r:.60}')
    data = pseudo_collate([inferencer.pipeline(dict(img=image, img_id=0))])
    index = name2id[keypoint] if keypoint else None
    analysis = analyze_offsets(inferencer.model, data, instance, point, index)
    name = '' if analysis.keypoint is None else list(name2id)[analysis.keypoint]
    return analysis, make_panels(image[..., ::-1], analysis, name)
