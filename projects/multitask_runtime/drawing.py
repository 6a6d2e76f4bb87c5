"""People drawn into their picture: boxes, masks and skeletons.

N people, K joints.
"""

import colorsys
from typing import Dict, List, Sequence, Tuple

import cv2
import numpy as np
from pycocotools import mask as rle

from .utils.category_meta import category_meta

KPT_THR, MASK_ALPHA = 0.2, 0.4
_SHIFT = 4  # OpenCV draws on a grid of 1/16 pixel
_FAR = 1e6  # pixels; OpenCV counts with 32 bits
_GOLDEN = 0.618034  # steps of hue that stay far apart
_FIELDS = ('bboxes', 'scores', 'labels', 'keypoints', 'keypoint_scores', 'track_ids')


def draw(
    image: np.ndarray,
    result: dict,
    meta: dict,
    score_thr: float,
    kpt_thr: float,
    mask_alpha: float,
) -> np.ndarray:
    """Draw the people of a result.

    Args:
        image (np.ndarray): (H, W, 3) BGR uint8; is left as it is.
        result (dict): As ``to_result`` returns it, maybe with ``track_ids``.
        meta (dict): Skeleton and colours, as in :func:`draw_people`.
        score_thr (float): People with no higher score are not drawn.
        kpt_thr (float): As in :func:`draw_people`.
        mask_alpha (float): As in :func:`draw_people`.

    Returns:
        np.ndarray: A new image, (H, W, 3) BGR uint8.
    """
    people = _select(result, score_thr)
    picture = draw_people(image[..., ::-1], people, meta, kpt_thr, mask_alpha)
    picture = np.ascontiguousarray(picture[..., ::-1])
    for box, number in zip(people['bboxes'], people.get('track_ids', ())):
        if number >= 0:
            _write_number(picture, int(number), box.tolist())
    return picture


def _select(result: dict, score_thr: float) -> Dict[str, np.ndarray]:
    """The people to draw, in the order in which they are drawn."""
    order = np.flatnonzero(result['scores'] > score_thr)
    if 'track_ids' in result:
        # Later people are drawn above earlier ones, the same in every frame.
        tracks = np.asarray(result['track_ids'])[order]
        order = order[tracks.argsort(kind='stable')]
    people = {name: np.asarray(result[name])[order] for name in _FIELDS if name in result}
    if 'masks' in result:
        people['masks'] = [rle.decode(result['masks'][i]).astype(bool) for i in order]
    return people


def draw_people(
    image: np.ndarray,
    people: dict,
    meta: dict,
    kpt_thr: float = KPT_THR,
    mask_alpha: float = MASK_ALPHA,
) -> np.ndarray:
    """Draw each person's mask and box in its own colour, and its skeleton in
    the colours of the data set's meta file. With ``track_ids`` the colour
    goes by that number.

    Args:
        image (np.ndarray): (H, W, 3) RGB uint8; is left as it is.
        people (dict): ``bboxes`` (N, 4) xyxy and what else there is:
            ``scores`` (N), ``masks``, N of (H, W) bool, ``keypoints``
            (N, K, 2) with ``keypoint_scores`` (N, K) or
            ``keypoints_visible`` (N, K): 0 hide, 1 ring, 2 dot;
            ``track_ids`` (N); and ``labels`` (N), needed with
            ``category_metas``.
        meta (dict): In mmpose's terms; for joints ``skeleton_links``,
            ``skeleton_link_colors`` and ``keypoint_colors``, RGB, or
            ``category_metas`` with these for each class.
        kpt_thr (float): Joints with a lower score are hidden, with their
            limbs. Defaults to 0.2.
        mask_alpha (float): Opacity of the masks. Defaults to 0.4.

    Returns:
        np.ndarray: A new image, (H, W, 3) RGB uint8.
    """
    image = np.ascontiguousarray(image).copy()
    colors = [_person_color(number) for number in _numbers(people)]
    # Small pictures get thin lines.
    unit = max(1, round(min(image.shape[:2]) / 320))
    for mask, color in zip(people.get('masks', ()), colors):
        _draw_mask(image, mask, color, mask_alpha)
    for i, (box, color) in enumerate(zip(people['bboxes'], colors)):
        _draw_box(image, box, color, unit)
        if 'scores' in people:
            _draw_text(image, f'{float(people["scores"][i]):.2f}', box[:2].tolist(), color, unit)
    if 'keypoints' in people:
        visibility = _visibility(people, kpt_thr)
        for i, points in enumerate(people['keypoints']):
            own = (
                meta if 'category_metas' not in meta else category_meta(meta, people['labels'][i])
            )
            chosen = own.get('indices', slice(None))
            _draw_skeleton(image, points[chosen], visibility[i][chosen], own, unit)
    return image


