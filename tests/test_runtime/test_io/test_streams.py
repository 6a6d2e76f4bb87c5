"""Streams from local servers that misbehave."""

import base64
import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from multitask_runtime import InputError, OnnxInferencer, VideoReader, VideoWriter
from multitask_runtime.io import streams
from multitask_runtime.io.inputs import collect, redact_url
from multitask_runtime.io.streams import StreamReader
from tests.conftest import ROOT
from tests.test_runtime.onnx_files import make_file

pytestmark = pytest.mark.slow

BOUNDARY = 'next'
STEP = 10  # of gray between one frame and the next


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """Make a model that detects the same two instances in every image."""
    return make_file(tmp_path_factory.mktemp('onnx') / 'model.onnx')


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(streams, 'WAITS', (0.02, 0.02))
    monkeypatch.setattr(streams, 'OPEN_TIMEOUT', 5.0)
    monkeypatch.setattr(streams, 'READ_TIMEOUT', 5.0)


def gray(index):
    return np.full((48, 64, 3), STEP * index, np.uint8)


def jpeg(index):
    return cv2.imencode('.jpg', gray(index))[1].tobytes()


def part(content):
    return (
        (
            f'--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n'
        ).encode()
        + content
        + b'\r\n'
    )


def numbers(images):
    """Return the frame indices, which the gray values encode."""
    return [round(float(image.mean()) / STEP) for image in images]


