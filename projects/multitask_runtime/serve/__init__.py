"""Web page and HTTP API for the models (the optional extra ``serve``)."""

from multitask_runtime.utils.errors import MissingPackageError

try:
    import fastapi  # noqa: F401
    import PIL  # noqa: F401
    import python_multipart  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as error:
    raise MissingPackageError(
        f'fastapi, python-multipart, uvicorn and pillow are needed for the web page, and '
        f"{error.name} cannot be imported. Install them: pip install 'multitask-refine[serve]', "
        'or without PyTorch pip install -r requirements-serve.txt'
    ) from None

from multitask_runtime.schemas import Limits

from .app import create_app
from .prediction import ServedModel
from .server import serve

__all__ = ['Limits', 'ServedModel', 'create_app', 'serve']
