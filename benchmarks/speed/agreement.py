"""Differences between the detections of two baselines."""

import numpy as np

KEYPOINT_LIMIT = 0.5  # pixels, beyond which a keypoint counts as found elsewhere


def differences(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> dict[str, float]:
    """Compare the persons of an image.

    Each expected person is matched with the found one of the nearest box and score: two that
    are almost equally good may come in either order.

    Args:
        expected: ``boxes`` (N, 4) in image pixels, ``scores`` (N) and, if the network has the
            heads, ``keypoints`` (N, 17, 2) and ``masks`` (N, H, W).
        found: The same of the other baseline, of M persons.

    Returns:
        ``persons``, the number expected; the largest difference of ``box_pixels`` and ``score``;
        median and largest distance of the keypoints, and the fraction beyond half a pixel;
        smallest and median IoU of the masks.
    """
    result = dict(persons=len(expected['boxes']))
    if not len(expected['boxes']) or not len(found['boxes']):
        return result
    one, other = (
        np.concatenate([people['boxes'], people['scores'][:, None]], 1)
        for people in (expected, found)
    )
    nearest = abs(one[:, None] - other[None]).max(-1).argmin(1)  # (N, M, 5) to (N)
    matched = {name: values[nearest] for name, values in found.items()}
    result['box_pixels'] = float(abs(expected['boxes'] - matched['boxes']).max())
    result['score'] = float(abs(expected['scores'] - matched['scores']).max())
    if 'keypoints' in expected and 'keypoints' in found:
        distances = abs(expected['keypoints'] - matched['keypoints']).max(-1)  # (N, 17)
        result.update(
            keypoint_pixels_median=float(np.median(distances)),
            keypoint_pixels_largest=float(distances.max()),
            keypoints_elsewhere=float((distances > KEYPOINT_LIMIT).mean()),
        )
    if 'masks' in expected and 'masks' in found:
        intersection = (expected['masks'] & matched['masks']).sum((1, 2))
        union = (expected['masks'] | matched['masks']).sum((1, 2))
        ious = np.where(union, intersection / np.maximum(union, 1), 1.0)
        result.update(mask_iou_smallest=float(ious.min()), mask_iou_median=float(np.median(ious)))
    return result
