"""The page in a browser: drop files, see the result."""

import json
import re
import shutil
import threading
import time

import cv2
import numpy as np
import pytest
import uvicorn

from multitask_runtime.serve import ServedModel, create_app
from multitask_runtime.serve.app import STATIC
from tests.browser import Browser
from tests.conftest import ROOT
from tests.test_runtime.test_serve.conftest import IMAGE, LIMITS, encode

READY = "document.body && document.body.dataset.ready === ''"
DONE = "document.querySelector('#status').textContent.startsWith('Done')"


@pytest.fixture(scope='module')
def address(served):
    """A server of two models, of which the second draws a green picture as its offsets."""
    green = cv2.imencode('.png', np.full((30, 40, 3), (0, 255, 0), np.uint8))[1].tobytes()
    models = [served, ServedModel('refined', served.inferencer, lambda *_: green)]
    server = uvicorn.Server(
        uvicorn.Config(create_app(models, LIMITS), port=0, log_level='warning')
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    yield f'http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}'
    server.should_exit = True
    thread.join()


@pytest.fixture
def browser(tmp_path, address):
    program = shutil.which('chromium')
    if not program:
        pytest.skip("no chromium on the PATH (Debian's package: chromium)")
    browser = Browser(program, tmp_path / 'profile')
    browser.call('Page.navigate', url=address)
    browser.wait_for(READY)
    yield browser
    browser.close()


def test_files_of_the_page_are_in_the_package_and_name_no_other_server(client):
    """Nothing is loaded from elsewhere: the page works without the internet."""
    patterns = re.search(r'multitask_runtime = (\[.*\])', (ROOT / 'pyproject.toml').read_text())
    packed = {
        path for pattern in json.loads(patterns[1]) for path in STATIC.parents[1].glob(pattern)
    }
    assert {*STATIC.iterdir()} <= packed
    page = client.get('/')
    assert "default-src 'self'" in page.headers['content-security-policy']
    for path in STATIC.iterdir():
        text = client.get(f'/static/{path.name}').text
        assert text == path.read_text()
        assert set(re.findall(r'\w+://[^"\s]*', text)) <= {'http://www.w3.org/2000/svg'}
    for link in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert link.startswith('/') and client.get(link).status_code == 200
    assert client.get('/static/../app.py').status_code == 404
    assert client.get('/static/%2e%2e/app.py').status_code == 404


def _download(browser, selector, path):
    """Click a link and return the text of the file that the browser saves."""
    where = dict(behavior='allow', downloadPath=str(path.parent))
    browser.call('Page.setDownloadBehavior', **where)
    browser.evaluate(f'document.querySelector({selector!r}).click()')
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    return path.read_text()


@pytest.mark.slow
def test_dropped_image_in_a_browser(browser, address, tmp_path):
    photo, text = tmp_path / 'photo.png', tmp_path / 'notes.txt'
    photo.write_bytes(encode())
    text.write_text('words')
    browser.drop('#drop', photo, text)
    browser.wait_for(DONE)
    shown = browser.text()
    assert 'photo.png' in shown and '1\tperson\t0.80\t20 × 35 at 10, 5\t2 of 2' in shown
    assert '2\tperson\t0.40\t20 × 20 at 32, 10\t1 of 2' in shown
    assert 'notes.txt: expected an image' in shown and 'found 5 bytes of another kind' in shown
    assert 'hand-made: an exported file does not give its offsets' in shown
    # The picture that is shown has the first box's color of the drawing, red.
    pixels = cv2.imdecode(np.frombuffer(browser.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert (abs(pixels.astype(int) - IMAGE[0, 0]).max(-1) < 16).sum() > 500
    assert ((pixels[..., 2] > 150) & (pixels[..., 0] < 130) & (pixels[..., 1] < 120)).sum() > 50
    content = json.loads(_download(browser, '.json', tmp_path / 'photo.json'))
    assert content['model'] == 'hand-made' and len(content['images'][0]['instances']) == 2
    assert 'visualization' not in content['images'][0]
    # Scripts ran without an error; the one message is the browser's about notes.txt.
    (problem,) = browser.problems()
    assert '415' in problem['params']['entry']['text']
    servers = {re.match(r'data:|blob:|\w+://[^/]+', url)[0] for url in browser.requested()}
    assert servers <= {address, 'data:', 'blob:'}


@pytest.mark.slow
def test_threshold_model_and_offsets_in_a_browser(browser, tmp_path):
    photo = tmp_path / 'photo.png'
    photo.write_bytes(encode())
    browser.drop('#drop', photo)
    browser.wait_for(DONE)
    rows = "document.querySelectorAll('.result tbody tr').length"
    assert browser.evaluate(rows) == 2
    choose = """(id, value) => {
        const field = document.getElementById(id);
        field.value = value;
        for (const type of ['input', 'change']) field.dispatchEvent(new Event(type));
    }"""
    browser.evaluate(f"({choose})('score', 0.5)")
    browser.wait_for(f'{rows} === 1 && {DONE}')
    browser.evaluate(f"({choose})('model', 'refined')")
    button = "[...document.querySelectorAll('.offsets button')].find((b) => b.checkVisibility())"
    browser.wait_for(f'{button} !== undefined')
    browser.evaluate(f'{button}.click()')
    picture = "document.querySelector('.offsets img')"
    browser.wait_for(f'{picture}.naturalWidth === 40')
    assert browser.evaluate(f'{picture}.alt') == 'Learned offsets of instance 1'
    assert not browser.problems()


@pytest.mark.slow
def test_dropped_video_in_a_browser(browser, tmp_path, film):
    path = tmp_path / 'film.mp4'
    path.write_bytes(film)
    browser.drop('#drop', path)
    browser.wait_for(DONE)
    assert browser.evaluate("document.querySelector('.seek').max") == '3'
    assert '0.00 s' in browser.text()
    browser.evaluate("document.querySelector('.play').click()")
    browser.wait_for("document.querySelector('.frame').textContent === '0.30 s'")
    browser.wait_for("document.querySelector('.play').textContent === 'Play'")
    assert not browser.problems()
