"""``multitask serve``: its models, limits and the running server."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import click
import pytest

from multitask_cli import serve as verb
from multitask_cli.main import main
from multitask_runtime.serve import Limits
from tests.conftest import ROOT
from tests.test_runtime.onnx_files import make_file


def test_limits_of_the_help_are_those_of_the_server():
    options = {option.name: option for option in verb.command.params}
    for name, field in Limits.model_fields.items():
        assert options[name].default == field.default
        assert options[name].help == f'{field.description}.'


def test_configs_are_followed_by_their_checkpoints():
    assert list(verb._group(['a.onnx', 'c.py', 'c.pth', 'b.onnx'])) == [
        ('a.onnx', None),
        ('c.py', 'c.pth'),
        ('b.onnx', None),
    ]
    with pytest.raises(click.UsageError, match='expected CONFIG CHECKPOINT, found only c.py'):
        list(verb._group(['a.onnx', 'c.py']))


@pytest.mark.parametrize(
    'models, sentence',
    [
        (['nothing.onnx'], 'nothing.onnx: there is no such ONNX file'),
        (['a.onnx', 'folder/a.onnx'], 'each with its own name'),
        (['keypoint-rcnn_r50'], 'keypoint-rcnn_r50: expected .* keypoint-rcnn_r50_fpn_'),
    ],
)
def test_wrong_models_end_in_a_sentence(tmp_path, monkeypatch, models, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'folder').mkdir()
    for name in ('a.onnx', 'folder/a.onnx'):
        make_file(tmp_path / name)
    with pytest.raises(SystemExit, match=sentence):
        main(['serve', *models])


def test_missing_extra_ends_in_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, 'multitask_runtime.serve', None)
    monkeypatch.delitem(sys.modules, 'multitask_runtime.serve')
    monkeypatch.setitem(sys.modules, 'fastapi', None)
    with pytest.raises(SystemExit, match=r"fastapi cannot be .* pip install 'multitask-refine\[s"):
        main(['serve', 'a.onnx'])


def test_opencv_has_the_limit_of_the_server(tmp_path, monkeypatch):
    """OpenCV reads the variable when it is imported, which the command does after setting it."""
    monkeypatch.setenv('OPENCV_IO_MAX_IMAGE_PIXELS', '')
    monkeypatch.delenv('OPENCV_IO_MAX_IMAGE_PIXELS')
    seen = []
    monkeypatch.setattr('multitask_runtime.serve.serve', lambda *arguments: seen.append(arguments))
    main(['serve', make_file(tmp_path / 'a.onnx'), '--max-pixels', '1234'])
    ((_, host, port, limits, batch_size),) = seen
    assert (host, port, batch_size) == ('127.0.0.1', 8000, 1)
    assert limits == Limits(max_pixels=1234)
    assert os.environ['OPENCV_IO_MAX_IMAGE_PIXELS'] == '1234'


@pytest.mark.slow
@pytest.mark.parametrize(
    'sent, status', [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)], ids=str
)
def test_server_runs_without_pytorch_until_a_signal(tmp_path, sent, status):
    """In a process that cannot import torch; the port is the one that the server prints."""
    model = make_file(tmp_path / 'model.onnx')
    code = (
        'import sys; sys.modules["torch"] = None; from multitask_cli.main import main; '
        f'sys.exit(main(["serve", {model!r}, "--port", "0"]))'
    )
    env = dict(os.environ, PYTHONPATH=str(ROOT / 'projects'))
    with subprocess.Popen(
        [sys.executable, '-c', code], env=env, stderr=subprocess.PIPE, text=True
    ) as server:
        said = ''
        while not (address := re.search(r'running on (http://127\.0\.0\.1:\d+)', said)):
            line = server.stderr.readline()
            assert line, said
            said += line
        with urllib.request.urlopen(f'{address[1]}/v1/models', timeout=30) as response:
            assert json.load(response)['models'][0]['name'] == 'model'
        server.send_signal(sent)
        assert server.wait(30) == status


def test_taken_port_ends_in_a_sentence(tmp_path):
    with socket.create_server(('127.0.0.1', 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SystemExit, match=rf'^127.0.0.1:{port}: expected .* \(Address already'):
            main(['serve', make_file(tmp_path / 'a.onnx'), '--port', str(port)])


def test_unknown_host_ends_in_a_sentence(tmp_path):
    with pytest.raises(SystemExit, match=r'^host.invalid:8000: expected .* Name others by --host'):
        main(['serve', make_file(tmp_path / 'a.onnx'), '--host', 'host.invalid'])


def test_other_videos_of_the_process_are_read_as_before(tmp_path, monkeypatch):
    name, seen = 'OPENCV_FFMPEG_CAPTURE_OPTIONS', []
    monkeypatch.setattr('uvicorn.Server.run', lambda self: seen.append(os.environ[name]))
    for before in (None, 'rtsp_transport;udp'):
        monkeypatch.delenv(name, raising=False)
        if before:
            monkeypatch.setenv(name, before)
        main(['serve', make_file(tmp_path / 'a.onnx'), '--port', '0'])
        assert 'protocol_whitelist;file' in seen[-1]
        assert os.environ.get(name) == before
