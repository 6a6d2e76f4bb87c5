"""How far two baselines' outputs are apart."""

import numpy as np

FAR = 0.5  # pixels from which on a keypoint counts as elsewhere


def differences(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> dict[str, float]:
    """Compare the persons of an image.

    Each expected person is looked for among the found ones by its box and
    score: two that are all but equally good may come in any order.

    Args:
        expected, found (dict): ``boxes`` (N, 4) in pixels, ``scores`` (N)
            and perhaps ``keypoints`` (N, 17, 2) and ``masks`` (N, H, W).

    Returns:
        dict: ``persons``, how many were expected; the largest difference of
        ``box_pixels`` and ``score``; of the keypoints the median distance,
        the largest and the share further than half a pixel apart; the
        smallest and the median IoU of the masks.
    """
    if not len(expected['boxes']) or not len(found['boxes']):
        return dict(persons=len(expected['boxes']))
    nearest = _match(expected, found)
    result = dict(
        persons=len(nearest),
        box_pixels=float(_apart('boxes', expected, found, nearest).max()),
        score=float(_apart('scores', expected, found, nearest).max()),
    )
    if 'keypoints' in expected and 'keypoints' in found:
        keypoints = _apart('keypoints', expected, found, nearest).max(-1)
        result.update(
            keypoint_pixels_median=float(np.median(keypoints)),
            keypoint_pixels_largest=float(keypoints.max()),
            keypoints_elsewhere=float((keypoints > FAR).mean()),
        )
    if 'masks' in expected and 'masks' in found:
        overlaps = _overlaps(expected['masks'], found['masks'][nearest])
        result.update(
            mask_iou_smallest=float(overlaps.min()), mask_iou_median=float(np.median(overlaps))
        )
    return result


def _match(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> np.ndarray:
    """The index of the found person that each expected one is."""
    one, other = (
        np.concatenate([people['boxes'], people['scores'][:, None]], 1)
        for people in (expected, found)
    )
    return abs(one[:, None] - other[None]).max(-1).argmin(1)


def _apart(
    name: str, expected: dict[str, np.ndarray], found: dict[str, np.ndarray], nearest: np.ndarray
) -> np.ndarray:
    return abs(expected[name] - found[name][nearest])


def _overlaps(masks: np.ndarray, others: np.ndarray) -> np.ndarray:
    both = (masks & others).sum((1, 2))
    either = (masks | others).sum((1, 2))
    return np.where(either, both / np.maximum(either, 1), 1.0)
