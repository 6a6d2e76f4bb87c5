#!/usr/bin/env python
"""Put a server under load and send it what it must refuse.

    python -m benchmarks.robustness.serving model.onnx --json docs/results/performance/serving.json

`multitask serve` runs in a process of its own with its usual limits. Clients of many addresses
of this machine (127.0.0.0/8) send an image one by one and all at once, with and without coming
back after `Retry-After`; then damaged images and videos, files of other kinds, decompression
bombs and uploads that are too large. Each group of requests has the statuses that it may get,
and in the end the image must get the same response as in the beginning.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import re
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import cv2
import httpx2
import numpy as np
import psutil

from multitask_refine.utils.results_file import write_record
from multitask_runtime import VideoWriter
from multitask_runtime.utils.files import file_sha256

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / 'docs/images/000000000009.jpg'
MEBIBYTE = 1 << 20
REFUSED = {413, 415, 422}
PATIENCE = 300  # times that a client comes back


class Answer(NamedTuple):
    """Response to one request; seconds include all attempts."""

    status: int
    seconds: float
    content: dict


class Server:
    """`multitask serve` in a process of its own.

    Args:
        model: The ONNX file.
        log: File for what the server prints.
    """

    def __init__(self, model: Path, log: Path) -> None:
        command = [sys.executable, '-m', 'multitask_cli', 'serve', str(model), '--port', '0']
        with log.open('w') as file:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
        while not (found := re.search(r'running on (http://\S+)', log.read_text())):
            if self.process.poll() is not None:
                raise SystemExit(f'the server did not start: {log.read_text()}')
            time.sleep(0.1)
        self.url = found[1]
        self._memory = psutil.Process(self.process.pid)
        self._peak = 0
        self._is_over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._is_over.wait(0.02):
            self._peak = max(self._peak, self._memory.memory_info().rss)

    def take_peak(self) -> float:
        """Return the greatest memory since the last call in MiB."""
        peak, self._peak = max(self._peak, self._memory.memory_info().rss), 0
        return round(peak / MEBIBYTE, 1)

    def close(self) -> int:
        """Stop the server and return its exit status."""
        self._is_over.set()
        self._watcher.join()
        self.process.terminate()
        return self.process.wait(60)


async def send(
    client: httpx2.AsyncClient,
    path: str,
    content: bytes | AsyncIterator[bytes],
    comes_back: bool = False,
) -> Answer:
    """Send one upload; optionally again while the server has no room."""
    field = 'files' if path == '/v1/predict' else 'file'
    form = {'Content-Type': 'multipart/form-data; boundary=end'}
    body = make_form(content, field) if isinstance(content, bytes) else content
    start = time.perf_counter()
    for _ in range(PATIENCE):
        response = await client.post(path, content=body, headers=form)
        if not comes_back or response.status_code not in (429, 503):
            break
        await asyncio.sleep(int(response.headers['Retry-After']))
    seconds = time.perf_counter() - start
    if response.headers['content-type'] == 'application/x-ndjson':
        return Answer(response.status_code, seconds, {})
    found = response.json()
    if response.status_code in (429, 503):
        assert int(response.headers['Retry-After']) >= 1
    assert response.status_code == 200 or list(found) == ['detail'], found
    return Answer(response.status_code, seconds, found)


def make_form(content: bytes, field: str = 'files') -> bytes:
    """Return the body of a request with one file."""
    head = f'--end\r\nContent-Disposition: form-data; name="{field}"; filename="upload"\r\n\r\n'
    return head.encode() + content + b'\r\n--end--\r\n'


async def as_stream(body: bytes) -> AsyncIterator[bytes]:
    """Yield a body that :func:`send` sends as it is."""
    yield body


class Load:
    """Groups of requests, and what came of them."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.rows: list[dict] = []

    def run(
        self,
        title: str,
        uploads: Iterable[tuple[str, bytes | AsyncIterator[bytes]]],
        allowed: Iterable[int],
        at_once: int = 1,
        addresses: int = 100,
        **options: bool,
    ) -> list[Answer]:
        """Send a group of uploads and record the statuses, times and memory.

        Args:
            title: What is sent.
            uploads: Endpoint and content of each.
            allowed: Statuses that they may get.
            at_once: Number of requests at a time.
            addresses: Number of addresses from which they come in turn.
            options: As of :func:`send`.
        """
        uploads = list(uploads)

        async def send_all() -> tuple[list[Answer], float]:
            room = asyncio.Semaphore(at_once)
            async with contextlib.AsyncExitStack() as stack:
                clients = []  # which take longer to make than to use
                for number in range(min(addresses, len(uploads))):
                    transport = httpx2.AsyncHTTPTransport(local_address=f'127.0.1.{1 + number}')
                    client = httpx2.AsyncClient(
                        transport=transport, base_url=self.server.url, timeout=200
                    )
                    clients.append(await stack.enter_async_context(client))

                async def send_one(number: int, path: str, content: bytes) -> Answer:
                    async with room:
                        return await send(clients[number % len(clients)], path, content, **options)

                start = time.perf_counter()
                answers = await asyncio.gather(
                    *(send_one(number, *each) for number, each in enumerate(uploads))
                )
                return answers, time.perf_counter() - start

        self.server.take_peak()
        answers, duration = asyncio.run(send_all())
        statuses = Counter(answer.status for answer in answers)
        seconds = {
            status: [answer.seconds for answer in answers if answer.status == status]
            for status in sorted(statuses)
        }
        self.rows.append(
            dict(
                requests=title,
                at_once=at_once,
                addresses=min(addresses, len(uploads)),
                seconds=round(duration, 2),
                statuses={str(status): statuses[status] for status in sorted(statuses)},
                median_s={str(name): round(median(each), 4) for name, each in seconds.items()},
                longest_s={str(name): round(max(each), 4) for name, each in seconds.items()},
                peak_mib=self.server.take_peak(),
                passed=set(statuses) <= set(allowed),
            )
        )
        print(self.rows[-1], flush=True)
        return answers


