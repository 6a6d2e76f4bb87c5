"""Errors whose message tells a user what was expected, what was found and how to mend it."""


class InputError(ValueError):
    """An image, video, stream or array that cannot be used or read as an input."""


class OnnxError(ValueError):
    """An ONNX file that cannot be used, or not with the packages installed here."""


class NoWindowError(RuntimeError):
    """No window can be opened: there is no display, or OpenCV is built without a GUI."""
