"""Run the application with uvicorn."""

import os
from collections.abc import Sequence

import uvicorn

from multitask_runtime.schemas import Limits

from .app import create_app
from .prediction import ServedModel
from .uploads import FFMPEG_OPTIONS


def serve(
    models: Sequence[ServedModel],
    host: str = '127.0.0.1',
    port: int = 8000,
    limits: Limits | None = None,
    batch_size: int = 1,
) -> None:
    """Serve models until SIGINT or SIGTERM.

    Args:
        models (Sequence[ServedModel]): At least one; the first is the default.
        host (str): Address to listen on; '0.0.0.0' for all networks of the machine. Defaults
            to '127.0.0.1', which only this machine reaches.
        port (int): Port to listen on; 0 takes a free one. Defaults to 8000.
        limits (Limits, optional): Limits of requests. Defaults to ``Limits()``.
        batch_size (int): As in :func:`create_app`. Defaults to 1.

    Raises:
        ValueError: If two models have the same name.
        SystemExit: If the server cannot listen there.
    """
    os.environ['OPENCV_FFMPEG_CAPTURE_OPTIONS'] = FFMPEG_OPTIONS
    app = create_app(models, limits, batch_size)
    uvicorn.run(app, host=host, port=port, server_header=False)