@contextmanager
def serve(answer):
    """Serve over HTTP; ``answer(handler, number)`` handles one request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            number = len(requests)
            requests.append(dict(self.headers))
            with contextlib.suppress(OSError):  # the reader has disconnected
                answer(self, number)

        def log_message(self, *_):
            pass

    requests = []
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f'127.0.0.1:{server.server_port}', requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def mjpeg(*connections):
    """Answer each request with the next list of parts, then with 404."""

    def answer(handler, number):
        if number >= len(connections):
            handler.send_error(404)
            return
        start_mjpeg(handler)
        for content in connections[number]:
            handler.wfile.write(part(content))

    return answer


def start_mjpeg(handler):
    handler.send_response(200)
    handler.send_header('Content-Type', f'multipart/x-mixed-replace; boundary={BOUNDARY}')
    handler.end_headers()


def read_all(address):
    """Read a stream to its end: frames, notes, reader, error."""
    notes, frames, error = [], [], ''
    reader = StreamReader(address, notes.append)
    try:
        frames.extend(reader)
    except InputError as lost:
        error = str(lost)
    reader.close()
    return frames, notes, reader, error


# ---- live streams


def test_reconnect(monkeypatch):
    monkeypatch.setattr(streams, 'QUEUE_SIZE', 100)
    first, second = [jpeg(i) for i in range(5)], [jpeg(i) for i in range(5, 10)]
    with serve(mjpeg(first, second)) as (host, requests):
        frames, notes, reader, error = read_all(f'http://{host}/video')
    assert [index for index, _ in frames] == list(range(10))
    assert numbers(image for _, image in frames) == list(range(10))
    assert (reader.length, reader.received, reader.dropped) == (None, 10, 0)
    assert re.search('lost after 5 frames; reconnecting in 0.02 s', notes[0])
    # The second connection's loss, then two attempts in vain.
    assert len(requests) == 4 and len(notes) == 3
    assert error.endswith(
        'the connection was lost after 10 frames, and 2 attempts to reconnect failed'
    )


def test_late_frames_are_dropped():
    with serve(mjpeg([jpeg(i) for i in range(20)])) as (host, _):
        reader = StreamReader(f'http://{host}/video', lambda _: None)
        deadline = time.monotonic() + 10
        while reader.received < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        frames = [frame for _, frame in zip(range(4), reader, strict=False)]
        reader.close()
    assert [index for index, _ in frames] == [16, 17, 18, 19]
    assert numbers(image for _, image in frames) == [16, 17, 18, 19]
    assert reader.dropped == 16


def test_garbage_between_frames(monkeypatch):
    monkeypatch.setattr(streams, 'QUEUE_SIZE', 100)
    noise = np.random.default_rng(0).bytes(3000)
    parts = [jpeg(1), jpeg(2), noise, jpeg(3), jpeg(4)]
    with serve(mjpeg(parts)) as (host, _):
        frames, _, _, error = read_all(f'http://{host}/video')
    assert numbers(image for _, image in frames) == [1, 2, 3, 4]
    assert 'the connection was lost after 4 frames' in error


def test_reconnect_to_a_stalled_stream(monkeypatch):
    monkeypatch.setattr(streams, 'READ_TIMEOUT', 0.3)
    monkeypatch.setattr(streams, 'QUEUE_SIZE', 100)
    over = threading.Event()

    def answer(handler, number):
        mjpeg([jpeg(i) for i in range(8)], [jpeg(i) for i in range(8, 16)])(handler, number)
        if number == 0:
            over.wait(10)  # the connection stays, without a frame

    with serve(answer) as (host, _):
        start = time.monotonic()
        frames, _, _, _ = read_all(f'http://{host}/video')
        seconds = time.monotonic() - start
        over.set()
    assert set(range(8, 16)) <= set(numbers(image for _, image in frames))
    assert seconds < 8


def test_slow_stream_loses_no_frame():

    def answer(handler, number):
        if number:
            handler.send_error(503)
            return
        start_mjpeg(handler)
        for index in range(6):
            content = part(jpeg(index))
            for piece in (content[:300], content[300:]):
                handler.wfile.write(piece)
                time.sleep(0.02)

    with serve(answer) as (host, _):
        frames, _, reader, _ = read_all(f'http://{host}/video')
    assert numbers(image for _, image in frames) == [0, 1, 2, 3, 4, 5]
    assert reader.dropped == 0


@pytest.mark.parametrize('body', [b'', b'hello' * 5000, np.random.default_rng(0).bytes(70000)])
def test_host_without_video(body):

    def answer(handler, _):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body)

    with (
        serve(answer) as (host, _),
        pytest.raises(
            InputError,
            match=r'expected a video or live '
            r'stream, but the host, which answers, sends none',
        ),
    ):
        StreamReader(f'http://me:secret@{host}/video', print)


@pytest.mark.parametrize('scheme', ['http', 'rtsp'])
def test_unreachable_host(scheme):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(InputError) as error:
        StreamReader(f'{scheme}://me:secret@127.0.0.1:{port}/v', print)
    assert str(error.value).startswith(
        f'{scheme}://127.0.0.1:{port}/v: cannot be reached (Connection refused)'
    )
    assert 'secret' not in str(error.value)
    assert time.monotonic() - start < 4


# ---- recordings


@pytest.fixture(scope='module')
def recording(tmp_path_factory):
    """Make an MP4 of 30 frames of noise with different gray values, about 100 KB."""
    path = tmp_path_factory.mktemp('recording') / 'film.mp4'
    random = np.random.default_rng(0)
    writer = VideoWriter(path, 10)
    for index in range(30):
        noise = random.integers(-20, 20, (96, 128, 1))
        writer.write((60 + 4 * index + noise).clip(0, 255).astype(np.uint8).repeat(3, -1))
    writer.close()
    return path


def send_range(handler, content, at_most=None):
    """Answer a range request, possibly incompletely."""
    start = int(re.search(r'bytes=(\d+)', handler.headers['Range'])[1])
    handler.send_response(206)
    handler.send_header('Accept-Ranges', 'bytes')
    handler.send_header('Content-Length', str(len(content) - start))
    handler.send_header('Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}')
    handler.end_headers()
    end = None if at_most is None else start + at_most
    handler.wfile.write(content[start:end])


def test_recording_drops_no_frame(recording):
    content = recording.read_bytes()
    with serve(lambda handler, _: send_range(handler, content)) as (host, _):
        reader = StreamReader(f'http://{host}/film.mp4', print)
        time.sleep(0.2)  # more than enough to read it all
        frames = list(reader)
    assert [index for index, _ in frames] == list(range(30))
    expected = list(VideoReader(str(recording)))
    assert all((image == other).all() for (_, image), other in zip(frames, expected, strict=True))
    assert (reader.length, reader.rate, reader.dropped) == (30, 10, 0)


def test_recording_continues_after_a_lost_connection(recording):
    content = recording.read_bytes()
    broken = []

    def answer(handler, number):
        start = int(re.search(r'bytes=(\d+)', handler.headers['Range'])[1])
        # At first the index at the end is read, then the frames.
        is_broken = 0 < start < len(content) // 2 and not any(broken)
        broken.append(is_broken)
        send_range(handler, content, len(content) // 2 if is_broken else None)

    with serve(answer) as (host, _):
        frames, notes, reader, error = read_all(f'http://{host}/film.mp4')
    assert any(broken) and notes and not error
    assert [index for index, _ in frames] == list(range(30))
    expected = list(VideoReader(str(recording)))
    assert all((image == other).all() for (_, image), other in zip(frames, expected, strict=True))


# ---- RTSP: Motion JPEG as RFC 2435 has it, within the connection


def rtp_packet(content, number):
    """One RTP packet with a small JPEG of 4:2:0."""
    tables, position = b'', 2
    while content[position + 1] != 0xDA:  # up to the start of the scan
        kind = content[position + 1]
        length = struct.unpack('>H', content[position + 2 : position + 4])[0]
        segment = content[position + 4 : position + 2 + length]
        if kind == 0xDB:
            for start in range(0, len(segment), 65):
                tables += segment[start + 1 : start + 65]
        position += 2 + length
    position += 2 + struct.unpack('>H', content[position + 2 : position + 4])[0]
    scan = content[position:-2]
    header = struct.pack('>BBHII', 0x80, 0x80 | 26, number, 9000 * number, 7)
    image = struct.pack('>IBBBB', 0, 1, 255, 64 // 8, 48 // 8)
    quantization = struct.pack('>BBH', 0, 0, len(tables)) + tables
    packet = header + image + quantization + scan
    return b'$\x00' + struct.pack('>H', len(packet)) + packet


def answer_rtsp(connection, indices, password):
    """Serve RTSP to one client, send the frames and disconnect."""
    stream = connection.makefile('rb')
    while True:
        request = stream.readline().decode().split()
        if not request:
            return
        headers = {}
        for line in iter(stream.readline, b'\r\n'):
            name, value = line.decode().split(':', 1)
            headers[name.lower()] = value.strip()
        reply, body, status = [f'CSeq: {headers["cseq"]}'], '', '200 OK'
        if request[0] == 'OPTIONS':
            reply.append('Public: DESCRIBE, SETUP, PLAY, TEARDOWN')
        elif password and headers.get('authorization') != (
            'Basic ' + base64.b64encode(password.encode()).decode()
        ):
            status = '401 Unauthorized'
            reply.append('WWW-Authenticate: Basic realm="camera"')
        elif request[0] == 'DESCRIBE':
            body = (
                'v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\n'
                'c=IN IP4 0.0.0.0\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\n'
                'a=control:track0\r\n'
            )
            reply += ['Content-Type: application/sdp', f'Content-Base: {request[1]}/']
        elif request[0] == 'SETUP':
            reply += ['Transport: RTP/AVP/TCP;unicast;interleaved=0-1', 'Session: 1']
        else:
            reply.append('Session: 1')
        if body:
            reply.append(f'Content-Length: {len(body)}')
        connection.sendall('\r\n'.join([f'RTSP/1.0 {status}', *reply, '', body]).encode())
        if request[0] == 'PLAY':
            for index in indices:
                connection.sendall(rtp_packet(jpeg(index), index))
            return


@contextmanager
def serve_rtsp(*connections, password=None):
    """Serve the frames of each connection, then refuse connections."""
    server = socket.create_server(('127.0.0.1', 0))

    def run():
        for indices in connections:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(10)
                answer_rtsp(connection, indices, password)
        server.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield f'127.0.0.1:{server.getsockname()[1]}'
    server.close()


def test_rtsp(monkeypatch):
    monkeypatch.setattr(streams, 'QUEUE_SIZE', 100)
    with serve_rtsp(range(8), range(8, 16), password='me:secret') as host:
        frames, notes, reader, error = read_all(f'rtsp://me:secret@{host}/a')
    # FFmpeg asks without the password first, and then with it.
    assert numbers(image for _, image in frames) == list(range(16))
    assert [index for index, _ in frames] == list(range(16))
    assert re.search('lost after 8 frames; reconnecting', notes[0])
    assert 'lost after 16 frames, and 2 attempts' in error


def test_rtsp_with_a_wrong_password():
    with (
        serve_rtsp(range(8), range(8), password='me:secret') as host,
        pytest.raises(InputError, match='does it need a user name and'),
    ):
        StreamReader(f'rtsp://me:wrong@{host}/a', print)


# ---- inferencers and demo


def test_dropped_frames_are_counted_and_filled(model, tmp_path, capsys):
    """Of frames 0 to 19 the first and the last four are processed."""
    inferencer = OnnxInferencer(model)
    with serve(mjpeg([jpeg(i) for i in range(20)])) as (host, _):
        results = []
        for result in inferencer.stream(f'http://{host}/video', out_dir=tmp_path, track=True):
            results.append(result)
            time.sleep(0.15)  # slow: all the others have come meanwhile
    title = f'http://{host}/video'
    frames = [result['frame'] for result in results]
    assert frames[-4:] == [16, 17, 18, 19] and len(frames) < 20
    # Their scores are how light the image is, so only later ones count.
    assert [result['track_ids'].tolist() for result in results[-4:]] == [[1, 2]] * 4
    said = capsys.readouterr().err
    assert f'{title}: {20 - len(frames)} of 20 frames came faster' in said
    assert inferencer.skipped == [
        f'{title}: the connection was lost after 20 frames, and 2 attempts to reconnect failed'
    ]
    name = f'127.0.0.1-{host.split(":")[1]}-video'
    content = json.loads((tmp_path / 'predictions.json').read_text())
    assert [(image['file_name'], image['frame']) for image in content['images']] == [
        (name, i) for i in frames
    ]
    written = list(VideoReader(str(tmp_path / f'{name}.mp4')))
    assert len(written) == 20  # as long as what it shows


def test_stream_among_other_inputs(model, tmp_path):
    image = tmp_path / 'a.png'
    cv2.imwrite(str(image), gray(3))
    inferencer = OnnxInferencer(model)
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
    results = inferencer([f'http://127.0.0.1:{port}/v', str(image)])
    assert [result['source'] for result in results] == [str(image)]
    assert len(inferencer.skipped) == 1
    assert 'cannot be reached' in inferencer.skipped[0]


@pytest.mark.parametrize('number, status', [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_interrupt_leaves_complete_files_without_password(model, tmp_path, number, status):

    def answer(handler, _):
        # The reader is told first that it needs the password.
        if handler.headers.get('Authorization') != 'Basic ' + (
            base64.b64encode(b'me:p@ssword').decode()
        ):
            handler.send_response(401)
            handler.send_header('WWW-Authenticate', 'Basic realm="camera"')
            handler.end_headers()
            return
        start_mjpeg(handler)
        for index in range(10000):  # never ends
            handler.wfile.write(part(jpeg(index % 25)))
            time.sleep(0.02)

    with serve(answer) as (host, _):
        process = subprocess.Popen(
            [
                sys.executable,
                str(ROOT / 'demo/video_demo.py'),
                f'http://me:p%40ssword@{host}/video?token=hush',
                model,
                '--out-dir',
                'out',
            ],
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(os.environ, PYTHONPATH=''),
        )
        started = tmp_path / 'out' / '.predictions.json.part'
        deadline = time.monotonic() + 60
        while (
            time.monotonic() < deadline
            and process.poll() is None
            and not (started.exists() and started.stat().st_size > 8000)
        ):
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert 'Stopped.' in out
    content = json.loads((tmp_path / 'out/predictions.json').read_text())
    (video,) = (tmp_path / 'out').glob('*.mp4')
    assert len(content['images']) > 1
    last = content['images'][-1]['frame']
    assert len(list(VideoReader(str(video)))) in (last + 1, last + 2)
    written = json.dumps(content) + out + err + video.name
    assert not re.search('ssword|hush|me:', written), written


@pytest.mark.parametrize(
    'address, shown',
    [
        ('rtsp://me:pass@host:554/a/b', 'rtsp://host:554/a/b'),
        ('RTSP://me:p@ss@host/a', 'RTSP://host/a'),
        ('http://me:p/a?s#s@host/a?token=x&y=z#w', 'http://host/a?...'),
        ('rtsp://host/user=me&password=pass_channel=1', 'rtsp://host/user=...&password=...'),
        ('http://host/a', 'http://host/a'),
    ],
)
def test_credentials_are_redacted(address, shown):
    assert redact_url(address) == shown
    (source,), _ = collect(address)
    assert source.title == shown and source.is_moving
    assert not re.search(r'p@?ss\b|p/a|pass_', repr(source))


@pytest.mark.parametrize(
    'address, match',
    [
        (
            'ftp://me:pass@host/a.mp4',
            'ftp://host/a.mp4: expected the URL of a '
            'stream that starts with http://, https://, rtsp://, rtsps://',
        ),
        ('file:///a.mp4', 'files are given by their path'),
        ('http://', 'and the name of a host'),
        ('http://host/photo.JPG?x=1', 'found that of an image. Download it'),
    ],
)
def test_wrong_urls(address, match):
    with pytest.raises(InputError, match=re.escape(match)) as error:
        collect(address)
    assert 'pass' not in str(error.value)
