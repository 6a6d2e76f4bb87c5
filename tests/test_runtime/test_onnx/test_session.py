"""Opening ONNX files: metadata, devices and errors."""

import json
import sys
from types import SimpleNamespace

import onnx
import onnxruntime
import pytest
from onnx import helper

from multitask_runtime import OnnxError, OnnxInferencer
from multitask_runtime.onnx.session import load_session
from tests.test_runtime.onnx_files import DESCRIPTION, make_file, save_graph


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / 'a.onnx'
    with pytest.raises(FileNotFoundError, match='a.onnx: there is no such'):
        OnnxInferencer(path)
    for content in (b'', b'no ONNX file'):
        path.write_bytes(content)
        with pytest.raises(
            OnnxError, match=f'a.onnx: expected an ONNX file, found {len(content)} bytes'
        ):
            OnnxInferencer(path)


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
def test_invalid_metadata(tmp_path, change, match):
    metadata = dict(
        format='multitask_refine', format_version='2', description=json.dumps(DESCRIPTION)
    )
    metadata.update(change)
    path = make_file(
        tmp_path / 'a.onnx', {name: value for name, value in metadata.items() if value is not None}
    )
    with pytest.raises(OnnxError, match=f'a.onnx: (.|\n)*{match}'):
        OnnxInferencer(path)


def test_unsupported_graphs(tmp_path, model, monkeypatch):
    node = helper.make_node('Blub', ['image'], ['y'], domain='other')
    strange = save_graph(tmp_path / 'a.onnx', [node], ['y'], {})
    with pytest.raises(OnnxError, match='operator other:Blub. Expected onnxr'):
        load_session(strange)
    node = helper.make_node('Relu', ['image'], ['y'])
    for changes in (dict(opset=99), {}):
        newer = save_graph(tmp_path / 'b.onnx', [node], ['y'], {}, **changes)
        if not changes:
            content = onnx.load(newer)
            content.ir_version = 99
            onnx.save(content, newer)
        with pytest.raises(OnnxError, match='is too old for this file'):
            load_session(newer)

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
        load_session(model)


def test_missing_onnxruntime(model, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(OnnxError, match='pip install -r requirements-onnx'):
        OnnxInferencer(model)


def test_device_selection(model, monkeypatch):
    with pytest.raises(OnnxError, match="cpu', 'cuda', .*found 'tpu'"):
        OnnxInferencer(model, 'tpu')
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: ['CPUExecutionProvider'])
    OnnxInferencer(model, 'auto')
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
        OnnxInferencer(model, 'cuda:1')
    assert asked == [('CUDAExecutionProvider', dict(device_id='1'))]
