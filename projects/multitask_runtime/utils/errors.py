"""Errors of the runtime, and the base class of all errors that users can fix."""

import errno

_ANOTHER = 'Change its permissions, or name another path.'
_FIXES = {
    errno.EACCES: _ANOTHER,
    errno.EPERM: _ANOTHER,
    errno.EROFS: 'Name a path on a disk that can be written.',
    errno.ENOENT: 'Correct the path, which is relative to the working directory.',
    errno.EEXIST: 'Name another path.',
    errno.ENOTDIR: 'Expected a folder, found a file; name another path.',
    errno.EISDIR: 'Expected a file, found a folder; name another path.',
    errno.ENOSPC: 'Free some space, or name a path on another disk.',
}


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


def explain_os_error(error: OSError) -> str:
    """Return one sentence for an error of the system: file, reason and how to fix it."""
    if isinstance(error, ExplainedError) or error.errno is None:
        return str(error)
    # Of a rename the second file is the one that the user named.
    parts = (error.filename2 or error.filename, error.strerror)
    reason = ': '.join(str(part) for part in parts if part is not None)
    return f'{reason}. {_FIXES.get(error.errno, "")}'.rstrip()
