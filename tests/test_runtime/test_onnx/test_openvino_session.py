"""OpenVINO: deformable convolution by hand, IR, precision, errors."""

import ctypes
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import helper, numpy_helper

from multitask_runtime import OnnxError, OnnxInferencer
from multitask_runtime.onnx import openvino_session
from multitask_runtime.onnx.session import load_session
from multitask_runtime.utils import processor
from tests.test_runtime.onnx_files import DESCRIPTION, NEEDS_OPENVINO, save_graph

pytestmark = NEEDS_OPENVINO
METADATA = dict(format='multitask_refine', format_version='2', description=json.dumps(DESCRIPTION))


def deform_conv(x, weight, offset, bias, mask, stride, padding, dilation, groups):
    """Sample every cell by hand: bilinear, with zeros outside of the map."""
    offset_groups = mask.shape[0] // 4  # of a kernel of 2 x 2
    channels, height, width = x.shape
    out = np.zeros((len(weight), *offset.shape[1:]))
    padded = np.pad(x, ((0, 0), (30, 30), (30, 30)))
    for row, column in np.ndindex(*offset.shape[1:]):
        samples = np.zeros((channels, 4))
        for k, (i, j) in enumerate(np.ndindex(2, 2)):
            for c in range(channels):
                group = c // (channels // offset_groups)
                shift = offset[8 * group + 2 * k :, row, column]
                y = row * stride - padding + i * dilation + shift[0] + 30
                z = column * stride - padding + j * dilation + shift[1] + 30
                top, left = int(np.floor(y)), int(np.floor(z))
                corners = padded[c, top : top + 2, left : left + 2]
                share_y, share_x = [1 - y + top, y - top], [1 - z + left, z - left]
                value = share_y @ corners @ share_x
                samples[c, k] = value * mask[4 * group + k, row, column]
        for o in range(len(weight)):
            first = o // (len(weight) // groups) * (channels // groups)
            part = samples[first : first + channels // groups]
            out[o, row, column] = (weight[o].reshape(part.shape) * part).sum() + bias[o]
    return out


@pytest.mark.parametrize('stride, padding, dilation, groups', [(1, 1, 1, 1), (2, 1, 2, 2)])
def test_deformable_convolution_by_hand(tmp_path, stride, padding, dilation, groups):
    rng = np.random.default_rng(0)
    channels, out_channels, height, width = 4, 6, 5, 6
    size = [(n + 2 * padding - dilation - 1) // stride + 1 for n in (height, width)]
    weight = rng.normal(size=(out_channels, channels // groups, 2, 2)).astype(np.float32)
    # Far offsets: many samples are on the border or outside.
    offset = (3 * rng.normal(size=(1, 16, *size))).astype(np.float32)
    mask = rng.uniform(size=(1, 8, *size)).astype(np.float32)
    bias = rng.normal(size=out_channels).astype(np.float32)
    values = dict(weight=weight, offset=offset, bias=bias, mask=mask, plane=np.zeros((1, 1)))
    nodes = [
        helper.make_node('Constant', [], [name], value=numpy_helper.from_array(np.float32(value)))
        for name, value in values.items()
    ]
    nodes += [
        helper.make_node('Concat', ['image', 'extra'], ['x'], axis=1),
        helper.make_node(
            'DeformConv',
            ['x', 'weight', 'offset', 'bias', 'mask'],
            ['masks'],
            kernel_shape=[2, 2],
            strides=[stride] * 2,
            pads=[padding] * 4,
            dilations=[dilation] * 2,
            group=groups,
            offset_group=2,
        ),
    ]
    extra = rng.uniform(size=(1, 1, height, width)).astype(np.float32)
    nodes.insert(
        0, helper.make_node('Constant', [], ['extra'], value=numpy_helper.from_array(extra))
    )
    path = save_graph(tmp_path / 'a.onnx', nodes, ['masks'], METADATA, opset=19)
    image = rng.uniform(size=(1, 3, height, width)).astype(np.float32)
    ((found),) = load_session(path, backend='openvino').run([image])
    x = np.concatenate([image, extra], 1)[0].astype(float)
    expected = deform_conv(x, weight, offset[0], bias, mask[0], stride, padding, dilation, groups)
    np.testing.assert_allclose(found['masks'][0], expected, atol=1e-5)


@pytest.fixture
def ir(model, tmp_path):
    """The hand-made model as IR."""
    import openvino

    path = str(tmp_path / 'model.xml')
    openvino.save_model(openvino_session.read_model(model), path)
    return path


def test_ir_has_the_results_and_metadata_of_its_onnx_file(ir, model):
    image = np.full((48, 64, 3), (204, 102, 0), np.uint8)
    (found,), (expected,) = (OnnxInferencer(path)(image) for path in (ir, model))
    assert OnnxInferencer(ir).metadata == OnnxInferencer(model).metadata == DESCRIPTION
    assert OnnxInferencer(ir).runtime.startswith('OpenVINO 20')
    np.testing.assert_allclose(found['scores'], [0.8, 0.4], rtol=1e-3)
    np.testing.assert_array_equal(found['bboxes'], expected['bboxes'])
    np.testing.assert_array_equal(found['keypoints'], expected['keypoints'])


def test_damaged_ir(ir, tmp_path):
    weights = tmp_path / 'model.bin'
    content = weights.read_bytes()
    for change in (weights.unlink, lambda: weights.write_bytes(content[:3])):
        change()
        with pytest.raises(OnnxError, match='model.xml: expected the complete weights.*model.bin'):
            OnnxInferencer(ir)
    (tmp_path / 'model.xml').write_text('<net')
    with pytest.raises(OnnxError, match='model.xml: expected an IR of OpenVINO, found 4 bytes'):
        OnnxInferencer(ir)
    (tmp_path / 'model.xml').write_text('<html/>')
    with pytest.raises(OnnxError, match='model.xml: expected an IR of OpenVINO, found 7 bytes'):
        OnnxInferencer(ir)
    with pytest.raises(FileNotFoundError, match='b.xml: there is no such IR of OpenVINO'):
        OnnxInferencer(tmp_path / 'b.xml')
    with pytest.raises(OnnxError, match='expected an ONNX file for onnxruntime'):
        OnnxInferencer(ir, backend='onnxruntime')


def test_ir_of_another_project(ir, tmp_path):
    text = (tmp_path / 'model.xml').read_text()
    (tmp_path / 'model.xml').write_text(text.replace('multitask_refine', 'yolo'))
    with pytest.raises(OnnxError, match='that this project exported .*found format=yolo'):
        OnnxInferencer(ir)


def test_bfloat16(model, tmp_path, monkeypatch):
    cpuinfo = tmp_path / 'cpuinfo'
    cpuinfo.write_text('model name\t: A Processor\nflags\t: avx2 avx512f\n')
    monkeypatch.setattr(processor, 'CPUINFO', cpuinfo)
    core = openvino_session._get_core()
    capabilities, asked = ['FP32', 'INT8'], []

    def compile_model(network, device, config):
        asked.append(config)
        return core.compile_model(network, device, config)

    stub = SimpleNamespace(
        get_property=lambda device, name: capabilities, compile_model=compile_model
    )
    monkeypatch.setattr(openvino_session, '_get_core', lambda: stub)
    with pytest.raises(
        OnnxError, match='bfloat16 instructions .*, found A Processor, AVX2, AVX-512. Use float32'
    ):
        OnnxInferencer(model, precision='bfloat16')
    capabilities.append('BF16')
    inferencer = OnnxInferencer(model, precision='bfloat16', threads=1)
    assert asked == [dict(INFERENCE_PRECISION_HINT='bf16', NUM_STREAMS=1, INFERENCE_NUM_THREADS=1)]
    assert inferencer.runtime.endswith(', bfloat16')


class _SignalStack(ctypes.Structure):
    _fields_ = [('start', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t)]


def test_sessions_share_the_signal_stack(model):
    """A session that replaced it would free it while another one still had it."""
    sessions, stacks = [], []
    for _ in range(2):
        sessions.append(load_session(model, backend='openvino'))
        stacks.append(_SignalStack())
        assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stacks[-1])) == 0
    assert stacks[0].start == stacks[1].start


def test_missing_or_old_openvino(model, monkeypatch):
    monkeypatch.setattr(openvino_session, 'openvino_version', lambda: '2025.2.0')
    with pytest.raises(OnnxError, match="OpenVINO 2026.0 or later, found 2025.2.0.*'openvino>=20"):
        OnnxInferencer(model, backend='openvino')
    monkeypatch.setitem(sys.modules, 'openvino.frontend', None)
    with pytest.raises(OnnxError, match="OpenVINO is needed.*pip install 'openvino>=2026.0'"):
        OnnxInferencer(model, backend='openvino')
    monkeypatch.undo()
    with pytest.raises(OnnxError, match='device: expected cpu or auto for .*, found cuda'):
        OnnxInferencer(model, 'cuda', backend='openvino')


def test_missing_operator(tmp_path):
    node = helper.make_node('Blub', ['image'], ['y'], domain='other')
    path = save_graph(tmp_path / 'a.onnx', [node], ['y'], METADATA)
    with pytest.raises(OnnxError, match='operators other.Blub, which OpenVINO .* lacks. Use the'):
        load_session(path, backend='openvino')
