"""Draw boxes, masks, skeletons and track ids.

Shape letters: N instances, K keypoints. Coordinates are image pixels.
"""

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_utils

from .utils.category_meta import category_meta
from .utils.types import Array, Meta

KPT_THR, MASK_ALPHA = 0.2, 0.4
_SHIFT = 4  # OpenCV draws on a grid of 1/16 pixel
_FAR = 1e6  # pixels; OpenCV counts with 32 bits
_GOLDEN = 0.618034  # steps of hue that stay far apart
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FIELDS = (
    'bboxes',
    'scores',
    'labels',
    'keypoints',
    'keypoint_scores',
    'keypoints_visible',
    'track_ids',
)


def draw_result(
    image: Array,
    result: Mapping[str, Any],
    meta: Meta,
    score_thr: float,
    kpt_thr: float,
    mask_alpha: float,
) -> Array:
    """Draw the instances of a result.

    Args:
        image (np.ndarray): BGR, uint8, shape (H, W, 3); is not modified.
        result (dict): See ``Result``.
        meta (dict): Dataset meta, as in :func:`draw_instances`.
        score_thr (float): Instances must have a higher score.
        kpt_thr (float): As in :func:`draw_instances`.
        mask_alpha (float): As in :func:`draw_instances`.

    Returns:
        np.ndarray: A new image, BGR, uint8, shape (H, W, 3).
    """
    order = np.flatnonzero(result['scores'] > score_thr)
    if 'track_ids' in result:
        # In every frame the same tracks are drawn above the others.
        order = order[np.asarray(result['track_ids'])[order].argsort(kind='stable')]
    instances: dict[str, Any] = {
        name: np.asarray(result[name])[order] for name in _FIELDS if name in result
    }
    if 'masks' in result:
        instances['masks'] = [mask_utils.decode(result['masks'][i]).astype(bool) for i in order]
    rgb = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2RGB)
    drawn: Array = cv2.cvtColor(
        draw_instances(rgb, instances, meta, kpt_thr, mask_alpha), cv2.COLOR_RGB2BGR
    )
    line_width = _line_width(drawn)
    scale = 0.3 + 0.2 * line_width
    for box, track_id in zip(instances['bboxes'], instances.get('track_ids', ()), strict=False):
        if track_id < 0:
            continue
        # Below the score, inside the image, white with a black outline.
        text = f'#{track_id}'
        (width, height), base = cv2.getTextSize(text, _FONT, scale, line_width)
        line = height + 2 * base
        x = int(min(max(box[0], 0) + 2 * line_width, drawn.shape[1] - width))
        y = int(min(max(box[1], line) + line, drawn.shape[0])) - base
        for color, thickness in (((0,) * 3, 2 * line_width + 1), ((255,) * 3, line_width)):
            cv2.putText(drawn, text, (x, y), _FONT, scale, color, thickness, cv2.LINE_AA)
    return drawn


