"""Errors of the runtime, and the base class of all errors that users can fix."""


class ExplainedError(Exception):
    """Base class of the errors that users can fix.

    The message names file and field, what was expected, what was found and how to fix it.
    Tools print it without a traceback and exit with status 1.
    """


class InputError(ExplainedError, ValueError):
    """An image, video, stream or array cannot be used or read as an input."""


class OnnxError(ExplainedError, ValueError):
    """An ONNX file cannot be used, or not with the packages installed here."""


class NoWindowError(ExplainedError, RuntimeError):
    """No window can be opened: there is no display, or OpenCV was built without a GUI."""


class FormatError(ExplainedError, ValueError):
    """Annotations do not fit into a format, or a file is not in it."""


class ImageNotKeptError(ExplainedError, RuntimeError):
    """The image of a result is no longer in memory and cannot be read again."""


class MissingPackageError(ExplainedError, ImportError):
    """Packages of an optional extra are not installed."""
