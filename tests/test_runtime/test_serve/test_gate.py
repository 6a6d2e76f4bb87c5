"""Slow clients, with the times of a test."""

from types import SimpleNamespace

import anyio
import pytest
from starlette.responses import PlainTextResponse

from multitask_runtime.schemas import Limits
from multitask_runtime.serve import gate
from multitask_runtime.serve.gate import RequestGate

SCOPE = dict(type='http', method='POST', path='/', headers=[], client=('1.2.3.4', 5))


async def _read_all(scope, receive, send):
    """Application that reads the body and answers with its length."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get('body', b''))
        more = message.get('more_body', False)
    await PlainTextResponse(str(length))(scope, receive, send)


def _call(app, messages, send):
    async def receive():
        if not messages:
            await anyio.sleep_forever()
        return messages.pop(0)

    anyio.run(app, dict(SCOPE), receive, send)


def test_upload_that_never_ends():
    sent = []

    async def send(message):
        sent.append(message)

    app = RequestGate(_read_all, Limits(timeout=0.2))
    with pytest.raises(gate.HTTPException) as caught:
        _call(app, [dict(type='http.request', body=b'abc', more_body=True)], send)
    assert caught.value.status_code == 408 and 'received 3 bytes' in caught.value.detail
    assert not app._pending
    parts = [
        dict(type='http.request', body=b'abc', more_body=True),
        dict(type='http.request', body=b'de'),
    ]
    _call(app, parts, send)
    assert sent[-1]['body'] == b'5'


def test_client_that_does_not_read_its_response(monkeypatch):
    monkeypatch.setattr(gate, '_GRACE', 0.1)

    async def send(message):
        await anyio.sleep_forever()

    app = RequestGate(_read_all, Limits(timeout=0.1))
    _call(app, [dict(type='http.request', body=b'')], send)  # returns
    assert not app._pending


def test_time_to_come_back_follows_the_requests(monkeypatch):
    """The mean of 0.8 of the former value, 1 s at the start, and 0.2 of 10 s is 2.8 s."""
    now = iter([0.0, 10.0])
    monkeypatch.setattr(gate, 'time', SimpleNamespace(monotonic=lambda: next(now)))
    app = RequestGate(_read_all, Limits(max_requests=1))

    async def ignore(message):
        pass

    _call(app, [dict(type='http.request', body=b'')], ignore)
    app._pending['5.6.7.8'] = 1
    answers = []

    async def keep(message):
        answers.append(message)

    _call(app, [], keep)
    assert answers[0]['status'] == 503
    assert dict(answers[0]['headers'])[b'retry-after'] == b'3'
