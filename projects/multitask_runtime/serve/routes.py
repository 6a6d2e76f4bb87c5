"""Endpoints of the HTTP API, and the thread that runs the models for them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypeVar

import anyio
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException

from multitask_runtime.schemas import (
    ErrorMessage,
    ImagePredictions,
    Limits,
    Prediction,
    ServedModelInfo,
    ServerInfo,
    VideoEnd,
)
from multitask_runtime.utils.errors import ExplainedError

from .forms import ImagesForm, OffsetsForm, VideoForm
from .prediction import Options, ServedModel, draw_offsets, predict_images, predict_video

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
_LINE = dict(
    anyOf=[
        {'$ref': '#/components/schemas/Prediction'},
        VideoEnd.model_json_schema(),
        {'$ref': '#/components/schemas/ErrorMessage'},
    ]
)
T = TypeVar('T')
router = APIRouter()


class ModelServer:
    """Models of the application, which run one at a time in a thread of their own.

    Args:
        models (Sequence[ServedModel]): At least one; the first is the default.
        limits (Limits): Limits of requests.
        batch_size (int): Number of images of a request that go through a model at once.

    Raises:
        ValueError: If there is no model, or two have the same name.
    """

    def __init__(self, models: Sequence[ServedModel], limits: Limits, batch_size: int) -> None:
        self.models = {model.name: model for model in models}
        if not self.models or len(self.models) < len(models):
            raise ValueError(
                'models: expected at least one, each with its own name, found '
                f'{[model.name for model in models]}'
            )
        self.limits = limits
        self.batch_size = batch_size
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix='model')

    async def run(self, request: Request, function: Callable[..., T], *args: Any) -> T:
        """Call a function in the thread of the models, before the deadline of the request."""
        try:
            with anyio.fail_after(request.state.deadline - anyio.current_time()):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self.executor, function, *args)
        except TimeoutError:
            timeout = self.limits.timeout
            raise HTTPException(
                503,
                f'The request was not processed within {timeout:g} s. Try again later, or send '
                'fewer or smaller files.',
                {'Retry-After': str(max(1, round(timeout)))},
            ) from None

    def close(self) -> None:
        """End the thread; requests that wait are dropped."""
        self.executor.shutdown(wait=False, cancel_futures=True)


def _get_server(request: Request) -> ModelServer:
    server: ModelServer = request.app.state.server
    return server


Server = Annotated[ModelServer, Depends(_get_server)]


def _find_model(server: ModelServer, name: str | None) -> ServedModel:
    name = name or next(iter(server.models))
    if name not in server.models:
        raise HTTPException(
            422, f'model: expected one of {", ".join(server.models)}, found {name!r:.60}.'
        )
    return server.models[name]


def _to_options(server: ModelServer, form: ImagesForm | VideoForm) -> Options:
    model = _find_model(server, form.model)
    return Options(model, form.score_thr, form.kpt_thr, form.visualize)


@router.get('/healthz', summary='Tell that the server runs')
async def check_health() -> dict[str, str]:
    """Answer at once."""
    return dict(status='ok')


@router.get('/v1/models', summary='List the models and limits')
async def list_models(server: Server) -> ServerInfo:
    """Return what a client must know before it sends anything."""
    infos = []
    for model in server.models.values():
        meta = model.inferencer.dataset_meta
        names = meta.get('keypoint_id2name', {})
        infos.append(
            ServedModelInfo(
                name=model.name,
                classes=list(meta['classes']),
                keypoint_names=[names[i] for i in range(len(names))],
                offsets=model.why_no_offsets,
            )
        )
    return ServerInfo(models=infos, limits=server.limits)


@router.post(
    '/v1/predict',
    summary='Detect the instances of images',
    responses=_REFUSALS,
    response_model_exclude_none=True,
)
async def predict(request: Request, server: Server, form: ImagesForm) -> ImagePredictions:
    """Predict boxes, masks and keypoints; one wrong image refuses the request."""
    options, files = _to_options(server, form), form.files
    if len(files) > server.limits.max_images:
        raise HTTPException(
            413,
            f'files: expected at most {server.limits.max_images} images in a request, found '
            f'{len(files)}. Send several requests.',
        )
    images: list[Prediction] = []
    for start in range(0, len(files), server.batch_size):
        batch = files[start : start + server.batch_size]
        images += await server.run(request, predict_images, batch, options, server.limits)
    return ImagePredictions(model=options.model.name, images=images)


@router.post(
    '/v1/predict-video',
    summary='Detect and track the instances of a video',
    response_class=StreamingResponse,
    responses={
        **_REFUSALS,
        200: dict(
            content={_NDJSON: dict(schema=_LINE)},
            description='Lines of JSON, as the frames are processed: a `Prediction` for each, '
            'then a `VideoEnd`, or an `ErrorMessage` if the rest cannot be processed.',
        ),
    },
)
async def stream_video(request: Request, server: Server, form: VideoForm) -> StreamingResponse:
    """Predict frame by frame; other requests get their turn between the frames."""
    items = predict_video(form.file, _to_options(server, form), form.frame_step, server.limits)
    # What is wrong with the video gets its own status, as nothing is sent before.
    first = await server.run(request, next, items)

    async def lines() -> AsyncIterator[str]:
        item: Prediction | VideoEnd | None = first
        try:
            while item is not None:
                yield item.model_dump_json(exclude_none=True) + '\n'
                item = await server.run(request, next, items, None)
        except HTTPException as error:
            yield ErrorMessage(detail=error.detail).model_dump_json() + '\n'
        except ExplainedError as error:
            yield ErrorMessage(detail=str(error)).model_dump_json() + '\n'
        finally:
            # In the thread of the models, which may still be at the next frame.
            server.executor.submit(_close, items)

    return StreamingResponse(lines(), media_type=_NDJSON)


def _close(items: Iterator[Any]) -> None:
    items.close()  # type: ignore[attr-defined]  # a generator


@router.post(
    '/v1/offsets',
    summary='Draw the learned offsets for an instance of an image',
    response_class=Response,
    responses={
        **_REFUSALS,
        200: dict(content={'image/png': {}}, description='A PNG of all parts of the model'),
    },
)
async def show_offsets(request: Request, server: Server, form: OffsetsForm) -> Response:
    """Draw sampling points, heatmaps and arrows, where the model gives its offsets."""
    model = _find_model(server, form.model)
    png = await server.run(
        request, draw_offsets, form.file, model, form.instance, form.keypoint, server.limits
    )
    return Response(png, media_type='image/png')
