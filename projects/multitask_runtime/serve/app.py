"""The FastAPI application: web page and HTTP API."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, TypeVar

import anyio
from fastapi import Depends, FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from multitask_runtime.schemas import (
    ErrorMessage,
    ImagePredictions,
    Limits,
    Prediction,
    ServedModelInfo,
    ServerInfo,
    VideoEnd,
    explain_item,
)
from multitask_runtime.utils.errors import ExplainedError

from .gate import RequestGate
from .prediction import Options, ServedModel, draw_offsets, predict_images, predict_video

STATIC = Path(__file__).parent / 'static'
# The page loads nothing from other servers, and no other page may frame it.
_PAGE_HEADERS = {
    'Content-Security-Policy': "default-src 'self'; img-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: dict(model=ErrorMessage, description=description)
    for status, description in {
        400: 'The request is not a form.',
        408: 'The upload took too long.',
        413: 'A file, image or video is too large, or there are too many.',
        415: 'A file is not of a supported type.',
        422: 'A field is wrong, or a file is damaged.',
        429: 'Too many requests of this client at a time; see Retry-After.',
        503: 'The server is busy; see Retry-After.',
    }.items()
}
_NDJSON = 'application/x-ndjson'
T = TypeVar('T')


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
    limits = limits or Limits()
    by_name = {model.name: model for model in models}
    if not by_name or len(by_name) < len(models):
        raise ValueError(
            'models: expected at least one, each with its own name, found '
            f'{[model.name for model in models]}'
        )
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix='model')

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        executor.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title='multitask_refine',
        description=_DESCRIPTION,
        version='1',
        lifespan=lifespan,
        # Their pages load scripts from other servers.
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(RequestGate, limits=limits)
    app.mount('/static', StaticFiles(directory=STATIC), name='static')
    _add_error_handlers(app)

    async def run(request: Request, function: Callable[..., T], *args: Any) -> T:
        """Call a function in the model thread, before the deadline of the request."""
        try:
            with anyio.fail_after(request.state.deadline - anyio.current_time()):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(executor, function, *args)
        except TimeoutError:
            raise HTTPException(
                503,
                f'The request was not processed within {limits.timeout:g} s. Try again later, or '
                'send fewer or smaller files.',
                {'Retry-After': str(max(1, round(limits.timeout)))},
            ) from None

    def parse_options(
        model: Annotated[
            str | None, Form(description='Name of the model; the first one by default')
        ] = None,
        score_thr: Annotated[
            float, Form(ge=0, le=1, description='Instances must have a higher score')
        ] = 0.3,
        kpt_thr: Annotated[
            float | None,
            Form(description="Keypoints with a lower score are not drawn; the model's by default"),
        ] = None,
        visualize: Annotated[bool, Form(description='Whether to draw the images')] = False,
    ) -> Options:
        chosen = by_name.get(model) if model else models[0]
        if chosen is None:
            raise HTTPException(
                422, f'model: expected one of {", ".join(by_name)}, found {model!r:.60}.'
            )
        return Options(chosen, score_thr, kpt_thr, visualize)

    @app.get('/', include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / 'index.html', headers=_PAGE_HEADERS)

    @app.get('/healthz', summary='Tell that the server runs')
    async def health() -> dict[str, str]:
        return dict(status='ok')

    @app.get('/v1/models', summary='List the models and limits')
    async def info() -> ServerInfo:
        return ServerInfo(models=[_describe(model) for model in models], limits=limits)

    @app.post(
        '/v1/predict',
        summary='Detect the instances of images',
        responses=_REFUSALS,
        response_model_exclude_none=True,
    )
    async def predict(
        request: Request,
        files: Annotated[list[UploadFile], File(description='Images')],
        options: Annotated[Options, Depends(parse_options)],
    ) -> ImagePredictions:
        if len(files) > limits.max_images:
            raise HTTPException(
                413,
                f'files: expected at most {limits.max_images} images in a request, found '
                f'{len(files)}. Send several requests.',
            )
        predictions: list[Prediction] = []
        for start in range(0, len(files), batch_size):
            batch = files[start : start + batch_size]
            predictions += await run(request, predict_images, batch, options, limits)
        return ImagePredictions(model=options.model.name, images=predictions)

    @app.post(
        '/v1/predict-video',
        summary='Detect and track the instances of a video',
        response_class=StreamingResponse,
        responses={
            **_REFUSALS,
            200: dict(
                model=Prediction | VideoEnd | ErrorMessage,
                content={_NDJSON: {}},
                description='Lines of JSON, as the frames are processed: a `Prediction` for '
                'each, then a `VideoEnd`, or an `ErrorMessage` if the rest cannot be processed.',
            ),
        },
    )
    async def video(
        request: Request,
        file: Annotated[UploadFile, File(description='A video: MP4, MOV, WebM, MKV or AVI')],
        options: Annotated[Options, Depends(parse_options)],
        frame_step: Annotated[
            int, Form(ge=1, le=1000, description='Process every n-th frame')
        ] = 1,
    ) -> StreamingResponse:
        items = predict_video(file, options, frame_step, limits)
        # What is wrong with the video gets its own status, as nothing is sent before.
        first = await run(request, next, items)

        async def lines() -> AsyncIterator[str]:
            item: Prediction | VideoEnd | None = first
            try:
                while item is not None:
                    yield item.model_dump_json(exclude_none=True) + '\n'
                    item = await run(request, next, items, None)
            except HTTPException as error:
                yield ErrorMessage(detail=error.detail).model_dump_json() + '\n'
            except ExplainedError as error:
                yield ErrorMessage(detail=str(error)).model_dump_json() + '\n'
            finally:
                # In the model thread, which may still be at the next frame.
                executor.submit(_close, items)

        return StreamingResponse(lines(), media_type=_NDJSON)

    @app.post(
        '/v1/offsets',
        summary='Draw the learned offsets for an instance of an image',
        response_class=Response,
        responses={
            **_REFUSALS,
            200: dict(content={'image/png': {}}, description='A PNG of all parts of the model'),
        },
    )
    async def offsets(
        request: Request,
        file: Annotated[UploadFile, File(description='An image')],
        options: Annotated[Options, Depends(parse_options)],
        instance: Annotated[
            int, Form(ge=1, le=1000, description='Rank of the instance by its score')
        ] = 1,
        keypoint: Annotated[
            str | None,
            Form(description='Name of the keypoint; the one with the highest score by default'),
        ] = None,
    ) -> Response:
        png = await run(request, draw_offsets, file, options, instance, keypoint, limits)
        return Response(png, media_type='image/png')

    return app


def _describe(model: ServedModel) -> ServedModelInfo:
    meta = model.inferencer.dataset_meta
    names = meta.get('keypoint_id2name', {})
    return ServedModelInfo(
        name=model.name,
        classes=list(meta['classes']),
        keypoint_names=[names[i] for i in range(len(names))],
        offsets=model.why_no_offsets,
    )


def _close(items: Iterator[Any]) -> None:
    items.close()  # type: ignore[attr-defined]  # a generator


def _add_error_handlers(app: FastAPI) -> None:
    """Answer every error with an ``ErrorMessage``."""

    @app.exception_handler(RequestValidationError)
    async def explain_field(_: Request, error: RequestValidationError) -> JSONResponse:
        item = dict(error.errors()[0])
        item['loc'] = [part for part in item['loc'] if part != 'body']
        return JSONResponse(dict(detail=f'{explain_item(item)}.'), 422)

    @app.exception_handler(ExplainedError)
    async def explain_error(_: Request, error: ExplainedError) -> JSONResponse:
        return JSONResponse(dict(detail=str(error)), 422)

    @app.exception_handler(Exception)
    async def hide_error(_: Request, error: Exception) -> JSONResponse:
        # The server logs the traceback, which may hold what is not the client's business.
        detail = 'The server failed at this request; its log has the reason.'
        return JSONResponse(dict(detail=detail), 500)


_DESCRIPTION = """Boxes, masks and keypoints of images and videos.

A request that is refused is answered by one sentence in `detail`. With the status 429 or 503 it
can be sent again after the seconds in the header `Retry-After`."""