def mutate(content: bytes, number: int, seed: int) -> Iterator[bytes]:
    """Overwrite, cut out or cut off parts of a file at random."""
    rng = np.random.default_rng(seed)
    for index in range(number):
        damaged = bytearray(content)
        for _ in range(1 + index % 5):
            place = int(rng.integers(len(damaged)))
            length = int(rng.integers(1, 64))
            damaged[place : place + length] = rng.bytes(length if index % 3 else 0)
        yield bytes(damaged[: int(rng.integers(len(damaged)))] if index % 4 == 0 else damaged)


def other_files() -> Iterator[bytes]:
    """Yield files that are no images."""
    yield b''
    yield b'words\n' * 1000
    yield b'PK\x03\x04' + bytes(1000)
    yield b'%PDF-1.7\n' + bytes(1000)
    yield b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n'
    yield b'\x7fELF' + bytes(1000)
    yield b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    yield b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'
    yield b'#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n'
    yield b'ffconcat version 1.0\nfile /etc/passwd\n'
    yield b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(1000)
    yield b'\x1f\x8b\x08' + zlib.compress(bytes(MEBIBYTE))


def bombs() -> Iterator[bytes]:
    """Yield small files that would expand to gigabytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack('>I', zlib.crc32(kind + content))
        return struct.pack('>I', len(content)) + kind + content + checksum

    def png(width: int, height: int, *chunks: bytes) -> bytes:
        header = struct.pack('>IIBBBBB', width, height, 1, 0, 0, 0, 0)
        packer = zlib.compressobj(9)
        line = bytes(1 + -(-width // 8))
        pixels = b''.join(packer.compress(line) for _ in range(height)) + packer.flush()
        parts = [chunk(b'IHDR', header), *chunks, chunk(b'IDAT', pixels), chunk(b'IEND', b'')]
        return b'\x89PNG\r\n\x1a\n' + b''.join(parts)

    packer = zlib.compressobj(9)
    block = bytes(MEBIBYTE)
    gibibyte = b''.join(packer.compress(block) for _ in range(1024)) + packer.flush()
    yield png(30_000, 30_000)
    yield png(65_000, 4_000)
    yield png(400_000, 40)  # narrow: stretched, it would be 400000 x 8000
    yield png(8, 8, chunk(b'zTXt', b'a\0\0' + gibibyte))
    yield png(8, 8, chunk(b'iCCP', b'a\0\0' + gibibyte))
    yield b'GIF89a' + struct.pack('<HH', 65535, 65535) + bytes(1000)
    yield b'BM' + struct.pack(
        '<IHHIIiiHHIIiiII', 1000, 0, 0, 54, 40, 2**30, 2**30, 1, 24, *[0] * 6
    )
    webp = b'WEBPVP8X' + struct.pack('<II', 10, 0) + b'\xff\xff\xff' * 2
    yield b'RIFF' + struct.pack('<I', len(webp)) + webp


async def endless(size: int) -> AsyncIterator[bytes]:
    """Yield a form without a length and an end."""
    yield b'--end\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    for _ in range(size // MEBIBYTE):
        yield bytes(MEBIBYTE)


def make_film(folder: Path, image: np.ndarray) -> bytes:
    """Return a video of four frames."""
    writer = VideoWriter(folder / 'film.mp4', 10)
    for shift in range(4):
        writer.write(np.roll(image, 8 * shift, 1))
    writer.close()
    return (folder / 'film.mp4').read_bytes()


def put_under_load(server: Server, image: bytes, film: bytes, scale: float) -> list[dict]:
    """Send all groups of requests.

    Args:
        server: The server.
        image: Content of an image file.
        film: Content of a video file.
        scale: Share of the usual numbers of requests.
    """
    load = Load(server)
    many = max(8, round(100 * scale))

    def images(contents: Iterable[bytes]) -> list[tuple[str, bytes]]:
        return [('/v1/predict', content) for content in contents]

    same = [image] * many
    first = load.run('an image, one by one', images(same[: many // 4]), {200})
    load.run('all at once, each of its own address', images(same), {200, 503}, many)
    load.run('all at once, of one address', images(same), {200, 429}, many, addresses=1)
    load.run(
        'all at once, coming back after Retry-After', images(same), {200}, many, comes_back=True
    )
    load.run('damaged images', images(mutate(image, 2 * many, seed=1)), {200, *REFUSED}, at_once=4)
    forms = [('/v1/predict', as_stream(each)) for each in mutate(make_form(image), many, seed=3)]
    load.run('damaged forms', forms, {200, 400, *REFUSED}, at_once=4)
    load.run('files of other kinds', images(other_files()), REFUSED)
    load.run('decompression bombs', images(bombs()), REFUSED)
    size = max(40, round(100 * scale))
    large = [('/v1/predict', bytes(size * MEBIBYTE))] * 4
    load.run(f'uploads of {size} MiB', large, {413}, at_once=4)
    unknown = [('/v1/predict', endless(size * MEBIBYTE)) for _ in range(4)]
    load.run(f'uploads of {size} MiB without a length', unknown, {413}, at_once=4)
    videos = [('/v1/predict-video', each) for each in mutate(film, many // 2, seed=2)]
    load.run('damaged videos', videos, {200, *REFUSED}, at_once=2)
    last = load.run('an image, one by one, after all this', images(same[: many // 4]), {200})
    load.rows[-1]['passed'] &= all(
        _instances(answer) == _instances(first[0]) for answer in itertools.chain(first, last)
    )
    return load.rows


def _instances(answer: Answer) -> list[dict]:
    return answer.content['images'][0]['instances'] if answer.status == 200 else []


@contextlib.contextmanager
def serve(model: Path, folder: Path) -> Iterator[Server]:
    """Start the server, and stop it in the end."""
    server = Server(model, folder / 'server.txt')
    try:
        yield server
    finally:
        server.close()


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return 0 if it passed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', type=Path, help='exported model')
    parser.add_argument('--image', type=Path, default=IMAGE)
    parser.add_argument('--scale', type=float, default=1.0, help='share of the usual requests')
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    image = cv2.imread(str(args.image))
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, serve(args.model, Path(folder)) as server:
        film = make_film(Path(folder), image)
        rows = put_under_load(server, args.image.read_bytes(), film, args.scale)
        unexpected = 'Traceback' in (Path(folder) / 'server.txt').read_text()
    passed = all(row['passed'] for row in rows) and not unexpected
    result = dict(
        model_sha256=file_sha256(args.model),
        image=f'{image.shape[1]} x {image.shape[0]}',
        load_average=[round(before, 1), round(os.getloadavg()[0], 1)],
        groups=rows,
        tracebacks=unexpected,
        passed=passed,
    )
    write_record(args.json, result)
    print(f'{args.json}: {"passed" if passed else "NOT passed"}')
    return int(not passed)


if __name__ == '__main__':
    sys.exit(main())
