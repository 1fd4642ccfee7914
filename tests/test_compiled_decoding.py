"""Decoding compiled for a CPU: products of one row become sums, all others stay, and the answers are the same."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.test_generation import CONVERSATIONS, alone, generate  # noqa: F401  # a fixture
from tests.tiny import encode
from unirs.compiled_decoding import compile_config, product_as_sum, products_as_sums


@pytest.fixture
def graphs(monkeypatch):
    """What Inductor would be given; it runs as it is, without half a minute of compiling."""
    seen = []
    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", lambda graph, _: seen.append(graph) or graph.forward)
    yield seen
    torch.compiler.reset()


def linears(graph) -> tuple[int, int]:
    """Products that became sums, and those that did not."""
    targets = [node.target for node in graph.graph.nodes]
    return targets.count(product_as_sum), targets.count(F.linear)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(40,), (1, 40), (1, 1, 40)])
def test_the_sum_is_the_product(shape, bias):
    generator = torch.Generator().manual_seed(0)
    row = torch.randn(shape, generator=generator)
    layer = nn.Linear(40, 7, bias=bias)
    assert torch.allclose(product_as_sum(row, layer.weight, layer.bias), layer(row), atol=1e-6)
    assert product_as_sum(row, layer.weight, layer.bias).shape == layer(row).shape


def test_half_precision_is_rounded_once():
    """Against the product in double precision: no further off than the nearest bfloat16, half a step of 2 ** -8."""
    generator = torch.Generator().manual_seed(0)
    row, weight = (torch.randn(shape, generator=generator).bfloat16() for shape in ((1, 2560), (300, 2560)))
    exact = row.double() @ weight.double().T
    assert ((product_as_sum(row, weight) - exact).abs() <= exact.abs() * 2**-8 + 1e-4).all()


def test_only_a_single_row_becomes_a_sum(graphs):
    layer = torch.compile(nn.Linear(8, 4), backend=products_as_sums, dynamic=False)
    for rows in (1, 3):
        layer(torch.randn(1, rows, 8))
    assert [linears(graph) for graph in graphs] == [(1, 0), (0, 1)]


def test_double_precision_stays_double(graphs):
    layer = nn.Linear(8, 4).double()
    row = torch.randn(1, 1, 8, dtype=torch.float64)
    assert torch.equal(torch.compile(layer, backend=products_as_sums, dynamic=False)(row), layer(row))
    assert linears(graphs[0]) == (0, 1)


def test_answers_are_those_of_plain_generation(model, processor, alone, graphs):  # noqa: F811
    for (conversation, options), expected in zip(CONVERSATIONS.values(), alone["greedy"], strict=True):
        inputs = encode(processor, conversation, **options)
        assert generate(model, inputs, cache_implementation="static", compile_config=compile_config()) == [expected]
    layers = sum(isinstance(module, nn.Linear) for module in model.model.language_model.modules())
    found = [linears(graph) for graph in graphs]
    assert sum(sums for sums, _ in found) >= layers > 0
    assert sum(others for _, others in found) == 0


def test_inductor_compiles_a_sum():
    layer = nn.Linear(64, 32).bfloat16()
    row = torch.randn(1, 1, 64).bfloat16()
    compiled = torch.compile(layer, backend=products_as_sums, dynamic=False)
    with torch.no_grad():
        assert torch.equal(compiled(row), product_as_sum(row, layer.weight, layer.bias))
