"""`kws-cnn-cached`: the same scores as `kws-cnn` with the same weights, for the multiply-adds of its new columns."""

from __future__ import annotations

import exported
import numpy as np
import onnx
import pytest
import torch
from torch import nn

from exporters.onnx import state_shapes, to_onnx, with_properties
from profilers.counts import count
from profilers.latency import edge_work
from toolkit.errors import MilliwiseError
from toolkit.layers import CausalConv
from toolkit.spaces import find_space
from toolkit.supernet import SuperNetwork

PLAIN = frozenset({"conv0", "conv1", "lin0", "lin1"})


def networks(hop_ms: int) -> tuple[SuperNetwork, SuperNetwork]:
    """The windowed network, and the cached one with its weights: each BatchNorm adds the bias, and no more."""
    torch.manual_seed(2)
    windowed = find_space("kws-cnn").build(4, hop_ms).select(PLAIN).eval()
    cached = find_space("kws-cnn-cached").build(4, hop_ms).eval()
    for name in PLAIN:
        layer = next(module for module in windowed.operations[name].modules() if isinstance(module, nn.Conv2d))
        unit = next(module for module in cached.operations[name].modules() if isinstance(module, CausalConv))
        assert unit.norm.running_var is not None and layer.bias is not None
        with torch.no_grad():
            unit.conv.weight.copy_(layer.weight)
            unit.norm.bias.copy_(layer.bias)
            unit.norm.running_var.fill_(1 - unit.norm.eps)
    cached.head.load_state_dict(windowed.head.state_dict())
    return windowed, cached


@pytest.mark.parametrize("hop_ms", [50, 200, 730])
def test_once_its_maps_are_full_it_is_the_windowed_network(hop_ms: int) -> None:
    windowed, cached = networks(hop_ms)
    hop, full = 16 * hop_ms, -(-820 // hop_ms) - 1
    audio = torch.from_numpy(np.stack(list(exported.sounds(hop * (full + 5)))[1:3]))
    with torch.no_grad():
        expected, found = windowed(audio), cached(audio)
    assert np.ptp(expected[:, full:].numpy(), axis=1).max() > 1e-3, "a test of constant logits would show nothing"
    torch.testing.assert_close(found[:, full:], expected[:, full:], atol=1e-5, rtol=1e-5)
    assert (found[:, full - 1] - expected[:, full - 1]).abs().max() > 1e-4, "it is full no earlier"

    model = to_onnx(cached, (1, hop))
    onnx.checker.check_model(model, full_check=True)
    for clip, own in zip(audio.numpy(), expected, strict=True):
        scores = exported.scores(with_properties(model, {}), clip, hop)
        np.testing.assert_allclose(scores[full:], own[full:].softmax(-1).numpy(), atol=1e-5, rtol=0)
        np.testing.assert_allclose(scores, exported.expected_scores(cached, clip), atol=1e-5, rtol=0)


def test_it_remembers_columns_and_computes_those_of_the_hop() -> None:
    _windowed, cached = networks(200)
    shapes = {name: state["shape"] for name, state in state_shapes(to_onnx(cached, (1, 3200))).items()}
    kept = {"conv0.0": [1, 1, 40, 19], "conv1": [1, 64, 11, 9], "lin0": [1, 64, 8, 53]}
    assert shapes == {"audio": [1, 320], **kept}
    found = {
        name: count(item.module, item.input_shape).multiply_adds
        for name, item in edge_work(cached, (1, 1, 40, 20)).items()
    }
    dense = {"lin0": 37_376 * 32, "lin1": 32 * 128}
    assert found == {"conv0": 20 * 33 * 64 * 20 * 8, "conv1": 20 * 8 * 64 * 64 * 10 * 4, **dense}
    assert round(5 * sum(found.values()) / 1e6) == 171, "a second; 623 without the columns kept"


def test_all_of_it_learns_and_its_exported_form_has_the_batch_norms_folded_in() -> None:
    torch.manual_seed(1)
    network = find_space("kws-cnn-cached").build(3, 100)
    audio = 0.1 * torch.randn(2, 16 * 1500)
    network(audio).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
    exported.randomise(network)
    model = to_onnx(network, (1, 1600))
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)
    heard = exported.scores(with_properties(model, {}), audio[0].numpy(), 1600)
    np.testing.assert_allclose(heard, exported.expected_scores(network, audio[0].numpy()), atol=1e-4, rtol=0)


@pytest.mark.parametrize("hop_ms", [0, -20, 15, 740, 1000])
def test_a_hop_that_does_not_fit_is_refused_with_one_that_does(hop_ms: int) -> None:
    space = find_space("kws-cnn-cached")
    with pytest.raises(MilliwiseError, match=f"hop of {hop_ms} ms") as error:
        space.build(3, hop_ms)
    space.build(3, int(str(error.value).split()[-1]))
