"""A window on the screen."""

import os
import sys

import cv2
import numpy as np

from multitask_runtime.utils.errors import NoWindowError

_STOP_KEYS = (27, ord('q'))


class ImageViewer:
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
            os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')
        ):
            raise NoWindowError(
                'cannot show pictures: this machine has no screen (DISPLAY '
                'is not set). Write them into a folder instead.'
            )
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL)
        except cv2.error:
            raise NoWindowError(
                'cannot show pictures: this OpenCV is built without windows '
                '(opencv-python-headless). Write them into a folder, or '
                'install opencv-python in its place.'
            ) from None

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
