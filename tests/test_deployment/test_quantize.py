"""Quantized files: a layer computed by hand, and errors."""

import hashlib
import json
import sys

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper, load, numpy_helper, save

from multitask_refine.deployment.quantize import KINDS, QuantizationError, quantize
from multitask_runtime.onnx.onnx_model import OnnxModel, ResizedImage
from tests.test_runtime.onnx_files import DESCRIPTION, NEEDS_OPENVINO, make_file
from tools.deployment import quantize_onnx

pytestmark = pytest.mark.slow

# More exact than float16 has it at this size: 512.1 becomes 512.
BOX = [[0.3, 512.1, 700.2, 900.7]]
WEIGHTS = np.linspace(-1, 1, 64 * 3, dtype=np.float32).reshape(64, 3, 1, 1)


@pytest.fixture
def layer(tmp_path):
    """A convolution whose mean is the score of a constant box."""
    path = tmp_path / 'layer.onnx'
    nodes = [
        helper.make_node('Identity', ['image'], ['pixels'], '/Identity'),
        helper.make_node('Conv', ['pixels', 'weights'], ['features'], '/backbone/conv1/Conv'),
        helper.make_node('Relu', ['features'], ['relu'], '/backbone/relu/Relu'),
        helper.make_node(
            'ReduceMean', ['relu'], ['scores'], '/ReduceMean', axes=[1, 2, 3], keepdims=0
        ),
        helper.make_node('Identity', ['box'], ['boxes'], '/Identity_1'),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (('image', [1, 3, 'H', 'W']), ('boxes', [1, 4]), ('scores', [1]))
    ]
    graph = helper.make_graph(
        nodes,
        'layer',
        ends[:1],
        ends[1:],
        [
            numpy_helper.from_array(WEIGHTS, 'weights'),
            numpy_helper.from_array(np.float32(BOX), 'box'),
        ],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid('', 17)])
    helper.set_model_props(
        model,
        dict(format='multitask_refine', format_version='2', description=json.dumps(DESCRIPTION)),
    )
    save(model, path)
    return path


