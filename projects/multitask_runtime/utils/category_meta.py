"""Keypoints of one category within the union of all categories' keypoints.

A model whose categories have keypoints of their own predicts the union of them.
Its dataset meta then has ``category_metas``: for each label the meta of that
category in MMPose's terms and in its own keypoint order, with ``indices``, the
position of each of its keypoints in the union.
"""

import numpy as np

from .types import Array, Meta


def category_meta(meta: Meta, label: int) -> Meta:
    """Return the meta of a category's own keypoints.

    Args:
        meta (Mapping): Dataset meta.
        label (int): Label of the category.

    Returns:
        Mapping: The item of ``category_metas``; ``meta`` itself, without
        ``indices``, if all categories have the same keypoints.
    """
    metas = meta.get('category_metas')
    return meta if metas is None else metas[int(label)]


def keypoint_mask(meta: Meta, labels: Array) -> Array:
    """Compute the mask of the keypoints that each instance's category has.

    Args:
        meta (Mapping): Dataset meta with ``category_metas``; K keypoints in the union.
        labels (np.ndarray): Labels of the instances, shape (N).

    Returns:
        np.ndarray: bool, shape (N, K).
    """
    mask = np.zeros((len(labels), meta['num_keypoints']), bool)
    for row, label in zip(mask, labels, strict=True):
        row[category_meta(meta, label)['indices']] = True
    return mask
