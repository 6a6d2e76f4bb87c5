"""Run the application with uvicorn."""

import os
import socket
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
        OSError: If the server cannot listen there.
        KeyboardInterrupt: After SIGINT, when the server has shut down.
    """
    app = create_app(models, limits, batch_size)
    _check_address(host, port)
    # Not uvicorn.run, which hides the interrupt.
    server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, server_header=False))
    name = 'OPENCV_FFMPEG_CAPTURE_OPTIONS'
    before = os.environ.get(name)
    os.environ[name] = FFMPEG_OPTIONS
    try:
        server.run()
    finally:
        # Other videos and streams of this process are read as before.
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _check_address(host: str, port: int) -> None:
    """Listen for a moment; uvicorn would log an error and end with a status of its own."""
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise OSError(
            f'{host}:{port}: expected an address and port to listen on, found that this fails '
            f'({error.strerror}). Name others by --host and --port; --port 0 takes a free one.'
        ) from None