def draw_instances(
    image: Array,
    instances: dict[str, Any],
    meta: Meta,
    kpt_thr: float = KPT_THR,
    mask_alpha: float = MASK_ALPHA,
) -> Array:
    """Draw mask and box of each instance in its own color, and its skeleton.

    The color of an instance follows from its track id, if there is one, otherwise from
    its index. The colors of the skeleton are those of the dataset meta.

    Args:
        image (np.ndarray): RGB, uint8, shape (H, W, 3); is not modified.
        instances (dict): ``bboxes`` (N, 4) xyxy and optionally ``scores`` (N), ``masks``,
            N of (H, W) bool, ``keypoints`` (N, K, 2) with ``keypoint_scores`` (N, K),
            ``keypoints_visible`` (N, K): 0 hidden, 1 ring, 2 dot, or both; ``track_ids``
            (N), -1 for none; ``labels`` (N), needed with ``category_metas``.
        meta (dict): Dataset meta; for keypoints ``skeleton_links``,
            ``skeleton_link_colors`` and ``keypoint_colors``, RGB, or ``category_metas``
            with these for each class.
        kpt_thr (float): Keypoints with a lower score are hidden, with their limbs.
            Defaults to 0.2.
        mask_alpha (float): Opacity of the masks. Defaults to 0.4.

    Returns:
        np.ndarray: A new image, RGB, uint8, shape (H, W, 3).
    """
    image = np.ascontiguousarray(image).copy()
    line_width = _line_width(image)
    boxes = instances['bboxes']
    ids = list(range(len(boxes)))
    if 'track_ids' in instances:
        tracks = instances['track_ids']
        ids = [i if track < 0 else int(track) for i, track in enumerate(tracks)]
    colors = [
        tuple(round(255 * each) for each in colorsys.hsv_to_rgb(i * _GOLDEN % 1, 0.75, 1))
        for i in ids
    ]
    # Masks first, so that they cover no lines.
    for mask, color in zip(instances.get('masks', ()), colors, strict=False):
        _blend_mask(image, mask, color, mask_alpha)
    for i, (box, color) in enumerate(zip(boxes, colors, strict=True)):
        corners = _to_grid(box[:2]), _to_grid(box[2:])
        cv2.rectangle(image, *corners, color, line_width, cv2.LINE_AA, _SHIFT)
        if 'scores' in instances:
            _draw_label(image, f'{float(instances["scores"][i]):.2f}', box, color)
    if 'keypoints' in instances:
        visible = np.asarray(instances.get('keypoints_visible', 2))
        if 'keypoint_scores' in instances:
            visible = visible * (instances['keypoint_scores'] >= kpt_thr)
        for i, keypoints in enumerate(instances['keypoints']):
            own = category_meta(meta, instances['labels'][i]) if 'category_metas' in meta else meta
            indices = own.get('indices', slice(None))
            _draw_skeleton(image, keypoints[indices], visible[i][indices], own)
    return image


def _blend_mask(image: Array, mask: Array, color: Sequence[int], alpha: float) -> None:
    """Blend the color into the pixels of a mask (H, W), bool, by a table of all 256 values."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not len(rows):
        return
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    values = (1 - alpha) * np.arange(256)[:, None] + alpha * np.array(color)  # (256, 3)
    blended = cv2.LUT(image[box], values.round().astype(np.uint8)[None])
    cv2.copyTo(blended, np.ascontiguousarray(mask[box], np.uint8), image[box])


def _draw_label(image: Array, text: str, box: Array, color: Sequence[int]) -> None:
    """Write black text on a label above the box, inside the image."""
    scale = 0.3 + 0.1 * _line_width(image)
    (width, height), base = cv2.getTextSize(text, _FONT, scale, 1)
    x = int(min(max(box[0], 0), image.shape[1] - width))
    y = int(max(box[1], height + base))
    cv2.rectangle(image, (x, y - height - base), (x + width, y), color, cv2.FILLED)
    origin = (x, y - base // 2 - 1)
    cv2.putText(image, text, origin, _FONT, scale, (0, 0, 0), 1, cv2.LINE_AA)


def _draw_skeleton(image: Array, keypoints: Array, visible: Array, meta: Meta) -> None:
    line_width = _line_width(image)
    limbs = zip(meta['skeleton_links'], meta['skeleton_link_colors'], strict=False)
    for (start, end), color in limbs:
        if visible[start] and visible[end]:
            rgb = [int(channel) for channel in color]
            ends = _to_grid(keypoints[start]), _to_grid(keypoints[end])
            cv2.line(image, *ends, rgb, line_width, cv2.LINE_AA, _SHIFT)
    radius = (line_width + 1) << _SHIFT  # in steps of OpenCV's grid
    for point, visibility, color in zip(keypoints, visible, meta['keypoint_colors'], strict=False):
        if visibility:
            rgb = [int(channel) for channel in color]
            thickness = 1 if visibility == 1 else cv2.FILLED
            cv2.circle(image, _to_grid(point), radius, rgb, thickness, cv2.LINE_AA, _SHIFT)


def _line_width(image: Array) -> int:
    """Return the width of lines in pixels, thin in small images."""
    return max(1, round(float(min(image.shape[:2])) / 320))


def _to_grid(point: Array) -> tuple[int, int]:
    """Convert image pixels to OpenCV's grid, where 0 is the center of the first pixel."""
    near = np.clip(np.asarray(point, dtype=float), -_FAR, _FAR)
    x, y = (near - 0.5) * (1 << _SHIFT)
    return int(round(x)), int(round(y))
