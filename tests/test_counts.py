"""Multiply-adds, parameters and memory against arithmetic done by hand, and what cannot be counted."""

from __future__ import annotations

import exported
import numpy as np
import pytest
import torch
import toy
from torch import Tensor, nn

from exporters.onnx import to_onnx
from profilers.counts import count
from profilers.latency import edge_work
from toolkit.graph import Edge, Graph
from toolkit.layers import CausalConv, Expanded, Separable
from toolkit.supernet import SuperNetwork


@pytest.mark.parametrize("name", sorted(toy.MULTIPLY_ADDS))
def test_the_toy_by_hand(name: str) -> None:
    item = edge_work(toy.network(), toy.FEATURES)[name]
    found = count(item.module, item.input_shape)
    assert found.multiply_adds == toy.MULTIPLY_ADDS[name]
    assert found.uncounted == ()
    assert found.parameters == toy.PARAMETERS[name]
    assert found.memory_bytes == toy.MEMORY_BYTES[name]


@pytest.mark.parametrize(
    ("module", "shape", "multiply_adds"),
    [
        (CausalConv(1, 16, (3, 3), (2, 2)), (1, 1, 40, 20), 16 * 20 * 10 * 9),
        (CausalConv(1, 48, (9, 9), (8, 4), padding=4), (1, 1, 40, 20), 48 * 5 * 5 * 81),
        (CausalConv(48, 48, (5, 1), padding=0), (1, 48, 5, 5), 48 * 1 * 5 * 5 * 48),
        (Separable(16, 32, (3, 3), (2, 2)), (1, 16, 20, 10), 16 * 10 * 5 * 9 + 32 * 10 * 5 * 16),
        (Expanded(16, 24, (3, 3)), (1, 16, 20, 10), 200 * (16 * 24 + 24 * 9 + 24 * 16)),
    ],
)
def test_layers_by_hand(module: nn.Module, shape: tuple[int, ...], multiply_adds: int) -> None:
    found = count(module, shape)
    assert found.multiply_adds == multiply_adds and found.uncounted == ()


@pytest.mark.parametrize("module", [CausalConv(2, 3, (3, 3)), Separable(2, 4, (3, 3)), Expanded(4, 6, (3, 3))])
def test_parameters_are_those_of_the_exported_file(module: nn.Module) -> None:
    graph = Graph((Edge("only", "in", "out"),), "in", "out")
    network = SuperNetwork(graph, {"only": module}, nn.Identity(), nn.Identity())
    exported.randomise(network)
    channels = next(part.conv.in_channels for part in module.modules() if isinstance(part, CausalConv))
    model = to_onnx(network, (1, channels, 2, 4))
    assert count(module, (1, channels, 2, 4)).parameters == sum(
        int(np.prod(tensor.dims)) for tensor in model.graph.initializer
    )


class Sine(nn.Module):
    """Computes something that fvcore has no rule for."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.sin(inputs)


def test_what_cannot_be_counted_is_named() -> None:
    found = count(nn.Sequential(CausalConv(1, 1), Sine()), (1, 1, 2, 4))
    assert found.uncounted == ("aten::sin",)
    assert found.multiply_adds == 8


def test_counting_changes_no_weight_and_an_identity_is_free() -> None:
    module = CausalConv(1, 2, (3, 3))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    count(module, (1, 1, 4, 4))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    found = count(nn.Identity(), (1, 8, 4, 4))
    assert (found.multiply_adds, found.parameters, found.memory_bytes) == (0, 0, 0)
