"""Window that shows images."""

import os
import sys

import cv2

from multitask_runtime.utils.errors import NoWindowError
from multitask_runtime.utils.types import Array

_STOP_KEYS = (27, ord('q'))


class ImageViewer:
    """Window on the screen; Esc, q or closing it ends the run.

    Args:
        title (str): Title of the window. Defaults to 'multitask_refine'.

    Raises:
        NoWindowError: If there is no display, or OpenCV is built without a GUI.
    """

    def __init__(self, title: str = 'multitask_refine') -> None:
        self.title = title
        # With a GUI but no display, OpenCV would end the whole process.
        if sys.platform.startswith('linux') and not (
            os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')
        ):
            raise NoWindowError(
                'cannot show images: this machine has no screen (DISPLAY is not set). '
                'Write them into a folder instead.'
            )
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL)
        except cv2.error:
            raise NoWindowError(
                'cannot show images: this OpenCV is built without windows '
                '(opencv-python-headless). Write them into a folder, or install '
                'opencv-python in its place.'
            ) from None

    def show(self, image: Array, is_moving: bool) -> bool:
        """Show an image: a video frame at once, others until a key is pressed.

        Args:
            image (np.ndarray): BGR, uint8, shape (H, W, 3).
            is_moving (bool): Whether the image is a video frame.

        Returns:
            bool: Whether to go on.
        """
        cv2.imshow(self.title, image)
        key = cv2.waitKey(1 if is_moving else 0) & 0xFF
        is_open = cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) > 0
        return key not in _STOP_KEYS and is_open

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()
