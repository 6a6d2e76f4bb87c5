"""Products of matrices beside float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile

from multitask_refine.ops import InferenceLinear, WinogradConv2d, multiply, prepack_linear

EVERY_PROCESSOR = pytest.mark.parametrize('processor', ['AVX2', 'AVX512'], indirect=True)


@pytest.fixture
def processor(monkeypatch, request):
    """As if this machine had it, as far as the choice of a library goes."""
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: request.param)
    return request.param


@EVERY_PROCESSOR
@pytest.mark.parametrize(
    'rows, inner, columns', [(36, 36, 700), (129, 1000, 65), (1, 3, 1), (0, 3, 2), (2, 0, 3)]
)
@pytest.mark.parametrize('turn_one', [False, True])
@pytest.mark.parametrize('turn_other', [False, True])
def test_values_in_every_layout(processor, rows, inner, columns, turn_one, turn_other):
    torch.manual_seed(0)
    one, other = torch.randn(rows, inner), torch.randn(inner, columns)
    expected = one.double() @ other.double()
    one = one.T.contiguous().T if turn_one else one
    other = other.T.contiguous().T if turn_other else other
    found = multiply(one, other)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6 * (inner + 1))


def test_values_of_parts_of_matrices():
    torch.manual_seed(2)
    one, other = torch.randn(40, 60)[::2, 10:50], torch.randn(70, 90)[5:45, 9:]
    torch.testing.assert_close(
        multiply(one, other).double(), one.double() @ other.double(), rtol=0, atol=1e-5
    )


@EVERY_PROCESSOR
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('turned', [False, True])
def test_one_matrix_in_many_products(processor, dtype, turned):
    """Also of other numbers of rows than was said."""
    torch.manual_seed(3)
    other = torch.randn(300, 70, dtype=dtype)
    other = other.T.contiguous().T if turned else other
    product = prepack_linear(other, 50)
    for rows in (50, 1, 333):
        one = torch.randn(rows, 300, dtype=dtype)
        found = product(one)
        assert found.dtype == dtype
        torch.testing.assert_close(
            found.double(), one.double() @ other.double(), rtol=0, atol=1e-4
        )


@pytest.mark.parametrize(
    'processor, rows, by_onednn',
    [('AVX2', 36, True), ('AVX2', 1000, False), ('AVX512', 36, True), ('AVX512', 1000, True)],
    indirect=['processor'],
)
def test_the_library_that_is_faster(processor, rows, by_onednn):
    one, other = torch.randn(rows, 50), torch.randn(50, 20)
    product = prepack_linear(other, rows)
    for call in (lambda: multiply(one, other), lambda: product(one)):
        with profile(activities=[ProfilerActivity.CPU]) as found:
            call()
        names = {event.name for event in found.events()}
        assert ('mkldnn::_linear_pointwise' in names) == by_onednn


@EVERY_PROCESSOR
@pytest.mark.parametrize('rows', [200, 0])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('bias', [True, False])
def test_linear_layer_that_predicts(processor, rows, dtype, bias):
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


def test_other_types_and_autocast_are_torch_s_own():
    one, other = torch.randn(5, 7), torch.randn(7, 3)
    assert torch.equal(multiply(one.double(), other.double()), one.double() @ other.double())
    with torch.autocast('cpu', torch.bfloat16):
        assert multiply(one, other).dtype == torch.bfloat16


def test_a_recorded_graph_holds_the_usual_operator():
    inputs = torch.randn(5, 7), torch.randn(7, 3)
    graph = str(torch.jit.trace(multiply, inputs).graph)
    assert 'aten::matmul' in graph
    assert 'mkldnn' not in graph


def test_a_compiled_graph_holds_the_usual_operators():
    """``fullgraph``: nothing in it is left to the interpreter."""
    graphs = []

    def note(graph, _):
        graphs.append(graph.code)
        return graph.forward

    layer = WinogradConv2d(128, 128, 3, padding=1)
    x = torch.randn(1, 128, 32, 32)
    with torch.no_grad():
        compiled = torch.compile(
            lambda x: multiply(layer(x)[0, 0], x[0, 0]), backend=note, fullgraph=True
        )(x)
        usual = F.conv2d(x, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(compiled, usual[0, 0] @ x[0, 0])
    (code,) = graphs
    assert 'conv2d' in code and 'mkldnn' not in code
