"""`kws-cnn`: the published figures, the published network window by window, and the exported form hop by hop."""

from __future__ import annotations

import random
from itertools import combinations

import exported
import numpy as np
import onnx
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from exporters.onnx import state_shapes, to_onnx, with_properties
from profilers.counts import count
from profilers.latency import edge_work
from toolkit.costs import random_architecture
from toolkit.errors import MilliwiseError
from toolkit.graph import Architecture
from toolkit.layers import RecentColumns
from toolkit.spaces import find_space
from toolkit.supernet import SuperNetwork

WINDOW = (1, 1, 40, 101)
PLAIN = frozenset({"conv0", "conv1", "lin0", "lin1"})
SHORTCUTS = frozenset({"shortcut-mel", "shortcut-conv0", "shortcut-conv1", "shortcut-lin0"})
CLASSIFIER = 128 * 12
# Of the thesis (SANAS, chapter 4): each edge's map, inputs and outputs.
MULTIPLY_ADDS = {
    "conv0": 82 * 33 * 64 * 20 * 8,
    "conv1": 73 * 8 * 64 * 64 * 10 * 4,
    "lin0": 37_376 * 32,
    "lin1": 32 * 128,
    "shortcut-mel": 4_040 * 128,
    "shortcut-conv0": 57_728 * 128,
    "shortcut-conv1": 37_376 * 128,
    "shortcut-lin0": 32 * 128,
}


@pytest.fixture(scope="module")
def network() -> SuperNetwork:
    torch.manual_seed(0)
    return find_space("kws-cnn").build().eval()


def test_every_edge_multiplies_as_published(network: SuperNetwork) -> None:
    found = {name: count(item.module, item.input_shape) for name, item in edge_work(network, WINDOW).items()}
    assert {name: counts.multiply_adds for name, counts in found.items()} == MULTIPLY_ADDS
    values = sum(parameter.numel() for parameter in network.parameters())
    biases = 64 + 64 + 32 + 128 + 4 * 128 + 12
    kernels = 64 * 20 * 8 + 64 * 64 * 10 * 4
    assert values == kernels + sum(MULTIPLY_ADDS[name] for name in (SHORTCUTS | {"lin0", "lin1"})) + CLASSIFIER + biases
    assert values == 14_071_084


def test_the_published_totals() -> None:
    """In millions as printed; the sum of five values of 128 features is billed whole, however many edges are live."""
    addition = 128 * (5 - 1)

    def total(kept: Architecture) -> int:
        return sum(MULTIPLY_ADDS[name] for name in kept) + CLASSIFIER

    assert round(MULTIPLY_ADDS["conv0"] / 1e6, 2) == 27.71 and round(MULTIPLY_ADDS["conv1"] / 1e6, 2) == 95.68
    assert round(MULTIPLY_ADDS["lin0"] / 1e6, 3) == 1.196 and round(MULTIPLY_ADDS["lin1"] / 1e6, 4) == 0.0041
    assert round(CLASSIFIER / 1e6, 4) == 0.0015
    assert round(total(PLAIN) / 1e6, 3) == 124.594
    assert round((total(PLAIN | SHORTCUTS) + addition) / 1e6, 3) == 137.289
    assert total(frozenset({"shortcut-mel"})) + addition == 519_168


def test_how_many_networks_and_steps_there_are(network: SuperNetwork) -> None:
    graph = network.graph
    choices = [frozenset(some) for size in range(9) for some in combinations(sorted(graph.full), size)]
    assert graph.full == PLAIN | SHORTCUTS
    assert len({graph.live(kept) for kept in choices} - {frozenset()}) == 31
    assert [len(graph.schedule(graph.full, workers)) for workers in (1, 2, 4)] == [8, 4, 4]
    assert [len(graph.schedule(PLAIN, workers)) for workers in (1, 2, 4)] == [4, 4, 4]


def published(network: SuperNetwork, window: Tensor, kept: Architecture) -> Tensor:
    """Logits [labels] of one window [time 101, frequency 40] as published: time first, dense layers linear."""

    def convolve(name: str, inputs: Tensor) -> Tensor:
        layer = network.operations[name][0]
        return functional.conv2d(inputs, layer.weight.transpose(2, 3), layer.bias)

    def linear(name: str, inputs: Tensor) -> Tensor:
        layer = network.operations[name][0]
        return functional.linear(inputs.flatten(), layer.weight.transpose(2, 3).flatten(1), layer.bias).relu()

    maps = {"mel": window[None, None]}
    maps["conv0"] = functional.max_pool2d(convolve("conv0", maps["mel"]), (1, 3)).relu()
    maps["conv1"] = convolve("conv1", maps["conv0"]).relu()
    maps["lin0"] = linear("lin0", maps["conv1"])
    assert [tuple(each.shape[1:]) for each in maps.values()][1:3] == [(64, 82, 11), (64, 73, 8)]
    into = [linear(f"shortcut-{node}", value) for node, value in maps.items() if f"shortcut-{node}" in kept]
    into += [linear("lin1", maps["lin0"])] if "lin1" in kept else []
    logits: Tensor = network.head.linear(torch.stack(into).sum(0).relu())
    return logits


