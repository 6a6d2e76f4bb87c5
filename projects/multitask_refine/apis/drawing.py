"""Results drawn into their image, and shown in a window."""
import os
import sys

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData
from pycocotools import mask as rle

from ..visualization import MultitaskVisualizer

_STOP_KEYS = (27, ord('q'))


class NoWindowError(RuntimeError):
    """There is no screen, or an OpenCV without windows."""


def draw(visualizer: MultitaskVisualizer, image: np.ndarray, result: dict,
         score_thr: float) -> np.ndarray:
    """Draw the people of a result.

    Args:
        visualizer (MultitaskVisualizer): Knows the dataset's meta.
        image (np.ndarray): (H, W, 3) BGR uint8; is left as it is.
        result (dict): As ``to_result`` returns it, maybe with ``track_ids``.
        score_thr (float): People with no higher score are not drawn.

    Returns:
        np.ndarray: A new image, (H, W, 3) BGR uint8.
    """
    people = _to_instances(result)
    people = people[people.scores > score_thr]
    if 'track_ids' in people:
        # Later people are drawn above earlier ones, the same in every frame.
        people = people[people.track_ids.argsort(stable=True)]
    picture = visualizer._draw_instances(image[..., ::-1], people, None, None)
    picture = np.ascontiguousarray(picture[..., ::-1])
    if 'track_ids' in people:
        for box, number in zip(people.bboxes.tolist(), people.track_ids):
            if number >= 0:
                _write_number(picture, int(number), box)
    return picture


def _to_instances(result: dict) -> InstanceData:
    names = ('bboxes', 'scores', 'keypoints', 'keypoint_scores', 'track_ids')
    people = InstanceData(**{
        name: torch.as_tensor(np.ascontiguousarray(result[name]))
        for name in names if name in result
    })
    if 'masks' in result:
        shape = (-1, result['height'], result['width'])
        masks = [rle.decode(mask) for mask in result['masks']]
        people.masks = torch.as_tensor(
            np.array(masks, dtype=bool).reshape(shape))
    return people


def _write_number(picture: np.ndarray, number: int, box: list) -> None:
    """Write the track's number below the score, inside the picture."""
    text = f'#{number}'
    unit = max(1, round(min(picture.shape[:2]) / 320))
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.3 + 0.2 * unit
    (width, height), base = cv2.getTextSize(text, font, scale, unit)
    line = height + 2 * base
    x = int(min(max(box[0], 0) + 2 * unit, picture.shape[1] - width))
    y = int(min(max(box[1], line) + line, picture.shape[0])) - base
    for color, thickness in (((0, 0, 0), 2 * unit + 1), ((255, ) * 3, unit)):
        cv2.putText(picture, text, (x, y), font, scale, color, thickness,
                    cv2.LINE_AA)


class Window:
    """A window on the screen; Esc, q or closing it ends the run.

    Args:
        title (str): What stands above it. Defaults to 'multitask_refine'.

    Raises:
        NoWindowError: If there cannot be one here.
    """

    def __init__(self, title: str = 'multitask_refine') -> None:
        self.title = title
        # With windows but no screen, OpenCV would end the whole process.
        if sys.platform.startswith('linux') and not (
                os.environ.get('DISPLAY')
                or os.environ.get('WAYLAND_DISPLAY')):
            raise NoWindowError(
                'cannot show pictures: this machine has no screen (DISPLAY '
                'is not set). Write them into a folder instead.')
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL)
        except cv2.error:
            raise NoWindowError(
                'cannot show pictures: this OpenCV is built without windows '
                '(opencv-python-headless). Write them into a folder, or '
                'install opencv-python in its place.') from None

    def show(self, picture: np.ndarray, is_moving: bool) -> bool:
        """Show a picture: of a video shortly, else until a key is pressed.

        Args:
            picture (np.ndarray): (H, W, 3) BGR uint8.
            is_moving (bool): Whether the next one follows at once.

        Returns:
            bool: Whether to go on.
        """
        cv2.imshow(self.title, picture)
        key = cv2.waitKey(1 if is_moving else 0) & 0xFF
        is_open = cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) > 0
        return key not in _STOP_KEYS and is_open

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()
