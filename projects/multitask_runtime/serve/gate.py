"""Middleware that holds requests to the limits of the server."""

import math
import time
from collections import Counter

import anyio
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from multitask_runtime.schemas import Limits

_MEBIBYTE = 1 << 20
_GRACE = 10.0  # seconds to send the rest of a response after the deadline
_MEMORY = 0.2  # weight of the latest request in the mean time of requests


class RequestGate:
    """ASGI middleware that admits POST requests before their body is read.

    It refuses requests beyond the number of all (503) or of one client (429), bodies that
    are too large (413) or arrive too slowly (408), and requests of other web sites (403).
    ``request.state.deadline`` is the time of ``anyio.current_time()`` until which the
    request must be processed; a client that reads its response too slowly is cut off.

    Args:
        app (ASGIApp): The application.
        limits (Limits): The limits.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._pending: Counter[str] = Counter()  # requests by the address of the client
        self._mean_seconds = 1.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process one request."""
        if scope['type'] != 'http' or scope['method'] != 'POST':
            return await self._app(scope, receive, send)
        client = scope['client'][0] if scope.get('client') else ''
        if refusal := self._refuse(Headers(scope=scope), client):
            return await refusal(scope, receive, send)
        start = time.monotonic()
        deadline = anyio.current_time() + self._limits.timeout
        scope.setdefault('state', {})['deadline'] = deadline
        self._pending[client] += 1
        try:
            with anyio.move_on_after(self._limits.timeout + _GRACE):
                await self._app(scope, self._limit_body(receive, deadline), send)
        finally:
            self._pending[client] -= 1
            self._pending += Counter()  # drops clients without requests
            self._mean_seconds += _MEMORY * (time.monotonic() - start - self._mean_seconds)

    def _refuse(self, headers: Headers, client: str) -> JSONResponse | None:
        limits = self._limits
        # Requests that are admitted now took about the mean time, so that many seconds later
        # the present ones are done.
        retry = {'Retry-After': str(max(1, math.ceil(self._mean_seconds)))}
        if headers.get('sec-fetch-site', 'none') not in ('same-origin', 'none'):
            return _refusal(403, 'Requests of pages of other web sites are refused.')
        if self._pending.total() >= limits.max_requests:
            return _refusal(
                503,
                f'The server is busy: it takes {limits.max_requests} requests at a time. '
                f'Try again in {retry["Retry-After"]} s.',
                retry,
            )
        if self._pending[client] >= limits.max_requests_per_client:
            return _refusal(
                429,
                f'Too many requests: expected at most {limits.max_requests_per_client} at a time '
                f'from one address. Try again in {retry["Retry-After"]} s.',
                retry,
            )
        length = headers.get('content-length', '')
        if length.isdecimal() and int(length) > limits.max_upload_mb * _MEBIBYTE:
            return _refusal(413, self._too_large())
        return None

    def _limit_body(self, receive: Receive, deadline: float) -> Receive:
        received, is_complete = 0, False

        async def limited_receive() -> Message:
            nonlocal received, is_complete
            if is_complete:  # waits for the client to disconnect
                return await receive()
            try:
                with anyio.fail_after(deadline - anyio.current_time()):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(
                    408,
                    f'expected the upload within {self._limits.timeout:g} s, received {received} '
                    'bytes until then. Send a smaller file.',
                ) from None
            received += len(message.get('body', b''))
            if received > self._limits.max_upload_mb * _MEBIBYTE:
                raise HTTPException(413, self._too_large())
            is_complete = not message.get('more_body', False)
            return message

        return limited_receive

    def _too_large(self) -> str:
        return (
            f'expected at most {self._limits.max_upload_mb} MiB in a request, found more. Send '
            'fewer or smaller files.'
        )


def _refusal(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(dict(detail=detail), status, headers)