@pytest.fixture
def image_folder(tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    for name, value in (('a', 255), ('b', 0)):
        cv2.imwrite(str(folder / f'{name}.png'), np.full((48, 64, 3), value, np.uint8))
    return folder


@pytest.mark.parametrize('kind', KINDS)
def test_layer_by_hand(layer, image_folder, tmp_path, kind):
    out = tmp_path / 'new/out.onnx'
    quantize(layer, out, kind, image_folder if 'static' in kind else None)
    assert [path.name for path in out.parent.iterdir()] == ['out.onnx']
    model = OnnxModel(out)
    image = np.random.default_rng(0).integers(0, 256, (3, 8, 8))
    (instances,) = model([ResizedImage(image, (1, 1), (8, 8))])
    # The product by hand; nothing around the layer is rounded.
    exact = np.tensordot(WEIGHTS[..., 0, 0], image, 1).clip(0).mean()
    assert instances['scores'] == pytest.approx(exact, rel=0.02)
    assert instances['scores'] != pytest.approx(exact, rel=1e-7)
    np.testing.assert_array_equal(instances['bboxes'], np.float32(BOX))
    (weights,) = (
        value
        for value in load(out).graph.initializer
        if numpy_helper.to_array(value).size == WEIGHTS.size
    )
    assert (
        weights.data_type
        == {
            'float16': TensorProto.FLOAT16,
            'int8-dynamic': TensorProto.UINT8,
            'int8-static': TensorProto.INT8,
        }[kind]
    )
    if kind == 'int8-static':  # two products of these fit into 16 bits
        assert np.abs(numpy_helper.to_array(weights)).max() <= 64
    assert model.metadata == dict(
        DESCRIPTION,
        quantization=kind,
        source_sha256=hashlib.sha256(layer.read_bytes()).hexdigest(),
    )


@NEEDS_OPENVINO
@pytest.mark.parametrize('kind', ['float16', 'int8-static'])
def test_ir_by_hand(layer, image_folder, tmp_path, kind):
    if kind == 'int8-static':
        pytest.importorskip('nncf')
        # NNCF takes the mean over images of their largest value as the range.
        cv2.imwrite(str(image_folder / 'b.png'), np.full((48, 64, 3), 255, np.uint8))
    out = tmp_path / 'new/out.xml'
    images = ['--images', str(image_folder)] if 'static' in kind else []
    assert quantize_onnx.main([str(layer), str(out), '--to', kind, *images]) == 0
    assert sorted(path.name for path in out.parent.iterdir()) == ['out.bin', 'out.xml']
    model = OnnxModel(out)
    image = np.random.default_rng(0).integers(0, 256, (3, 8, 8))
    (instances,) = model([ResizedImage(image, (1, 1), (8, 8))])
    exact = np.tensordot(WEIGHTS[..., 0, 0], image, 1).clip(0).mean()
    assert instances['scores'] == pytest.approx(exact, rel=0.02)
    assert instances['scores'] != pytest.approx(exact, rel=1e-7)
    # float16 is of all weights of the file, so of the constant box, too.
    np.testing.assert_allclose(
        instances['bboxes'], np.float32(BOX), rtol=1e-3 if kind == 'float16' else 0
    )
    assert model.metadata == dict(
        DESCRIPTION,
        quantization=kind,
        source_sha256=hashlib.sha256(layer.read_bytes()).hexdigest(),
    )


@pytest.mark.parametrize(
    'out, kind, images, match',
    [
        ('out.xml', 'int8-dynamic', None, 'ends in .onnx for int8-dynamic'),
        ('out.xml', 'int8-static', None, 'a folder of images.*found none'),
        ('layer.onnx', 'float16', None, 'another file than the one that is read'),
        ('out.pth', 'float16', None, 'out.pth: expected a file that ends in .onn'),
        ('out.onnx', 'float16', 'images', 'expected none for float16'),
        ('out.onnx', 'int8-static', None, 'a folder of images.*found none'),
        ('out.onnx', 'int8-static', 'nowhere', 'a folder of images.*nowhere'),
        ('out.onnx', 'int8-static', 'empty', 'empty: expected images'),
    ],
)
def test_wrong_arguments(layer, image_folder, tmp_path, out, kind, images, match):
    (tmp_path / 'empty').mkdir()
    before = layer.read_bytes()
    with pytest.raises(QuantizationError, match=match):
        quantize(layer, tmp_path / out, kind, images and tmp_path / images)
    assert layer.read_bytes() == before
    assert not list(tmp_path.glob('out*'))


def test_wrong_files(layer, tmp_path, monkeypatch):
    out = tmp_path / 'out.onnx'
    with pytest.raises(SystemExit, match='nowhere.onnx: there is no such'):
        quantize_onnx.main(['nowhere.onnx', str(out), '--to', 'float16'])
    foreign = make_file(tmp_path / 'foreign.onnx', metadata={})
    with pytest.raises(SystemExit, match='that this project exported'):
        quantize_onnx.main([foreign, str(out), '--to', 'float16'])
    again = make_file(tmp_path / 'again.onnx', quantisation='float16')
    with pytest.raises(QuantizationError, match='float32.*found float16'):
        quantize(again, out, 'int8-dynamic')
    monkeypatch.setitem(sys.modules, 'onnxruntime.quantization', None)
    with pytest.raises(QuantizationError, match='pip install onnx onnxrunti'):
        quantize(layer, out, 'int8-dynamic')
    assert not out.exists()
    monkeypatch.setitem(sys.modules, 'openvino', None)
    with pytest.raises(QuantizationError, match="pip install 'openvino>=2026"):
        quantize(layer, tmp_path / 'out.xml', 'float16')
    (tmp_path / 'a.xml').write_text('<net/>')
    with pytest.raises(QuantizationError, match='a.xml: expected the ONNX file .*found an IR'):
        quantize(tmp_path / 'a.xml', out, 'float16')


def test_images_without_people(layer, image_folder, tmp_path):
    model = load(layer)
    values = [numpy_helper.from_array(np.zeros(1, np.int64), 'zero')]
    model.graph.initializer.extend(values)
    model.graph.node[3].output[0] = 'mean'
    model.graph.node.append(
        helper.make_node('Slice', ['mean', 'zero', 'zero'], ['scores'], '/Slice')
    )
    model.graph.output[1].type.tensor_type.shape.dim[0].dim_value = 0
    save(model, layer)
    with pytest.raises(
        QuantizationError, match='images: expected images with people .* found none'
    ):
        quantize(layer, tmp_path / 'out.onnx', 'int8-static', image_folder)


def test_tool_prints_the_file_sizes(layer, tmp_path, capsys):
    out = tmp_path / 'out.onnx'
    assert quantize_onnx.main([str(layer), str(out), '--to', 'float16']) == 0
    said = capsys.readouterr().out
    assert f'{out.stat().st_size} bytes' in said
    assert f'before: {layer.stat().st_size}' in said
