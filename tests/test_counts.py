"""Multiply-adds, parameters and memory against arithmetic done by hand, and what cannot be counted."""

from __future__ import annotations

import dense_space
import exported
import numpy as np
import pytest
import torch
import toy
from torch import Tensor, nn

from exporters.onnx import to_onnx
from profilers.counts import Counts, count
from profilers.fixed import with_classifier
from profilers.latency import edge_work
from toolkit.budget import Budget
from toolkit.costs import price
from toolkit.graph import Edge, Graph
from toolkit.layers import CausalConv, Expanded, Separable, WindowHead
from toolkit.spaces import find_space
from toolkit.supernet import SuperNetwork


@pytest.mark.parametrize(
    ("space", "labels"), [("resnet-fabric:blocks=1,width=4", 100), ("neural-fabric:task=segment,columns=2,size=8", 3)]
)
def test_the_classifier_that_is_billed_is_that_of_the_labels(space: str, labels: int) -> None:
    """A profile is of twelve; networks are of as many as the data have."""
    found = find_space(space)
    profile = dense_space.counted_profile(found)
    told = with_classifier(profile, found, labels).fixed
    head = found.build(labels).head
    assert told["stem"] == profile.fixed["stem"]
    assert (
        told["head"].parameters == sum(value.numel() for value in head.parameters()) != profile.fixed["head"].parameters
    )
    whole = [sum(weight.numel() for weight in found.build(count).parameters()) for count in (labels, 12)]
    asked = [
        price(found.build().graph, each, Budget.parse("1 params"))(found.build().graph.full)
        for each in (with_classifier(profile, found, labels), profile)
    ]
    assert asked[0] - asked[1] == whole[0] - whole[1]


@pytest.mark.parametrize("name", sorted(toy.MULTIPLY_ADDS))
def test_the_toy_by_hand(name: str) -> None:
    item = edge_work(toy.network(), toy.FEATURES)[name]
    found = count(item.module, item.input_shape)
    assert found.multiply_adds == toy.MULTIPLY_ADDS[name]
    assert found.uncounted == ()
    assert found.parameters == toy.PARAMETERS[name]
    assert found.weight_bytes == 4 * toy.PARAMETERS[name]
    assert found.state_bytes == toy.STATE_BYTES[name]
    assert found.activation_bytes == toy.ACTIVATION_BYTES[name]


@pytest.mark.parametrize(
    ("module", "shape", "multiply_adds"),
    [
        (CausalConv(1, 16, (3, 3), (2, 2)), (1, 1, 40, 20), 16 * 20 * 10 * 9),
        (CausalConv(1, 48, (9, 9), (8, 4), padding=4), (1, 1, 40, 20), 48 * 5 * 5 * 81),
        (CausalConv(48, 48, (5, 1), padding=0), (1, 48, 5, 5), 48 * 1 * 5 * 5 * 48),
        (Separable(16, 32, (3, 3), (2, 2)), (1, 16, 20, 10), 16 * 10 * 5 * 9 + 32 * 10 * 5 * 16),
        (Expanded(16, 24, (3, 3)), (1, 16, 20, 10), 200 * (16 * 24 + 24 * 9 + 24 * 16)),
        (WindowHead(5, 3, 4, 1), (1, 5, 1, 1), 5 * 4 + 5 * 3),
        (WindowHead(5, 3, 1, 1), (1, 5, 1, 1), 5 * 3),  # of one column there is no mean
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
    assert found == Counts(0, 0, 0, 0, 0, ())


@pytest.mark.parametrize(
    ("module", "shape", "multiply_adds", "parameters", "weights"),
    [
        (nn.Conv2d(2, 3, 3), (1, 2, 6, 6), 3 * 16 * 18, 3 * 18 + 3, 3 * 18 + 3),
        (nn.Linear(4, 5), (1, 4), 20, 25, 25),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (1, 3, 2, 2), 60, 65, 65),
        (nn.MaxPool2d(2), (1, 2, 4, 4), 0, 0, 0),
        (nn.AvgPool2d(3, 1), (1, 2, 4, 4), 8 * 9, 0, 0),  # windows overlap
        (nn.ReLU(), (1, 2, 4, 4), 0, 0, 0),
        (nn.Dropout(), (1, 2, 4, 4), 0, 0, 0),
        (nn.Flatten(), (1, 2, 4, 4), 0, 0, 0),
        (nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3)), (1, 2, 4, 4), 16 * 6, 9, 9),  # folded
        (nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)), (1, 2, 4, 4), 16 * 6 + 48, 9 + 6, 9 + 12),
        (nn.BatchNorm2d(2), (1, 2, 4, 4), 32, 4, 8),  # nothing to fold it into: the statistics are exported, too
        (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(2), nn.BatchNorm2d(2)), (1, 2, 4, 4), 64, 8, 16),
    ],
)
def test_modules_of_torch_by_hand(
    module: nn.Module, shape: tuple[int, ...], multiply_adds: int, parameters: int, weights: int
) -> None:
    found = count(module, shape)
    assert (found.multiply_adds, found.parameters, found.weight_bytes) == (multiply_adds, parameters, 4 * weights)
    assert found.uncounted == () and found.state_bytes == 0


class Residual(nn.Module):
    """A module of nobody's library."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.gain * torch.sigmoid(self.conv(inputs))


def test_a_custom_module_is_counted_and_what_of_it_is_not_is_named() -> None:
    found = count(Residual(), (1, 2, 4, 4))
    assert found.multiply_adds == 32 * 18 + 32 + 32  # the convolution, the gain, the sum
    assert found.parameters == 2 * 18 + 2 + 1
    assert (found.weight_bytes, found.activation_bytes) == (4 * 39, 4 * 32)
    assert found.uncounted == ("aten::sigmoid",)


def test_training_mode_and_statistics_survive() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    count(module, (1, 1, 4, 4))
    assert all(part.training for part in module.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("space", ["kws-ds", "kws-cnn"])
def test_every_edge_of_a_space_has_the_parameters_that_torch_counts(space: str) -> None:
    found = find_space(space)
    network = found.build()
    for item in edge_work(network, tuple(network.stem(torch.zeros(found.shape(200))).shape)).values():
        norms = [part for part in item.module.modules() if isinstance(part, nn.BatchNorm2d)]
        folded = sum(norm.num_features for norm in norms)  # gain and shift become the bias of the convolution
        counts = count(item.module, item.input_shape)
        assert counts.parameters == sum(value.numel() for value in item.module.parameters()) - folded
        assert counts.weight_bytes == 4 * counts.parameters
        assert counts.uncounted == ()