@pytest.mark.parametrize("kept", [PLAIN | SHORTCUTS, PLAIN, frozenset({"shortcut-mel"}), PLAIN | {"shortcut-conv0"}])
def test_every_hop_is_the_published_network_on_its_window(network: SuperNetwork, kept: Architecture) -> None:
    audio = torch.from_numpy(np.stack(list(exported.sounds(7 * 3200))[1:3]))
    with torch.no_grad():
        logits = network(audio, kept)
        features = network.stem[0](audio)  # [clips, 1, mels, columns]
        assert logits.shape == (2, 7, 12) and features.shape == (2, 1, 40, 140)
        heard = functional.pad(features, (101, 0))[:, 0].transpose(1, 2)
        for clip in range(2):
            for hop in range(7):
                end = 101 + 20 * (hop + 1)
                expected = published(network, heard[clip, end - 101 : end], kept)
                torch.testing.assert_close(logits[clip, hop], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("hop_ms", [10, 70, 1000])
def test_any_hop_runs_and_all_live_edges_learn(hop_ms: int) -> None:
    space = find_space("kws-cnn")
    torch.manual_seed(1)
    network = space.build(3, hop_ms)
    audio = 0.1 * torch.randn(2, 2 * 16 * hop_ms)
    kept = random_architecture(network.graph, random.Random(hop_ms), 0.6)
    network(audio, kept).square().sum().backward()
    for name, operation in network.operations.items():
        reached = [parameter.grad is not None and bool(parameter.grad.any()) for parameter in operation.parameters()]
        assert reached == [name in kept] * len(reached)
    torch.manual_seed(1)
    again = space.build(3, hop_ms)
    assert torch.equal(network(audio, kept), again(audio, kept)), "nothing is random, in training either"
    assert network(audio, kept).shape == (2, 2, 3)


@pytest.mark.parametrize("hop_ms", [0, -20, 15, 1010, 2000])
def test_a_hop_that_does_not_fit_is_refused_with_one_that_does(hop_ms: int) -> None:
    space = find_space("kws-cnn")
    with pytest.raises(MilliwiseError, match=f"hop of {hop_ms} ms") as error:
        space.build(3, hop_ms)
    space.build(3, int(str(error.value).split()[-1]))


@pytest.mark.parametrize(
    ("hop_ms", "kept"),
    [
        (200, PLAIN | {"shortcut-lin0"}),
        (20, {"shortcut-mel"}),
        (1000, {"conv0", "conv1", "shortcut-conv1", "shortcut-mel"}),
    ],
)
def test_the_exported_listener_hears_the_same_hop_by_hop(hop_ms: int, kept: set[str]) -> None:
    torch.manual_seed(2)
    network = find_space("kws-cnn").build(4, hop_ms).eval().select(kept)
    model = to_onnx(network, (1, 16 * hop_ms))
    onnx.checker.check_model(model, full_check=True)
    columns = 101 - hop_ms // 10
    shapes = {name: state["shape"] for name, state in state_shapes(model).items()}
    assert shapes == {"audio": [1, 320], "columns": [1, 1, 40, columns]}
    content = with_properties(model, {})
    for audio in list(exported.sounds(16 * hop_ms * 8))[1:3]:
        expected = exported.expected_scores(network, audio)
        assert np.ptp(expected, axis=0).max() > 1e-3, "a test of constant scores would show nothing"
        np.testing.assert_allclose(exported.scores(content, audio, 16 * hop_ms), expected, atol=1e-4, rtol=0)


def test_another_hop_than_it_was_made_for_is_not_exported() -> None:
    network = find_space("kws-cnn").build(3, 200).eval().select({"shortcut-mel"})
    with pytest.raises(MilliwiseError, match="hop of 10 columns does not fit"):
        to_onnx(network, (1, 1600))


def test_recent_columns_begin_with_zeros_and_end_with_the_hop() -> None:
    inputs = torch.arange(1.0, 7.0).reshape(1, 1, 1, 6)
    assert RecentColumns(5, 3)(inputs).flatten().tolist() == [0, 0, 1, 2, 3, 4, 5, 6]
    assert torch.equal(RecentColumns(4, 4)(inputs), inputs)
    for hop in (0, 6):
        with pytest.raises(ValueError, match="does not fit a window of 5"):
            RecentColumns(5, hop)
