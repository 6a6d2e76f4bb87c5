"""Opening exported files: backends, metadata, devices and errors."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from multitask_runtime import OnnxError, OnnxInferencer
from multitask_runtime.onnx import session
from multitask_runtime.onnx.session import choose_backend, is_supported, load_session
from tests.test_runtime.onnx_files import DESCRIPTION, EVERY_BACKEND, make_file, save_graph


@EVERY_BACKEND
def test_foreign_files_are_refused(tmp_path, backend):
    path = tmp_path / 'a.onnx'
    with pytest.raises(FileNotFoundError, match='a.onnx: there is no such'):
        OnnxInferencer(path)
    for content in (b'', b'no ONNX file'):
        path.write_bytes(content)
        with pytest.raises(
            OnnxError, match=f'a.onnx: expected an ONNX file, found {len(content)} bytes'
        ):
            OnnxInferencer(path, backend=backend)


@EVERY_BACKEND
@pytest.mark.parametrize(
    'change, match',
    [
        (dict(format=None), 'that this project exported .*found no format there'),
        (dict(format='yolo'), 'found format=yolo. Export it again'),
        (dict(format_version='3'), 'expected format_version 2, found 3.*Update'),
        (dict(format_version='new'), 'a number as format_version.*found new'),
        (dict(description=None), 'a JSON object as description'),
        (dict(description='{'), 'a JSON object as description'),
        (dict(description='{"classes": []}'), 'lacks keypoint_names, skeleton'),
    ],
)
def test_invalid_metadata(tmp_path, change, match, backend):
    metadata = dict(
        format='multitask_refine', format_version='2', description=json.dumps(DESCRIPTION)
    )
    metadata.update(change)
    path = make_file(
        tmp_path / 'a.onnx', {name: value for name, value in metadata.items() if value is not None}
    )
    with pytest.raises(OnnxError, match=f'a.onnx: (.|\n)*{match}'):
        OnnxInferencer(path, backend=backend)


def test_unsupported_graphs(tmp_path, model, monkeypatch):
    node = helper.make_node('Blub', ['image'], ['y'], domain='other')
    strange = save_graph(tmp_path / 'a.onnx', [node], ['y'], {})
    with pytest.raises(OnnxError, match='operator other:Blub. Expected onnxr'):
        load_session(strange, backend='onnxruntime')
    node = helper.make_node('Relu', ['image'], ['y'])
    for changes in (dict(opset=99), {}):
        newer = save_graph(tmp_path / 'b.onnx', [node], ['y'], {}, **changes)
        if not changes:
            content = onnx.load(newer)
            content.ir_version = 99
            onnx.save(content, newer)
        with pytest.raises(OnnxError, match='is too old for this file'):
            load_session(newer, backend='onnxruntime')

    def refuse(*_, **__):
        raise RuntimeError(
            '[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an '
            "implementation for DeformConv(19) node with name ''"
        )

    monkeypatch.setattr(onnxruntime, 'InferenceSession', refuse)
    monkeypatch.setattr(onnxruntime, '__version__', '1.24.4')
    with pytest.raises(
        OnnxError,
        match='operator DeformConv. Expected onnxr'
        "untime 1.25 or later, found 1.24.4(.|\n)*>=1.25'",
    ):
        load_session(model, backend='onnxruntime')


def test_missing_onnxruntime(model, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(OnnxError, match='pip install -r requirements-onnx'):
        OnnxInferencer(model, backend='onnxruntime')
    monkeypatch.setattr(session, 'openvino_version', lambda: None)
    with pytest.raises(OnnxError, match='pip install -r requirements-onnx'):
        OnnxInferencer(model)


@pytest.mark.parametrize(
    'path, device, has_cuda, installed, expected',
    [
        ('a.onnx', 'cpu', False, None, 'onnxruntime'),
        ('a.onnx', 'cpu', False, '2026.4.1', 'openvino'),
        ('a.onnx', 'cpu', True, '2026.4.1', 'openvino'),
        ('a.onnx', 'cpu', False, '2025.4.0', 'onnxruntime'),
        ('a.onnx', 'auto', False, '2026.4.1', 'openvino'),
        ('a.onnx', 'auto', True, '2026.4.1', 'onnxruntime'),
        ('a.onnx', 'cuda:1', False, '2026.4.1', 'onnxruntime'),
        ('a.xml', 'auto', True, None, 'openvino'),
    ],
)
def test_automatic_backend(path, device, has_cuda, installed, expected, monkeypatch):
    monkeypatch.setattr(session, 'openvino_version', lambda: installed)
    providers = ['CUDAExecutionProvider'] if has_cuda else []
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: providers)
    assert choose_backend(path, device, 'auto') == expected
    assert choose_backend(path, device, 'onnxruntime') == 'onnxruntime'


@pytest.mark.parametrize(
    'installed, expected',
    [('2025.4.1', False), ('2026.0.0', True), ('2026.10.0.dev1', True), ('2027.1', True)],
)
def test_oldest_openvino(installed, expected):
    assert is_supported(installed) is expected


@pytest.mark.parametrize(
    'options, match',
    [
        (dict(backend='tensorrt'), 'backend: expected one of auto, onnx.*found .tensorrt'),
        (dict(precision='int8'), 'precision: expected one of float32, bfloat16, found .int8'),
        (dict(threads=0), 'threads: expected 1 or more, found 0'),
        (dict(backend='onnxruntime', precision='bfloat16'), 'precision: expected float32.*Use'),
    ],
)
def test_wrong_options(model, options, match):
    with pytest.raises(OnnxError, match=match):
        OnnxInferencer(model, **options)


@EVERY_BACKEND
def test_one_session_in_several_threads(model, backend):
    opened = load_session(model, backend=backend, threads=1)

    def run(share):
        image = np.full((1, 3, 32, 48), 255 * share, np.float32)
        return [each['scores'][0] for each in opened.run([image] * (1 + int(8 * share) % 3))]

    shares = np.arange(16) / 16
    with ThreadPoolExecutor(4) as pool:
        for share, scores in zip(shares, pool.map(run, shares)):
            assert scores == pytest.approx([share] * len(scores), abs=1e-5)


def test_device_selection(model, monkeypatch):
    with pytest.raises(OnnxError, match="cpu', 'cuda', .*found 'tpu'"):
        OnnxInferencer(model, 'tpu')
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: ['CPUExecutionProvider'])
    OnnxInferencer(model, 'auto', backend='onnxruntime')
    with pytest.raises(
        OnnxError, match='runs on cuda:1(.|\n)*has no CUDAExecutionProvider here, only CPUExec'
    ):
        OnnxInferencer(model, 'cuda:1')
    asked = []
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: ['CUDAExecutionProvider'])
    monkeypatch.setattr(
        onnxruntime,
        'InferenceSession',
        lambda *_, providers: (
            asked.append(providers[0])
            or SimpleNamespace(get_providers=lambda: ['CPUExecutionProvider'])
        ),
    )
    with pytest.raises(OnnxError, match='could not start CUDAExecution'):
        OnnxInferencer(model, 'cuda:1', backend='onnxruntime')
    assert asked == [('CUDAExecutionProvider', dict(device_id='1'))]
