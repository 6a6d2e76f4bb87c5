"""The keypoints of one category among those of all.

A network whose categories have keypoints of their own predicts the union of
them. Its metainfo then has ``category_metas``: for each label the meta of that
category alone, in mmpose's terms and in its own order of keypoints, with
``indices``, the place of each of its keypoints in the union.
"""

from typing import Mapping

import numpy as np


def category_meta(meta: Mapping, label: int) -> Mapping:
    """Return the meta of a category's own keypoints.

    Args:
        meta (Mapping): The metainfo of a data set or network.
        label (int): The label of the category.

    Returns:
        Mapping: One of ``category_metas``; ``meta`` itself, without
        ``indices``, if all categories have the same keypoints.
    """
    metas = meta.get('category_metas')
    return meta if metas is None else metas[int(label)]


def keypoint_mask(meta: Mapping, labels: np.ndarray) -> np.ndarray:
    """Return which keypoints instances have, by their category.

    Args:
        meta (Mapping): With ``category_metas``; K keypoints in all.
        labels (np.ndarray): Labels of the instances, (N).

    Returns:
        np.ndarray: bool, (N, K).
    """
    mask = np.zeros((len(labels), meta['num_keypoints']), bool)
    for row, label in zip(mask, labels):
        row[category_meta(meta, label)['indices']] = True
    return mask
