"""Linear layers beside float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile

from multitask_refine.ops import InferenceLinear, WinogradConv2d, mkldnn_linear, prepack_linear

EVERY_PROCESSOR = pytest.mark.parametrize('processor', ['AVX2', 'AVX512'], indirect=True)


@pytest.fixture
def processor(monkeypatch, request):
    """Let PyTorch report this CPU capability."""
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: request.param)
    return request.param


@EVERY_PROCESSOR
@pytest.mark.parametrize(
    'rows, inner, columns', [(36, 36, 700), (129, 1000, 65), (1, 3, 1), (0, 3, 2), (2, 0, 3)]
)
@pytest.mark.parametrize('transpose_x', [False, True])
@pytest.mark.parametrize('transpose_weight', [False, True])
def test_values_in_every_layout(processor, rows, inner, columns, transpose_x, transpose_weight):
    torch.manual_seed(0)
    x, weight = torch.randn(rows, inner), torch.randn(columns, inner)
    expected = x.double() @ weight.double().T
    x = x.T.contiguous().T if transpose_x else x
    weight = weight.T.contiguous().T if transpose_weight else weight
    found = mkldnn_linear(x, weight)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6 * (inner + 1))


def test_values_of_slices_of_matrices():
    torch.manual_seed(2)
    x, weight = torch.randn(40, 60)[::2, 10:50], torch.randn(90, 70)[9:, 5:45]
    torch.testing.assert_close(
        mkldnn_linear(x, weight).double(), x.double() @ weight.double().T, rtol=0, atol=1e-5
    )


@EVERY_PROCESSOR
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('transpose', [False, True])
def test_prepacked_weight(processor, dtype, transpose):
    """With other numbers of rows than the expected one, too."""
    torch.manual_seed(3)
    weight = torch.randn(70, 300, dtype=dtype)
    weight = weight.T.contiguous().T if transpose else weight
    linear = prepack_linear(weight, 50)
    for rows in (50, 1, 333):
        x = torch.randn(rows, 300, dtype=dtype)
        found = linear(x)
        assert found.dtype == dtype
        torch.testing.assert_close(
            found.double(), x.double() @ weight.double().T, rtol=0, atol=1e-4
        )


@pytest.mark.parametrize(
    'processor, rows, by_onednn',
    [('AVX2', 36, True), ('AVX2', 1000, False), ('AVX512', 36, True), ('AVX512', 1000, True)],
    indirect=['processor'],
)
def test_faster_library_is_used(processor, rows, by_onednn):
    x, weight = torch.randn(rows, 50), torch.randn(20, 50)
    linear = prepack_linear(weight, rows)
    for call in (lambda: mkldnn_linear(x, weight), lambda: linear(x)):
        with profile(activities=[ProfilerActivity.CPU]) as found:
            call()
        names = {event.name for event in found.events()}
        assert ('mkldnn::_linear_pointwise' in names) == by_onednn


@EVERY_PROCESSOR
@pytest.mark.parametrize('rows', [200, 0])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('bias', [True, False])
def test_inference_linear(processor, rows, dtype, bias):
    torch.manual_seed(1)
    layer = nn.Linear(300, 90, bias, dtype=dtype)
    x = torch.randn(rows, 300, dtype=dtype)
    expected = nn.functional.linear(
        *(
            None if part is None else part.detach().double()
            for part in (x, layer.weight, layer.bias)
        )
    )
    layer.__class__ = InferenceLinear
    with torch.no_grad():
        found = layer(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


def test_other_types_and_autocast_use_pytorch():
    x, weight = torch.randn(5, 7), torch.randn(3, 7)
    assert torch.equal(
        mkldnn_linear(x.double(), weight.double()), F.linear(x.double(), weight.double())
    )
    with torch.autocast('cpu', torch.bfloat16):
        assert mkldnn_linear(x, weight).dtype == torch.bfloat16


def test_traced_graph_holds_the_standard_operator():
    inputs = torch.randn(5, 7), torch.randn(3, 7)
    graph = str(torch.jit.trace(mkldnn_linear, inputs).graph)
    assert 'aten::linear' in graph
    assert 'mkldnn::' not in graph


def test_compiled_graph_holds_the_standard_operators():
    """``fullgraph``: nothing in it is left to the interpreter."""
    graphs = []

    def record(graph, _):
        graphs.append(graph.code)
        return graph.forward

    layer = WinogradConv2d(128, 128, 3, padding=1)
    x = torch.randn(1, 128, 32, 32)
    with torch.no_grad():
        compiled = torch.compile(
            lambda x: mkldnn_linear(layer(x)[0, 0], x[0, 0]), backend=record, fullgraph=True
        )(x)
        expected = F.conv2d(x, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(compiled, expected[0, 0] @ x[0, 0].T)
    (code,) = graphs
    assert 'conv2d' in code and 'mkldnn' not in code