def _visibility(people: dict, kpt_thr: float) -> np.ndarray:
    """0 hide, 1 ring, 2 dot; shape (N, K)."""
    if 'keypoint_scores' in people:
        return 2 * (people['keypoint_scores'] >= kpt_thr)
    return people['keypoints_visible']


def _draw_skeleton(
    image: np.ndarray, points: np.ndarray, visible: np.ndarray, meta: dict, unit: int
) -> None:
    for (start, end), color in zip(meta['skeleton_links'], meta['skeleton_link_colors']):
        if visible[start] and visible[end]:
            cv2.line(
                image,
                _grid(points[start]),
                _grid(points[end]),
                _rgb(color),
                unit,
                cv2.LINE_AA,
                _SHIFT,
            )
    for point, seen, color in zip(points, visible, meta['keypoint_colors']):
        if seen:
            radius = (unit + 1) << _SHIFT
            thickness = 1 if seen == 1 else cv2.FILLED
            cv2.circle(image, _grid(point), radius, _rgb(color), thickness, cv2.LINE_AA, _SHIFT)


def _numbers(people: dict) -> List[int]:
    """A number for each person: the track's, else the place in the order."""
    order = range(len(people['bboxes']))
    tracks = [int(i) for i in people.get('track_ids', order)]
    return [i if track < 0 else track for i, track in zip(order, tracks)]


def _person_color(number: int) -> Tuple[int, int, int]:
    rgb = colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.75, 1)
    return tuple(round(255 * channel) for channel in rgb)


def _rgb(color: Sequence[int]) -> Tuple[int, int, int]:
    return tuple(int(channel) for channel in color)


def _grid(point: np.ndarray) -> Tuple[int, int]:
    """Image pixels to OpenCV's grid, where 0 is the first pixel's centre."""
    near = np.clip(np.asarray(point, dtype=float), -_FAR, _FAR)
    x, y = (near - 0.5) * (1 << _SHIFT)
    return int(round(x)), int(round(y))


def _draw_mask(image: np.ndarray, mask: np.ndarray, color: tuple, alpha: float) -> None:
    blend = (1 - alpha) * image[mask] + alpha * np.array(color)
    image[mask] = blend.round().astype(np.uint8)


def _draw_box(image: np.ndarray, box: np.ndarray, color: tuple, unit: int) -> None:
    cv2.rectangle(image, _grid(box[:2]), _grid(box[2:]), color, unit, cv2.LINE_AA, _SHIFT)


def _draw_text(image: np.ndarray, text: str, corner: List[float], color: tuple, unit: int) -> None:
    """Write black on a label of the person's colour, inside the image."""
    scale = 0.3 + 0.1 * unit
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    x = int(min(max(corner[0], 0), image.shape[1] - width))
    y = int(max(corner[1], height + base))
    cv2.rectangle(image, (x, y - height - base), (x + width, y), color, cv2.FILLED)
    cv2.putText(
        image,
        text,
        (x, y - base // 2 - 1),
        cv2.FONT_HERSHEY_SIMPLEX,
        scale,
        (0, 0, 0),
        1,
        cv2.LINE_AA,
    )


def _write_number(picture: np.ndarray, number: int, box: List[float]) -> None:
    """Write the track's number below the score, inside the picture."""
    text = f'#{number}'
    unit = max(1, round(min(picture.shape[:2]) / 320))
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.3 + 0.2 * unit
    (width, height), base = cv2.getTextSize(text, font, scale, unit)
    line = height + 2 * base
    x = int(min(max(box[0], 0) + 2 * unit, picture.shape[1] - width))
    y = int(min(max(box[1], line) + line, picture.shape[0])) - base
    for color, thickness in (((0, 0, 0), 2 * unit + 1), ((255,) * 3, unit)):
        cv2.putText(picture, text, (x, y), font, scale, color, thickness, cv2.LINE_AA)
