"""A server of the publishers' layout on this machine, with the faults of real ones."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Publisher:
    """What a server has and how it answers.

    Attributes:
        files: Content by path.
        faults: Answers of the next requests, in order: 'break' sends half of what is asked for,
            'stall' sends half and waits, 'page' another content, a number that status; '' is none.
        ranges: Whether the server sends parts of files.
        requests: Path and Range of each request.
    """

    def __init__(self):
        self.files, self.faults, self.requests = {}, [], []
        self.ranges = True
        self.closing = threading.Event()

    def answer(self, handler):
        asked = handler.headers.get('Range')
        self.requests.append((handler.path, asked))
        fault = self.faults.pop(0) if self.faults else ''
        content = self.files.get(handler.path)
        if isinstance(fault, int) or content is None:
            handler.send_error(fault or 404)
            return
        if fault == 'page':
            content, asked = b'<html>Please log in</html>', None
        start = int(re.fullmatch(r'bytes=(\d+)-', asked)[1]) if asked and self.ranges else 0
        if start and start >= len(content):
            handler.send_response(416)
            handler.send_header('Content-Range', f'bytes */{len(content)}')
            handler.send_header('Content-Length', '0')
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header(
                'Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}'
            )
        body = content[start:]
        handler.send_header('Content-Length', str(len(body)))
        handler.end_headers()
        if fault in ('break', 'stall'):
            handler.wfile.write(body[: len(body) // 2])
            handler.wfile.flush()
            if fault == 'stall':
                self.closing.wait(20)
            handler.close_connection = True
            return
        for at in range(0, len(body), 1 << 16):
            handler.wfile.write(body[at : at + (1 << 16)])


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """Proxies of the environment are not for servers on this machine."""
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')


@pytest.fixture
def publisher(monkeypatch):
    """A running :class:`Publisher` with its ``url``; the client does not wait between attempts."""
    state = Publisher()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def do_GET(self):
            state.answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f'http://127.0.0.1:{server.server_port}'
    monkeypatch.setattr('multitask_refine.pretrained.download._PAUSE', 0.0)
    monkeypatch.setattr('multitask_refine.pretrained.download._TIMEOUT', (5, 0.5))
    yield state
    state.closing.set()
    server.shutdown()
    server.server_close()
