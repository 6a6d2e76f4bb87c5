"""The FastAPI application: web page, HTTP API, and responses to errors."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from multitask_runtime.schemas import Limits, explain_item
from multitask_runtime.utils.errors import ExplainedError

from .gate import RequestGate
from .prediction import ServedModel
from .routes import ModelServer, router

STATIC = Path(__file__).parent / 'static'
_DESCRIPTION = """Boxes, masks and keypoints of images and videos.

A request that is refused is answered by one sentence in `detail`. With the status 429 or 503 it
can be sent again after the seconds in the header `Retry-After`."""
# The page loads nothing from other servers, and no other page may frame it.
_PAGE_HEADERS = {
    'Content-Security-Policy': "default-src 'self'; img-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
}


def create_app(
    models: Sequence[ServedModel], limits: Limits | None = None, batch_size: int = 1
) -> FastAPI:
    """Create the application.

    Models run one at a time in a thread, in the order of the requests; at most
    ``limits.max_requests`` wait.

    Args:
        models (Sequence[ServedModel]): At least one; the first is the default.
        limits (Limits, optional): Limits of requests. Defaults to ``Limits()``.
        batch_size (int): Number of images of a request that go through the model at once, as
            long as they have the same size. Defaults to 1.

    Returns:
        FastAPI: An ASGI application.

    Raises:
        ValueError: If there is no model, or two have the same name.
    """
    server = ModelServer(models, limits or Limits(), batch_size)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        server.close()

    app = FastAPI(
        title='multitask_refine',
        description=_DESCRIPTION,
        version='1',
        lifespan=lifespan,
        # Their pages load scripts from other servers.
        docs_url=None,
        redoc_url=None,
    )
    app.state.server = server
    app.add_middleware(RequestGate, limits=server.limits)
    app.include_router(router)
    app.mount('/static', StaticFiles(directory=STATIC), name='static')
    app.add_exception_handler(RequestValidationError, _explain_field)
    app.add_exception_handler(ExplainedError, _explain_error)
    app.add_exception_handler(Exception, _hide_error)

    @app.get('/', include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / 'index.html', headers=_PAGE_HEADERS)

    return app


async def _explain_field(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    item = dict(error.errors()[0])
    item['loc'] = [part for part in item['loc'] if part != 'body']
    return JSONResponse(dict(detail=f'{explain_item(item)}.'), 422)


async def _explain_error(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse(dict(detail=str(error)), 422)


async def _hide_error(_: Request, error: Exception) -> JSONResponse:
    # The server logs the traceback, which may hold what is not the client's business.
    detail = 'The server failed at this request; its log has the reason.'
    return JSONResponse(dict(detail=detail), 500)
